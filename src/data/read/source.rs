//! Opens data files: decompresses them and checks their encoding.
//!
//! Compression is recognised by the first bytes, not by the name. Files are decompressed as they are read, so a compressed
//! file takes no more memory than an uncompressed one.

use crate::error::{Error, Kind, Result};
use crate::{files, interrupt};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Extensions of compressed files.
const COMPRESSED: [&str; 5] = ["gz", "bz2", "xz", "zst", "zstd"];
/// A file that decompresses to more bytes than this, and to more than [`MAX_RATIO`] times its size, is an error: text shrinks
/// to a hundredth at most.
const LARGE: u64 = 1 << 30;
const MAX_RATIO: u64 = 300;

/// The name without the extension of a compressed file: `d.jsonl` for `d.jsonl.gz`.
pub fn uncompressed(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if COMPRESSED.iter().any(|known| extension.eq_ignore_ascii_case(known)) => stem,
        _ => name,
    }
}

/// The decompressed bytes of a text file. Fails if the first bytes show another encoding than UTF-8.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let failed = |error: io::Error| Error::file("read", path, &error);
    let mut file = BufReader::with_capacity(1 << 16, files::open(path)?);
    let head = file.fill_buf().map_err(failed)?;
    let decompressed: Box<dyn Read> = match head {
        [0x1F, 0x8B, 8, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        // "BZh", the block size, then the first digits of pi.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => {
            Box::new(bzip2::bufread::MultiBzDecoder::new(file))
        }
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(lzma_rust2::XzReader::new(file, true)),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(failed)?),
        [b'P', b'K', 3, 4, ..] => {
            return Err(wrong(path, "is a zip archive").with_hint("unpack it, and load the file in it"))
        }
        _ => return checked(path, Box::new(file)),
    };
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let limited = Limited { inner: decompressed, left: LARGE.max(size.saturating_mul(MAX_RATIO)) };
    checked(path, Box::new(BufReader::with_capacity(1 << 16, limited)))
}

fn checked(path: &Path, mut reader: Box<dyn BufRead>) -> Result<Box<dyn BufRead>> {
    match reader.fill_buf().map_err(|error| failed(path, &error))? {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=255, ..] | [1..=255, 0, ..] => {
            Err(wrong(path, "is UTF-16, not UTF-8").with_hint("save the file as UTF-8: iconv -f UTF-16 -t UTF-8"))
        }
        [b'P', b'A', b'R', b'1', ..] => Err(wrong(path, "is a parquet file").with_hint("format: \"parquet\"")),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Err(wrong(path, "is an arrow file").with_hint("format: \"arrow\"")),
        _ => Ok(reader),
    }
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::new(Kind::File, format!("`{}` {what}", path.display()))
}

/// The error of a failed read; a stop by the user comes first.
pub fn failed(path: &Path, error: &io::Error) -> Error {
    match interrupt::check() {
        Err(stopped) => stopped,
        Ok(()) => Error::file("read", path, error),
    }
}

/// An error at a line of a file; lines count from 1.
pub fn at_line(path: &Path, line: usize, message: impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("`{}` line {line}: {message}", path.display()))
}

/// The text of a line, or an error that names its likely encoding.
pub fn utf8<'a>(path: &Path, line: usize, bytes: &'a [u8]) -> Result<&'a str> {
    simdutf8::compat::from_utf8(bytes).map_err(|error| not_utf8(path, line, "line", bytes, error.valid_up_to()))
}

/// The error for a line or field (`unit`) that is not UTF-8 from byte `at` on.
pub fn not_utf8(path: &Path, line: usize, unit: &str, bytes: &[u8], at: usize) -> Error {
    let (byte, rest) = (bytes.get(at).copied().unwrap_or_default(), bytes.get(at..).unwrap_or_default());
    let high = rest.iter().take_while(|byte| **byte >= 0x80).count();
    let (likely, name) = match high {
        0..=1 => ("Latin-1 or Windows-1252", "WINDOWS-1252"),
        _ => ("CP949 (EUC-KR), GBK or Shift-JIS", "CP949"),
    };
    at_line(path, line, format!("not UTF-8: byte {at} of the {unit} is invalid (0x{byte:02X}, as in {likely})"))
        .with_hint(format!("save the file as UTF-8: iconv -f {name} -t UTF-8"))
}

/// A reader that fails on implausibly large output, and on Ctrl-C.
struct Limited {
    inner: Box<dyn Read>,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if interrupt::requested() {
            return Err(io::Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it decompresses to more than {MAX_RATIO} times its size"))),
        }
        Ok(count)
    }
}

/// Reads the next line; `false` at the end of the file.
pub fn next_line(path: &Path, reader: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool> {
    interrupt::check()?;
    line.clear();
    Ok(reader.read_until(b'\n', line).map_err(|error| failed(path, &error))? > 0)
}

/// Reads the rest of the file.
pub fn rest(path: &Path, reader: &mut dyn BufRead, text: &mut Vec<u8>) -> Result<()> {
    reader.read_to_end(text).map(|_| ()).map_err(|error| failed(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implausibly_large_output_is_an_error() {
        let mut limited = Limited { inner: Box::new(io::repeat(b'x')), left: 100_000 };
        let mut text = Vec::new();
        let error = limited.read_to_end(&mut text).unwrap_err();
        assert!(error.to_string().contains("300 times its size"), "{error}");
        assert!(text.len() <= 100_000);
    }

    #[test]
    fn encodings_are_named() {
        let path = Path::new("a.txt");
        let text = |bytes: &[u8]| utf8(path, 3, bytes).unwrap_err().to_string();
        assert!(
            text(b"caf\xe9 au lait").contains("line 3: not UTF-8: byte 3 of the line is invalid (0xE9, as in Latin-1")
        );
        assert!(text(b"\xc7\xd1\xb1\xdb").contains("CP949"));
        assert_eq!((uncompressed("d.jsonl.GZ"), uncompressed("d.jsonl")), ("d.jsonl", "d.jsonl"));
    }
}
