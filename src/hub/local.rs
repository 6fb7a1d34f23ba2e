//! Errors for names that are neither a folder nor a hub name, with the folder of the most similar name.

use super::name::RepoName;
use crate::error::{Error, Kind, Result};
use crate::{sandbox, suggest};
use std::path::Path;

/// A thing that is loaded by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Model,
    Dataset,
}

/// Parses a `name` that is no path on this machine as a hub name.
pub fn repo_name(name: &str, resource: Resource) -> Result<RepoName> {
    RepoName::parse(name).map_err(|error| match name.split_once('@') {
        // Only the revision is wrong: no path was meant.
        Some((id, _)) if RepoName::parse(id).is_ok() => error.with_hint("a hub name is written owner/name@revision"),
        _ => neither(name, resource),
    })
}

/// Fails if the sandbox keeps `name`, a path or a hub name, from the script. Whether there is such a path outside, and
/// what lies beside it, is not told.
pub fn ensure_may_load(name: &str) -> Result<()> {
    let path = Path::new(name);
    let refusal = sandbox::ensure_may_read(path).err();
    if refusal.is_none() && path.exists() {
        return Ok(());
    }
    match RepoName::parse(name) {
        Ok(_) => sandbox::ensure_may_fetch(name),
        Err(_) => refusal.map_or(Ok(()), Err),
    }
}

/// The error for a `name` that is neither a path nor a hub name.
fn neither(name: &str, resource: Resource) -> Error {
    let (noun, path_kind, near_prefix, example) = match resource {
        Resource::Model => ("model", "folder", "the folder ", "Qwen/Qwen2.5-0.5B"),
        Resource::Dataset => ("data set", "file or folder", "", "skt/kobest_v1"),
    };
    let error = Error::input(format!(
        "no {noun} `{}`: there is no such {path_kind} (looked in {}), and a hub name is written owner/name or \
         owner/name@revision",
        name.escape_debug(),
        searched_folder(name)
    ));
    if name.starts_with("~/") {
        return error.with_hint("`~` is not expanded: write the whole path, as in /home/me/data");
    }
    if let Some((_, page)) = name.split_once("huggingface.co/") {
        return error
            .with_hint(format!("give the name alone, without the URL: {}", page.trim_start_matches("datasets/")));
    }
    match suggest::nearest_path(Path::new(name), |path| resource == Resource::Dataset || path.is_dir()) {
        Some(path) => error.with_hint(format!("did you mean {near_prefix}`{path}`?")),
        None => error.with_hint(format!("check the path, or write the full hub name, as in {example}")),
    }
}

/// Adds to a hub error for `name` that there is no such folder either, and the most similar folder: `a/b`
/// may have been meant as a path.
pub fn with_nearest(error: Error, name: &str) -> Error {
    if error.kind != Kind::Hub {
        return error;
    }
    let mut hint = error.hint.clone().map(|hint| hint + "; ").unwrap_or_default();
    hint.push_str(&format!("there is no folder `{name}` here either"));
    if let Some(near) = suggest::nearest_path(Path::new(name), Path::is_dir) {
        hint.push_str(&format!(": did you mean `{near}`?"));
    }
    error.with_hint(hint)
}

fn searched_folder(name: &str) -> String {
    let parent = Path::new(name).parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = std::path::absolute(parent.unwrap_or(Path::new("."))).unwrap_or_default();
    folder.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tiny")).unwrap();
        let name = folder.path().join("tinny").display().to_string();
        let near = folder.path().join("tiny").display().to_string();
        assert!(neither(&name, Resource::Model).to_string().contains(&format!("did you mean the folder `{near}`?")));
        let hub = Error::new(Kind::Hub, "gone (404)").with_hint("check the spelling");
        let text = with_nearest(hub, &name).to_string();
        assert!(text.contains(&near) && text.contains("check the spelling"), "{text}");
        let disk = Error::new(Kind::File, "disk full").with_hint("free some");
        assert!(!with_nearest(disk, &name).to_string().contains(&near));
    }
}
