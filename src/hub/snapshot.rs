//! A repository at one commit as a folder: from the cache if every wanted file is there, else fetched.

use super::cache::CachedRepo;
use super::download::{download, Remote};
use super::http::{Client, Unreachable};
use super::name::{blob_name, encoded, is_commit, is_file_name, RepoName};
use super::observe::FetchObserver;
use super::settings::Hub;
use super::stoppable;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};
use std::path::{Path, PathBuf};

/// The size limit of a file listing, in bytes.
const MAX_LISTING: u64 = 64 << 20;

/// Which files of a repository a caller wants.
pub trait FileSelection {
    /// Selects the files to fetch from those of the repository; fails if it is not usable.
    fn select(&self, files: &[String]) -> Result<Vec<String>>;
    /// Further files that only the fetched ones name, such as the shards in an index.
    fn select_more(&self, snapshot: &Path) -> Result<Vec<String>>;
    /// Whether a snapshot without a file listing, fetched by another program, is complete enough.
    fn is_complete_without_listing(&self, snapshot: &Path, offline: bool) -> bool;
}

/// A fetched repository.
pub struct Snapshot {
    pub folder: PathBuf,
    pub commit: String,
}

/// Finds or fetches `name`.
pub fn snapshot(
    hub: &Hub,
    name: &RepoName,
    kind: RepoType,
    selection: &dyn FileSelection,
    observer: &mut dyn FetchObserver,
) -> Result<Snapshot> {
    let cached = CachedRepo::new(&hub.cache, name, kind);
    if let Some(snapshot) = in_cache(&cached, selection, hub.offline) {
        return Ok(snapshot);
    }
    let description = described(name, kind);
    if hub.offline {
        return Err(Error::new(
            Kind::Hub,
            format!("{description} is not in the cache {}, and offline mode is on", hub.cache.display()),
        )
        .with_hint(
            "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to fetch it, or point HF_HOME to the cache that has it",
        ));
    }
    let repo = Repo::with_revision(name.id.clone(), kind, name.revision.clone());
    let mut fetch = Fetch { hub, client: Client::new(hub)?, repo, description, cached, observer };
    match fetch.listing()? {
        Ok(listing) => fetch.all(listing, selection),
        // A snapshot that another program fetched will do if the network fails.
        Err(unreachable) if !interrupt::requested() => match in_cache(&fetch.cached, selection, true) {
            Some(snapshot) => {
                fetch.observer.note(&format!("the hub cannot be reached: using the cached {}", fetch.description));
                Ok(snapshot)
            }
            None => Err(fetch.client.unreachable(unreachable, &fetch.description)),
        },
        Err(unreachable) => Err(fetch.client.unreachable(unreachable, &fetch.description)),
    }
}

fn described(name: &RepoName, kind: RepoType) -> String {
    match kind {
        RepoType::Dataset => format!("the data set `{name}`"),
        _ => format!("the model `{name}`"),
    }
}

/// The cached snapshot of the revision, if it holds every wanted file.
fn in_cache(cached: &CachedRepo, selection: &dyn FileSelection, offline: bool) -> Option<Snapshot> {
    let commit = cached.commit()?;
    let folder = cached.snapshot(&commit);
    let all_there = |files: &[String]| files.iter().all(|file| folder.join(file).is_file());
    let is_complete = match cached.listing(&commit) {
        Some(listing) => {
            all_there(&selection.select(&listing).ok()?) && all_there(&selection.select_more(&folder).ok()?)
        }
        None => selection.is_complete_without_listing(&folder, offline),
    };
    is_complete.then_some(Snapshot { folder, commit })
}

struct Fetch<'a> {
    hub: &'a Hub,
    client: Client,
    repo: Repo,
    description: String,
    cached: CachedRepo,
    observer: &'a mut dyn FetchObserver,
}

