//! The formats of data files, and how a file's name tells its format.

use super::source;
use crate::error::{Error, Kind, Result};
use crate::options::{Mismatch, OptionType, Value};
use crate::suggest;
use std::path::Path;

/// A format of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    JsonLines,
    Json,
    Csv,
    Tsv,
    Text,
    Parquet,
    Arrow,
}

/// By file extension; the first extension of a format is its usual one.
pub(super) const FORMATS: [(&str, Format); 8] = [
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("txt", Format::Text),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
];

impl Format {
    /// The format with this file extension.
    pub fn named(name: &str) -> Result<Self> {
        let known = FORMATS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, format)| *format).ok_or_else(|| {
            Error::input(format!("unknown data format `{name}`"))
                .with_hint(suggest::hint(name, FORMATS.map(|(known, _)| known)))
        })
    }

    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("", |(extension, _)| extension)
    }

    /// The format of a file by its extension; one for compression is skipped.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let extension = source::uncompressed(name).rsplit_once('.').map_or("", |(_, extension)| extension);
        Format::named(extension).map_err(|error| {
            let unknown = Error::new(Kind::File, format!("cannot tell the format of `{}` by its name", path.display()));
            match extension {
                "xlsx" | "xls" | "ods" => unknown.with_hint("save the spreadsheet as .csv"),
                "zip" | "tar" | "7z" => unknown.with_hint("unpack it, and load the file in it"),
                "pkl" | "pickle" | "npy" | "pt" => unknown.with_hint("write it as .jsonl or .parquet in Python"),
                _ => unknown
                    .with_hint(format!("{}; or name it: #{{ format: \"jsonl\" }}", error.hint.unwrap_or_default())),
            }
        })
    }
}

impl OptionType for Format {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn choices() -> &'static [&'static str] {
        const NAMES: [&str; FORMATS.len()] = {
            let mut names = [""; FORMATS.len()];
            let mut at = 0;
            while at < FORMATS.len() {
                names[at] = FORMATS[at].0;
                at += 1;
            }
            names
        };
        &NAMES
    }
    fn from_value(value: &Value) -> std::result::Result<Self, Mismatch> {
        let format = value.as_str().and_then(|name| Format::named(name).ok());
        format.ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        Value::Text(self.extension().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_extension_is_named() {
        let error = Format::of(Path::new("a.jsnol")).unwrap_err();
        assert!(error.message.contains("a.jsnol") && error.hint.unwrap().contains("did you mean"));
        assert_eq!(Format::of(Path::new("a.tsv.XZ")).unwrap(), Format::Tsv);
    }
}
