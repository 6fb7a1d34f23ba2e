//! The address of the hub, its cache folder and the token, from the environment variables that
//! `huggingface_hub` reads.

use crate::error::{Error, Kind, Result};
use crate::sandbox;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A token. It appears in no message: there is no `Display`, and `Debug` prints dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Trims the white space around the token.
    ///
    /// # Errors
    /// `Kind::Input` if it holds characters that no request header can carry.
    pub fn new(text: &str) -> Result<Secret> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(Error::input("the hub token is empty or holds spaces or control characters")
                .with_hint("set HF_TOKEN to the token alone, as in hf_…"))
        } else {
            Ok(Secret(text.to_string()))
        }
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// How to reach the hub.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Without a trailing slash.
    pub endpoint: String,
    /// The folder with `models--…` and `datasets--…`.
    pub cache: PathBuf,
    pub token: Option<Secret>,
    /// Uses the cache alone.
    pub offline: bool,
    /// How often an interrupted download is resumed without progress in between.
    pub retries: u32,
    /// The pause before the first retry; it doubles each time.
    pub pause: Duration,
    /// How long the server may be silent.
    pub timeout: Duration,
    /// A file of root certificates (PEM) that replaces the built-in ones.
    pub certificates: Option<PathBuf>,
}

impl Hub {
    /// Reads HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE,
    /// TRANSFORMERS_OFFLINE, SSL_CERT_FILE and the variables that these fall back to.
    pub fn from_env() -> Result<Hub> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Hub::from_env`], over any source of variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Hub> {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let user_home = value("HOME").map(PathBuf::from);
        let path = |name: &str| value(name).map(|value| expand(&value, user_home.as_deref()));
        let caches = path("XDG_CACHE_HOME").or_else(|| user_home.as_ref().map(|home| home.join(".cache")));
        let home = path("HF_HOME").or_else(|| caches.map(|caches| caches.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| home.as_ref().map(|home| home.join("hub")));
        let Some(cache) = cache else {
            return Err(Error::input("no folder for the hub cache: HOME is not set")
                .with_hint("set HF_HOME to a folder that can be written"));
        };
        let token_file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        Ok(Hub {
            endpoint: endpoint(value("HF_ENDPOINT"))?,
            cache,
            token: if sandbox::is_on() { None } else { token(value("HF_TOKEN"), token_file)? },
            offline: switch("HF_HUB_OFFLINE", value)? || switch("TRANSFORMERS_OFFLINE", value)?,
            retries: 5,
            pause: Duration::from_secs(1),
            timeout: Duration::from_secs(20),
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
        })
    }
}

/// Replaces a leading `~/` by the home folder.
fn expand(value: &str, user_home: Option<&Path>) -> PathBuf {
    match (value.strip_prefix("~/"), user_home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(value),
    }
}

fn endpoint(value: Option<String>) -> Result<String> {
    let value = value.unwrap_or_else(|| DEFAULT_ENDPOINT.to_string());
    let value = value.trim().trim_end_matches('/');
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#', ' '])) {
        Ok(value.to_string())
    } else {
        Err(Error::input("HF_ENDPOINT: expected a URL as in https://huggingface.co, found something else")
            .with_hint("write the scheme and the host, without a user name or query"))
    }
}

/// HF_TOKEN, else the file that `hf auth login` writes.
fn token(value: Option<String>, file: Option<PathBuf>) -> Result<Option<Secret>> {
    let text = match (value, file) {
        (Some(value), _) => value,
        (None, Some(file)) if file.is_file() => crate::files::read_text(&file)?,
        _ => return Ok(None),
    };
    if text.trim().is_empty() {
        Ok(None)
    } else {
        Secret::new(&text).map(Some)
    }
}

fn switch(name: &str, value: impl Fn(&str) -> Option<String>) -> Result<bool> {
    match value(name).map(|value| value.trim().to_ascii_uppercase()).as_deref() {
        Some("1" | "TRUE" | "YES" | "ON") => Ok(true),
        None | Some("0" | "FALSE" | "NO" | "OFF") => Ok(false),
        Some(other) => Err(Error::new(Kind::Input, format!("{name}: expected 1 or 0, found {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(pairs: &[(&str, &str)]) -> Result<Hub> {
        Hub::from_variables(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn folders_are_those_of_huggingface_hub() {
        let cache = |pairs| hub(pairs).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "~/hf")]), Path::new("/u/hf/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert!(hub(&[]).is_err());
    }

    #[test]
    fn a_token_comes_from_the_variable_or_the_file_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            let pairs: Vec<_> = [&[("HF_HOME", home)], more].concat();
            hub(&pairs).unwrap().token.unwrap().expose().to_string()
        };
        assert_eq!(token(&[]), "hf_file");
        assert_eq!(token(&[("HF_TOKEN", " hf_variable ")]), "hf_variable");
        assert!(!format!("{:?}", hub(&[("HF_HOME", home)])).contains("hf_file"));
        let error = hub(&[("HF_HOME", home), ("HF_TOKEN", "hf_a\r\nX: y")]).unwrap_err();
        assert!(!error.to_string().contains("hf_a"), "{error}");
    }

    #[test]
    fn switches_and_endpoints_are_checked() {
        let with = |name, value| hub(&[("HOME", "/u"), (name, value)]);
        for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            assert!(with(name, "1").unwrap().offline && with(name, "true").unwrap().offline);
            assert!(!with(name, "0").unwrap().offline && !with(name, "").unwrap().offline);
            assert!(with(name, "maybe").is_err());
        }
        assert_eq!(with("HF_ENDPOINT", "https://a.b/c/").unwrap().endpoint, "https://a.b/c");
        assert!(with("HF_ENDPOINT", "a.b").is_err());
        assert!(with("HF_ENDPOINT", "https://user:pass@a.b").is_err());
    }
}
