//! A fake hub: repositories at one commit. Serves small files itself and redirects large ones to a content server on
//! another port. Simulates every fault that the tests need.

use crate::server::{Reply, Request, Server};
use lorhai::hub::{Hub, Secret};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Faults that a test switches on.
#[derive(Default)]
pub struct Faults {
    /// Replies of the hub for paths that contain the key.
    pub hub: HashMap<String, Reply>,
    /// For each request to the content server: the number of bytes after which the connection closes.
    pub cuts: Vec<usize>,
    /// The content server ignores `Range`.
    pub no_ranges: bool,
    /// For each request to the content server: the status of the reply.
    pub statuses: Vec<u16>,
    /// The repository was renamed: paths with the first name are redirected, by a relative URL, to the second.
    pub renamed: Option<(String, String)>,
    /// Replaces the ETag of every file.
    pub etag: Option<String>,
    /// Replaces the size that the hub declares of large files.
    pub declared: Option<usize>,
    /// Corrupts the large files, so that their hash is wrong.
    pub corrupt: bool,
}

pub struct FakeHub {
    pub hub: Server,
    pub content: Server,
    pub faults: Arc<Mutex<Faults>>,
}

/// Large files end in .safetensors or .parquet.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FakeHub {
    /// A hub with one repository, as "models/owner/name" or "datasets/owner/name".
    pub fn start(repo: &str, files: &[(&str, Vec<u8>)]) -> FakeHub {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let content = {
            let (files, faults) = (files.clone(), faults.clone());
            Server::start(move |request| serve_content(request, &files, &mut faults.lock().unwrap()))
        };
        let hub = {
            let (faults, repo, content) = (faults.clone(), repo.to_string(), content.address());
            Server::start(move |request| serve_hub(request, &repo, &files, &content, &faults.lock().unwrap()))
        };
        FakeHub { hub, content, faults }
    }

    /// Settings for this hub and a cache of the test.
    pub fn settings(&self, cache: &Path) -> Hub {
        let mut hub = Hub::from_variables(|name| (name == "HF_HOME").then(|| "/nowhere".into())).unwrap();
        hub.endpoint = self.hub.address();
        hub.cache = cache.to_path_buf();
        hub.pause = Duration::from_millis(1);
        hub.timeout = Duration::from_secs(5);
        hub.token = Some(Secret::new("hf_canary").unwrap());
        hub
    }

    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
    }

    /// The number of requests to both servers since the last call.
    pub fn requests(&self) -> usize {
        self.hub.take_requests().len() + self.content.take_requests().len()
    }
}

fn serve_hub(
    request: &Request,
    repo: &str,
    files: &BTreeMap<String, Vec<u8>>,
    content: &str,
    faults: &Faults,
) -> Reply {
    if let Some(reply) =
        faults.hub.iter().find(|(part, _)| request.path.contains(part.as_str())).map(|(_, reply)| reply)
    {
        return reply.clone();
    }
    if let Some((old, new)) = faults.renamed.as_ref().filter(|(old, _)| request.path.contains(old)) {
        return Reply::new(307).header("Location", request.path.replace(old, new));
    }
    if request.path.starts_with(&format!("/api/{repo}/revision/")) {
        let names: Vec<String> = files.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#)).collect();
        let text = format!(r#"{{"id":"x","private":false,"sha":"{COMMIT}","siblings":[{}]}}"#, names.join(","));
        return Reply::new(200).body(text);
    }
    let short = repo.strip_prefix("models/").unwrap_or(repo);
    let Some(name) = request.path.strip_prefix(&format!("/{short}/resolve/{COMMIT}/")) else {
        return Reply::new(404).header("X-Error-Code", "RepoNotFound");
    };
    let name = name.replace("%20", " ");
    let Some(bytes) = files.get(&name) else {
        return Reply::new(404).header("X-Error-Code", "EntryNotFound");
    };
    let hash = faults.etag.clone().unwrap_or_else(|| sha256(bytes));
    let reply = Reply::new(200).header("X-Repo-Commit", COMMIT);
    if !is_large(&name) {
        return reply
            .header("ETag", format!("\"{}\"", faults.etag.as_deref().unwrap_or(&hash[..40.min(hash.len())])))
            .body(bytes.clone());
    }
    Reply { status: 302, ..reply }
        .header("X-Linked-Etag", format!("\"{hash}\""))
        .header("X-Linked-Size", faults.declared.unwrap_or(bytes.len()))
        .header("ETag", "\"of-the-redirect\"")
        .header("Location", format!("{content}/blob/{}?signature=secret", name.replace(' ', "%20")))
        .body("Found. Redirecting.")
}

fn serve_content(request: &Request, files: &BTreeMap<String, Vec<u8>>, faults: &mut Faults) -> Reply {
    let name = request.path.trim_start_matches("/blob/").split('?').next().unwrap_or_default();
    let Some(bytes) = files.get(&name.replace("%20", " ")) else { return Reply::new(404) };
    let mut bytes = bytes.clone();
    if faults.corrupt {
        bytes[0] ^= 1;
    }
    if !faults.statuses.is_empty() {
        return Reply::new(faults.statuses.remove(0));
    }
    let cut = (!faults.cuts.is_empty()).then(|| faults.cuts.remove(0));
    let mut reply = match request.range_start().filter(|_| !faults.no_ranges) {
        Some(start) if start >= bytes.len() => Reply::new(416),
        Some(start) => Reply::new(206)
            .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(bytes[start..].to_vec()),
        None => Reply::new(200).body(bytes),
    };
    reply.cut = cut;
    reply
}