impl Fetch<'_> {
    /// Asks for the commit and the files of the revision.
    fn listing(&mut self) -> Result<Result<RepoInfo, Unreachable>> {
        let address = format!("{}/api/{}", self.hub.endpoint, self.repo.api_url());
        let mut answer = match self.client.get(&address, 0) {
            Ok(answer) => answer,
            Err(unreachable) => return Ok(Err(unreachable)),
        };
        if !answer.status.is_success() {
            return Err(self.client.refusal(&answer, &self.description, &self.repo.url()));
        }
        let text = match stoppable::call(move || answer.body.with_config().limit(MAX_LISTING).read_to_string())? {
            Ok(text) => text,
            Err(error) => return Ok(Err(Unreachable(error.to_string()))),
        };
        let wrong = |description: String| {
            Error::new(Kind::Hub, format!("`{address}` answers {description}"))
                .with_hint("is HF_ENDPOINT the address of a hub?")
        };
        let listing: RepoInfo = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("with something that is no list of files: {error}")))?;
        if !is_commit(&listing.sha) {
            return Err(wrong(format!("with an invalid commit hash: `{}`", listing.sha.escape_debug())));
        }
        match listing.siblings.iter().find(|file| !is_file_name(&file.rfilename)) {
            Some(file) => Err(wrong(format!("with an invalid file name: `{}`", file.rfilename.escape_debug()))),
            None => Ok(Ok(listing)),
        }
    }

    fn all(mut self, listing: RepoInfo, selection: &dyn FileSelection) -> Result<Snapshot> {
        let commit = listing.sha;
        let names: Vec<String> = listing.siblings.into_iter().map(|file| file.rfilename).collect();
        let description = self.description.clone();
        for file in selection.select(&names).map_err(|error| error.context(&description))? {
            self.file(&commit, &file)?;
        }
        let folder = self.cached.snapshot(&commit);
        for file in selection.select_more(&folder)? {
            self.file(&commit, &file)?;
        }
        self.cached.set_listing(&commit, &names)?;
        // Comes last: from now on the revision resolves without the network.
        self.cached.set_commit(&commit)?;
        Ok(Snapshot { folder, commit })
    }

    /// Fetches one file of the commit unless it is there, and links it into the snapshot.
    fn file(&mut self, commit: &str, file: &str) -> Result<()> {
        interrupt::check()?;
        if self.cached.snapshot(commit).join(file).is_file() {
            return Ok(());
        }
        let address = format!("{}/{}/resolve/{commit}/{}", self.hub.endpoint, self.repo.url(), encoded(file));
        let description = format!("`{file}` of {}", self.description);
        let answer = self.client.head(&address).map_err(|error| self.client.unreachable(error, &description))?;
        if !answer.status.is_success() && !answer.status.is_redirection() {
            return Err(self.client.refusal(&answer, &description, &self.repo.url()));
        }
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag")).unwrap_or_default();
        let Some(blob) = blob_name(etag) else {
            let etag = etag.escape_debug();
            return Err(Error::new(
                Kind::Hub,
                format!("the server describes {description} with the ETag `{etag}`, which identifies no content"),
            )
            .with_hint("is HF_ENDPOINT the address of a hub?"));
        };
        // The content length of a redirect is not that of the file.
        let body_size = answer.status.is_success().then(|| answer.size()).flatten();
        let size = answer.header("x-linked-size").and_then(|text| text.parse().ok()).or(body_size);
        let _lock = self.cached.lock(blob, self.observer)?;
        let path = self.cached.blob(blob);
        if !path.is_file() {
            self.observer.permit(&description, size)?;
            crate::files::create_folder(path.parent().unwrap_or(&self.hub.cache))?;
            let url = self.repo.url();
            let remote = Remote { address: &address, file, repo: &url, blob, size };
            download(&self.client, &remote, &path, self.hub.retries, self.hub.pause, self.observer)?;
        }
        self.cached.link(commit, file, blob)
    }
}
