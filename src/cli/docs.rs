//! `lorhai docs`: writes the function reference and definitions, or checks that they are up to date.

use crate::error::{Error, Result};
use crate::files;
use crate::script::catalogue::{definitions, docs};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Docs {
    /// Write nothing, and fail if a file is not up to date.
    #[arg(long)]
    check: bool,
    /// Write the reference to FILE, as Markdown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write all functions to FILE as documented declarations, for the Rhai language server.
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Write all functions to FILE as JSON: signatures, descriptions, options and examples.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Docs {
    pub fn write(&self) -> Result<()> {
        let no_options = self.out.is_none() && self.definitions.is_none() && self.json.is_none();
        let or_default =
            |path: &Option<PathBuf>, default: &str| path.clone().or_else(|| no_options.then(|| default.into()));
        if let Some(path) = or_default(&self.out, "docs/reference.md") {
            self.write_or_check(&path, &docs::reference())?;
        }
        if let Some(path) = or_default(&self.definitions, "docs/lorhai.d.rhai") {
            self.write_or_check(&path, &definitions::definitions())?;
        }
        match &self.json {
            Some(path) => self.write_or_check(path, &format!("{:#}\n", definitions::json())),
            None => Ok(()),
        }
    }

    /// Writes the file, or with `--check` compares it with what would be written.
    fn write_or_check(&self, path: &Path, text: &str) -> Result<()> {
        if !self.check {
            return files::write_atomic(path, text.as_bytes());
        }
        if files::read_text(path)? == text {
            return Ok(());
        }
        let message = format!("`{}` is not up to date", path.display());
        Err(Error::new(crate::Kind::File, message).with_hint("run `lorhai docs` and commit the file"))
    }
}
