//! Requests to the hub: which requests carry the token, which redirects are followed, and what an
//! error status means.
//!
//! The `hf-hub` crate's client sends the token to any host that a redirect names (hf-hub 0.5,
//! `Api::metadata`), so redirects are followed here. Their addresses are resolved by hand: the `url`
//! crate brings the Unicode tables of host names, which no host of the hub needs.

use super::settings::Hub;
use super::stoppable;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

const MAX_REDIRECTS: usize = 8;

/// The response of the server, with any status.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Answer {
    /// The value of a header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn size(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    /// The offset of the first byte of a partial response.
    pub fn range_start(&self) -> Option<u64> {
        let text = self.header(CONTENT_RANGE.as_str())?;
        text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
    }
}

/// The server did not respond: no network, an unknown host, a broken connection, or a requested stop.
#[derive(Debug)]
pub struct Unreachable(pub String);

pub struct Client {
    agent: Agent,
    hub: Hub,
    endpoint: Uri,
}

impl Client {
    pub fn new(hub: &Hub) -> Result<Client> {
        let endpoint = hub
            .endpoint
            .parse()
            .map_err(|error| Error::input(format!("HF_ENDPOINT: `{}` is not a URL: {error}", hub.endpoint)))?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Sizes and ranges must count bytes of the file, not of a compressed form of it.
            .accept_encoding("identity")
            .user_agent(concat!("lorhai/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(hub.timeout.min(Duration::from_secs(10))))
            .timeout_recv_response(Some(hub.timeout))
            .timeout_per_read(Some(hub.timeout));
        if let Some(path) = &hub.certificates {
            config = config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build());
        }
        Ok(Client { agent: config.build().into(), hub: hub.clone(), endpoint })
    }

    /// Requests the headers of a file. Follows redirects on the hub itself (a renamed repository), but
    /// not those to the content on another host, because only the hub's headers describe the file.
    pub fn head(&self, address: &str) -> Result<Answer, Unreachable> {
        self.follow(address, None, true)
    }

    /// Fetches the content from byte `start` on. Follows all redirects.
    pub fn get(&self, address: &str, start: u64) -> Result<Answer, Unreachable> {
        self.follow(address, Some(start), false)
    }

    fn follow(&self, address: &str, start: Option<u64>, stay: bool) -> Result<Answer, Unreachable> {
        let mut uri: Uri =
            address.parse().map_err(|error| Unreachable(format!("`{address}` is not a URL: {error}")))?;
        for _ in 0..MAX_REDIRECTS {
            let answer = self.once(&uri, start)?;
            let target = answer.header(LOCATION.as_str()).filter(|_| answer.status.is_redirection());
            let Some(target) = target else { return Ok(answer) };
            let next = joined(&uri, target)?;
            if stay && origin(&next) != origin(&uri) {
                return Ok(answer);
            }
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(Unreachable(format!("{} redirects to an unencrypted URL", host(&uri))));
            }
            uri = next;
        }
        Err(Unreachable(format!("{} redirects too often", host(&uri))))
    }

