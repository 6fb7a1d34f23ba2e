//! Names of repositories, revisions and files, checked. Every string from the user or the server that
//! becomes part of a path or URL passes through here.

use crate::error::{Error, Result};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use std::fmt;

/// A repository on the hub at a revision: `owner/name` or `owner/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    /// `owner/name`.
    pub id: String,
    /// A branch, tag or commit; `main` if none was given.
    pub revision: String,
}

impl RepoName {
    /// Reads `owner/name[@revision]`.
    ///
    /// # Errors
    /// `Kind::Input` for anything else.
    pub fn parse(text: &str) -> Result<RepoName> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_repo_part(part)) || id.len() > 96 {
            return Err(Error::input(format!("expected a hub name as in owner/name, found `{}`", text.escape_debug())));
        }
        if !is_revision(revision) {
            let revision = revision.escape_debug();
            return Err(Error::input(format!("expected a branch, tag or commit after `@`, found `{revision}`")));
        }
        Ok(RepoName { id: id.to_string(), revision: revision.to_string() })
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => out.write_str(&self.id),
            revision => write!(out, "{}@{revision}", self.id),
        }
    }
}

/// The hub's rule: letters, digits and `-_.`; not `-` or `.` at either end, no `--` and no `..`.
fn is_repo_part(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

fn is_revision(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+/".contains(&byte);
    text.len() <= 200 && text.bytes().all(is_allowed) && is_relative(text)
}

/// Whether it is a full commit hash: a revision that never moves.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a file name from the server stays inside the folder that it is joined to.
pub fn is_file_name(name: &str) -> bool {
    name.len() <= 1000 && is_relative(name) && !name.contains(['\\', ':']) && !name.chars().any(char::is_control)
}

fn is_relative(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

/// The part of an ETag that names a blob, if it is a safe file name.
pub fn blob_name(etag: &str) -> Option<&str> {
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (!etag.is_empty() && etag.len() <= 128 && etag.bytes().all(is_allowed)).then_some(etag)
}

/// Characters of a URL path that are not encoded, beside ASCII letters and digits.
const UNCHANGED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Percent-encodes what a URL path cannot contain; slashes stay.
pub fn encoded(path: &str) -> String {
    utf8_percent_encode(path, UNCHANGED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_are_parsed_and_everything_else_refused() {
        let name = RepoName::parse("Qwen/Qwen2.5-0.5B").unwrap();
        assert_eq!((name.id.as_str(), name.revision.as_str()), ("Qwen/Qwen2.5-0.5B", "main"));
        assert_eq!(RepoName::parse("a/b@refs/pr/1").unwrap().revision, "refs/pr/1");
        assert_eq!(RepoName::parse("a/b@v1.0").unwrap().to_string(), "a/b@v1.0");
        let wrong = [
            "", "gpt2", "a/", "/a", "a/b/c", "../a", "a/..", "a/b--c", "-a/b", "a/b.", "a b/c", "a/b@", "a/b@../x",
            "a/b@/x", "a/b@x//y", "a/b@x y", "a\\b", "a/b\n", "~/a",
        ];
        for text in wrong {
            assert!(RepoName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_file_names_and_etags_are_refused() {
        for name in ["config.json", "data/train-00000-of-00001.parquet", "a b#c?.json", "한국어.jsonl"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "C:\\x", "a\\b", "a\0b", "a\nb", "."] {
            assert!(!is_file_name(name), "{name:?}");
        }
        assert_eq!(blob_name("\"0aF-9\""), Some("0aF-9"));
        assert_eq!(blob_name("W/\"x\""), Some("x"));
        for etag in ["", "\"\"", "../x", "a/b", "..", ".hidden", "a b", "a\0"] {
            assert_eq!(blob_name(etag), None, "{etag:?}");
        }
    }

    #[test]
    fn urls_are_encoded() {
        assert_eq!(encoded("a b/c#?%.json"), "a%20b/c%23%3F%25.json");
        assert_eq!(encoded("가"), "%EA%B0%80");
    }
}
