//! `origin.json`, written before the first step of a run so that it can be repeated: the script with its arguments,
//! and hashes of the program, the model and the data.

use crate::error::{Error, Kind, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file in the folder of a run and of each trial of a sweep.
pub const ORIGIN: &str = "origin.json";
const FORMAT: &str = "lorhai origin 1";

/// The content of `origin.json`. Paths are as in the script, relative to `folder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub format: String,
    /// `None` for input at the prompt.
    pub script: Option<Script>,
    /// The `--set` values.
    pub set: Vec<(String, String)>,
    /// The working directory.
    pub folder: PathBuf,
    /// The `out` of the run or sweep.
    pub out: PathBuf,
    pub program: Program,
    pub machine: Machine,
    /// `None` where no model was known as the run began.
    pub model: Option<Model>,
    /// SHA-256 of the data and other files that the script had read when the run began.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    pub path: PathBuf,
    pub text: String,
    /// Imported modules: paths relative to the script's folder, with their texts.
    pub modules: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub version: String,
    pub libtorch: String,
    /// The hash of the executable file.
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub device: String,
    pub dtype: String,
    pub threads: i32,
    /// That trained together; absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    pub folder: PathBuf,
    pub fingerprint: String,
    pub tokenizer: Option<String>,
}

impl Origin {
    pub fn format() -> String {
        FORMAT.to_owned()
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_json(&folder.join(ORIGIN), self)
    }

    /// # Errors
    /// A folder without this file, or with an incomplete one.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(ORIGIN);
        if !path.is_file() {
            crate::bail!(Kind::File, "`{}` cannot be repeated: expected its script, settings and hashes in `{ORIGIN}`, \
                found no such file", folder.display();
                hint: "it was made before lorhai kept them; run its script again");
        }
        let value = files::read_json(&path)?;
        if let Some(format) = value.get("format").filter(|format| *format != FORMAT) {
            crate::bail!(Kind::File, "`{}`: expected the format \"{FORMAT}\", found {format}", path.display();
                hint: "another version of lorhai made it: repeat the run with that one");
        }
        serde_json::from_value(value).map_err(|error| {
            Error::new(Kind::File, format!("`{}` does not say where the run came from: {error}", path.display()))
                .with_hint("the file was changed by hand, or written by another version of lorhai")
        })
    }
}

impl Program {
    /// The program that is running.
    ///
    /// # Errors
    /// If the executable cannot be read.
    pub fn current() -> Result<Self> {
        static SHA256: OnceLock<String> = OnceLock::new();
        let sha256 = match SHA256.get() {
            Some(known) => known.clone(),
            None => {
                let hash = files::sha256_of_program()?;
                SHA256.get_or_init(|| hash).clone()
            }
        };
        Ok(Program {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: env!("LORHAI_LIBTORCH_VERSION").to_owned(),
            sha256,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Origin::read(folder.path()).unwrap_err();
        assert!(error.message.contains("found no such file"), "{error}");
        for (text, expected) in [
            (r#"{"format": "lorhai origin 9"}"#, "found \"lorhai origin 9\""),
            (r#"{"format": "lorhai origin 1", "script": null}"#, "missing field `set`"),
        ] {
            std::fs::write(folder.path().join(ORIGIN), text).unwrap();
            let error = Origin::read(folder.path()).unwrap_err();
            assert!(error.message.contains(expected) && error.message.contains(ORIGIN), "{error}");
        }
    }
}