    fn once(&self, uri: &Uri, start: Option<u64>) -> Result<Answer, Unreachable> {
        let mut request = match start {
            Some(_) => self.agent.get(uri.clone()),
            None => self.agent.head(uri.clone()),
        };
        if let Some(start) = start.filter(|start| *start > 0) {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        if let Some(token) = self.hub.token.as_ref().filter(|_| self.may_see_token(uri)) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        // The URL of a redirect is signed, so a message shows its host alone.
        let failed = |why: String| Unreachable(format!("{}: {why}", host(uri)));
        let response: Response<Body> = stoppable::call(move || request.call())
            .map_err(|stopped| failed(stopped.message))?
            .map_err(|error| failed(error.to_string()))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The token goes to the hub's own host and port only, and unencrypted to this machine only.
    fn may_see_token(&self, uri: &Uri) -> bool {
        let local = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        origin(uri) == origin(&self.endpoint) && (uri.scheme_str() == Some("https") || local)
    }

    /// The error for a response that refuses `what` ("the model `a/b`").
    pub fn refusal(&self, answer: &Answer, description: &str, repo: &str) -> Error {
        let status = answer.status.as_u16();
        let endpoint = &self.hub.endpoint;
        let failed = |text: String| Error::new(Kind::Hub, text);
        let token = match self.hub.token {
            Some(_) => "check that the token of HF_TOKEN or the login file, which was sent, belongs to an account that may read it",
            None => "set HF_TOKEN to a token of an account that may read it",
        };
        match (status, answer.header("x-error-code").unwrap_or_default()) {
            (401 | 403, "GatedRepo") | (403, _) => {
                failed(format!("{description} is gated: {endpoint} refuses access ({status})"))
                    .with_hint(format!("accept its licence at {endpoint}/{repo}, then {token}"))
            }
            (401, _) => failed(format!("{description} does not exist on {endpoint}, or is private or gated (401)"))
                .with_hint(format!("check the spelling; if it is private or gated, {token}")),
            (404, "RevisionNotFound") => failed(format!("{description}: {endpoint} has no such revision (404)"))
                .with_hint("check what follows `@`: a branch, tag or commit"),
            (404, _) => {
                failed(format!("{description} does not exist on {endpoint} (404)")).with_hint("check the spelling")
            }
            (429, _) => failed(format!("{endpoint} refuses more requests for now (429)"))
                .with_hint("wait a minute and run again; with HF_TOKEN set the limit is higher"),
            (500.., _) => failed(format!("{endpoint} failed ({status}) and did not send {description}"))
                .with_hint("run again later: files already fetched are kept"),
            _ => failed(format!("{endpoint} responds with status {status} to the request for {description}")),
        }
    }

    /// The error if the hub cannot be reached, with what could help.
    pub fn unreachable(&self, Unreachable(why): Unreachable, description: &str) -> Error {
        if interrupt::requested() {
            return interrupt::stopped();
        }
        Error::new(
            Kind::Hub,
            format!("cannot fetch {description}: the hub cannot be reached ({})", without_os_code(&why)),
        )
        .with_hint(format!(
            "check the network, HTTPS_PROXY and HF_ENDPOINT ({}); or copy the files into a folder and give its path; \
             the cache is {} (HF_HOME, HF_HUB_CACHE)",
            self.hub.endpoint,
            self.hub.cache.display()
        ))
    }
}

/// The reason without the numbers that only programs need.
fn without_os_code(why: &str) -> String {
    why.replace(": io: ", ": ").split(" (os error").next().unwrap_or(why).to_string()
}

/// Resolves a redirect target against the URL that redirects to it.
fn joined(from: &Uri, target: &str) -> Result<Uri, Unreachable> {
    let wrong = || Unreachable(format!("{} redirects to something that is not a URL", host(from)));
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let text = match target {
        _ if target.starts_with("http://") || target.starts_with("https://") => target.to_string(),
        _ if target.starts_with("//") => format!("{scheme}:{target}"),
        _ if target.starts_with('/') => format!("{scheme}://{authority}{target}"),
        _ => format!("{scheme}://{authority}{folder}/{target}"),
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) {
        Ok(uri)
    } else {
        Err(wrong())
    }
}

/// Scheme, host and port: the token is sent only if all three are equal.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().or(Some(default_port)))
}

fn host(uri: &Uri) -> &str {
    uri.authority().map_or("the hub", |authority| authority.as_str())
}

fn certificates(path: &std::path::Path) -> Result<RootCerts> {
    let wrong = |description: String| Error::input(format!("SSL_CERT_FILE: `{}` {description}", path.display()));
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&crate::files::read(path)?) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(format!("is not PEM: {error}")))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        Err(wrong("holds no certificate".into()))
    } else {
        Ok(RootCerts::new_with_certs(&certificates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_targets_are_resolved() {
        let from: Uri = "https://hub.example/a/b/resolve/main/x".parse().unwrap();
        let to = |target| joined(&from, target).map(|uri| uri.to_string()).map_err(|Unreachable(why)| why);
        assert_eq!(to("/c/d").unwrap(), "https://hub.example/c/d");
        assert_eq!(to("y?z=1").unwrap(), "https://hub.example/a/b/resolve/main/y?z=1");
        assert_eq!(to("//cdn.example/q").unwrap(), "https://cdn.example/q");
        assert_eq!(to("http://cdn.example:8/q").unwrap(), "http://cdn.example:8/q");
        assert!(to("https://hub.example@evil.example/").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |left: &str, right: &str| origin(&left.parse().unwrap()) == origin(&right.parse().unwrap());
        assert!(same("https://A.b/x", "https://a.b:443/y"));
        assert!(!same("https://a.b", "http://a.b"));
        assert!(!same("https://a.b", "https://a.b:8443"));
        assert!(!same("https://a.b", "https://a.b.evil"));
    }
}
