//! Errors for names that are neither a folder nor a hub name, with the nearest folder there is.

use crate::error::{Error, Kind};
use crate::suggest;
use std::path::Path;

/// The error for a `name` that is no folder and could not be on the hub; `what` is "model" or
/// "data set".
pub fn neither(name: &str, what: &str) -> Error {
    let shown = name.escape_debug();
    let error = Error::input(format!(
        "no {what} `{shown}`: there is no such folder (looked in {}), and a hub name is written owner/name or \
         owner/name@revision",
        place(name)
    ));
    match nearest(name) {
        Some(near) => error.with_hint(format!("did you mean the folder `{near}`?")),
        None => error.with_hint("check the path, or write the full hub name, as in Qwen/Qwen2.5-0.5B"),
    }
}

/// Adds to the hub's error for `name` that there is no such folder either, and the nearest
/// one: `a/b` may have been meant as a path.
pub fn with_nearest(error: Error, name: &str) -> Error {
    if error.kind != Kind::Hub {
        return error;
    }
    let mut hint = error.hint.clone().map(|hint| hint + "; ").unwrap_or_default();
    hint.push_str(&format!("there is no folder `{name}` here either"));
    if let Some(near) = nearest(name) {
        hint.push_str(&format!(": did you mean `{near}`?"));
    }
    error.with_hint(hint)
}

fn place(name: &str) -> String {
    let parent = Path::new(name).parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = std::path::absolute(parent.unwrap_or(Path::new("."))).unwrap_or_default();
    folder.display().to_string()
}

/// The folder with the name nearest to `name`, where its parent exists.
fn nearest(name: &str) -> Option<String> {
    let path = Path::new(name);
    let parent = path.parent()?;
    let start = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let there: Vec<String> = std::fs::read_dir(start)
        .ok()?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let near = suggest::nearest(path.file_name()?.to_str()?, there.iter().map(String::as_str))?;
    Some(parent.join(near).display().to_string())
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
        assert!(neither(&name, "model").to_string().contains(&format!("did you mean the folder `{near}`?")));
        let hub = Error::new(Kind::Hub, "gone (404)").with_hint("check the spelling");
        let text = with_nearest(hub, &name).to_string();
        assert!(text.contains(&near) && text.contains("check the spelling"), "{text}");
        let disk = Error::new(Kind::File, "disk full").with_hint("free some");
        assert!(!with_nearest(disk, &name).to_string().contains(&near));
    }
}
