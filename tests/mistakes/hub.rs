//! Stand-ins for the hub, by what is wrong with them.

#[allow(dead_code)]
#[path = "../hub/server.rs"]
mod server;

use server::{Reply, Server};
use std::net::TcpListener;

pub struct Hub {
    address: String,
    token: &'static str,
}

impl Hub {
    /// The hub called `name`.
    pub fn named(name: &str) -> Hub {
        let answers = |status: u16, code: &'static str| {
            Server::start(move |_| Reply::new(status).header("X-Error-Code", code)).address()
        };
        let (address, token) = match name {
            "gated" => (answers(401, "GatedRepo"), ""),
            "refused" => (answers(403, "GatedRepo"), "hf_of_someone"),
            "empty" => (answers(404, "RepoNotFound"), ""),
            "down" => (answers(503, "None"), ""),
            "unreachable" => (nowhere(), ""),
            other => panic!("no hub is called `{other}`"),
        };
        Hub { address, token }
    }

    /// The text with one name for the hub, whatever its port is.
    pub fn unnamed(&self, text: &str) -> String {
        let host = self.address.trim_start_matches("http://");
        text.replace(&self.address, "https://hub").replace(host, "hub")
    }

    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let token = (!self.token.is_empty()).then(|| ("HF_TOKEN", self.token.to_string()));
        [("HF_ENDPOINT", self.address.clone())].into_iter().chain(token).collect()
    }
}

/// A port that was free a moment ago: nobody answers there.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
