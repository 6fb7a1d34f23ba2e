//! TensorBoard event files: scalars and hyperparameters.
//!
//! A file is a sequence of TFRecord frames (length, its checksum, bytes, their checksum;
//! checksums are CRC-32C, masked), each an `Event` message of TensorBoard's protobuf
//! schema (tensorflow/core/util/event.proto, tensorboard/plugins/hparams/plugin_data.proto).
//! The nine messages needed are encoded by hand, in fifty lines: crates for protobuf work on
//! generated or derived types.

use super::log_file::{LogFile, LogPosition};
use super::metrics::MetricsRow;
use crate::error::{Error, Result};
use crate::files;
use crc32c::crc32c;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A hyperparameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum HParam {
    Number(f64),
    Text(String),
    Flag(bool),
}

/// The prefix of the names of event files.
const EVENTS: &str = "events.out.tfevents.";

/// The event files in a folder that were written here.
pub fn event_files(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(EVENTS) && name.ends_with(".lorhai")
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_ours).collect()
}

/// Removes the event files of an earlier run: TensorBoard would draw both as one run.
pub fn remove_events(folder: &Path) -> Result<()> {
    event_files(folder)
        .into_iter()
        .try_for_each(|path| std::fs::remove_file(&path).map_err(|error| Error::file("remove", &path, &error)))
}

/// Writes one event file. Every call writes complete frames, or keeps them while the disk takes none.
pub struct EventWriter {
    log: LogFile,
    clock: fn() -> f64,
}

impl EventWriter {
    /// Creates `events.out.tfevents.*` in `folder`.
    pub fn create(folder: &Path) -> Result<Self> {
        files::create_folder(folder)?;
        let seconds = seconds_now();
        let path = folder.join(format!("{EVENTS}{:010}.{}.lorhai", seconds as u64, std::process::id()));
        Self::create_at(&path, seconds_now)
    }

    fn create_at(path: &Path, clock: fn() -> f64) -> Result<Self> {
        let mut writer = EventWriter { log: LogFile::create(path)?, clock };
        // Readers refuse a file that does not begin with its version.
        let version = Message::default().double(1, (writer.clock)()).text(3, "brain.Event:2");
        writer.log.append(frame(&version.bytes));
        Ok(writer)
    }

    /// Writes one number of one step, such as `train/loss`.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.scalars(step, [(tag, value)])
    }

    /// Writes several numbers of one step.
    pub fn scalars<'a>(&mut self, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            summary = summary.message(1, Message::default().text(1, tag).float(2, value as f32));
        }
        self.event(step, summary)
    }

    /// Writes the row's numbers under the tags of transformers' trainer: `train/…`, and `eval/…` for names that begin
    /// with `eval_`.
    pub fn row(&mut self, row: &MetricsRow) -> Result<()> {
        let tagged: Vec<(String, f64)> = row
            .numbers()
            .map(|(name, value)| match name.strip_prefix("eval_") {
                Some(name) => (format!("eval/{name}"), value),
                None => (format!("train/{name}"), value),
            })
            .collect();
        self.scalars(row.step, tagged.iter().map(|(tag, value)| (tag.as_str(), *value)))
    }

    /// Writes the hyperparameters, for TensorBoard's HPARAMS page. To be called once, before the scalars.
    pub fn hparams(&mut self, values: &[(String, HParam)]) -> Result<()> {
        let mut start = Message::default();
        for (name, value) in values {
            let value = match value {
                HParam::Number(x) => Message::default().double(2, *x),
                HParam::Text(text) => Message::default().text(3, text),
                HParam::Flag(flag) => Message::default().varint_field(4, u64::from(*flag)),
            };
            start = start.message(1, Message::default().text(1, name).message(2, value));
        }
        let start = start.double(5, (self.clock)());
        // HParamsPluginData { session_start_info = 3 } inside SummaryMetadata.PluginData.
        let plugin = Message::default().text(1, "hparams").message(2, Message::default().message(3, start));
        let metadata = Message::default().message(1, plugin);
        let value = Message::default().text(1, "_hparams_/session_start_info").message(9, metadata);
        self.event(0, Message::default().message(1, value))
    }

    /// Goes on with the event file `name` in `folder` behind its first bytes, which `position` describes.
    ///
    /// # Errors
    /// A file that does not begin with these bytes, or cannot be written.
    pub fn resume(folder: &Path, name: &str, position: LogPosition) -> Result<Self> {
        Ok(EventWriter { log: LogFile::resume(&folder.join(name), position)?, clock: seconds_now })
    }

    /// The name of the file.
    pub fn name(&self) -> String {
        self.log.name()
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// Events that wait in memory, for the disk takes none.
    pub fn sync(&mut self) -> Result<LogPosition> {
        self.log.sync()
    }

    /// Waits until everything is on the disk, as far as that is possible.
    pub fn finish(self) -> Result<()> {
        self.log.finish();
        Ok(())
    }

    fn event(&mut self, step: u64, summary: Message) -> Result<()> {
        let event = Message::default().double(1, (self.clock)()).varint_field(2, step).message(5, summary);
        self.log.append(frame(&event.bytes));
        Ok(())
    }
}

/// A protobuf message under construction: fields one after the other.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn varint_field(mut self, field: u64, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn block(mut self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.block(field, text.as_bytes())
    }

    fn message(self, field: u64, message: Message) -> Self {
        self.block(field, &message.bytes)
    }
}

/// A TFRecord: u64 length, masked CRC of it, the bytes, masked CRC of them, little-endian.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(bytes.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(bytes);
    frame.extend(masked_crc(bytes).to_le_bytes());
    frame
}

/// Masked, because the CRC of data that contains CRCs is degenerate.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A decoded field: its number and the bytes or number in it.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Varint(u64),
        Fixed(Vec<u8>),
        Block(Vec<u8>),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn take(bytes: &mut &[u8], n: usize) -> Vec<u8> {
        let (head, rest) = bytes.split_at(n);
        *bytes = rest;
        head.to_vec()
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut bytes)),
                1 => Field::Fixed(take(&mut bytes, 8)),
                5 => Field::Fixed(take(&mut bytes, 4)),
                2 => {
                    let n = varint(&mut bytes) as usize;
                    Field::Block(take(&mut bytes, n))
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        fields
    }

    /// The block reached by following field numbers, the first of each.
    fn at(bytes: &[u8], path: &[u64]) -> Vec<u8> {
        path.iter().fold(bytes.to_vec(), |bytes, number| {
            match fields(&bytes).into_iter().find(|(n, _)| n == number).unwrap().1 {
                Field::Block(bytes) | Field::Fixed(bytes) => bytes,
                Field::Varint(value) => value.to_le_bytes().to_vec(),
            }
        })
    }

    /// The events of a file, every checksum verified with a second implementation.
    fn events(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let check = |data: &[u8], masked: Vec<u8>| {
            let masked = u32::from_le_bytes(masked.try_into().unwrap());
            assert_eq!(table_crc(data), masked.wrapping_sub(0xa282_ead8).rotate_left(15));
        };
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let length = take(&mut bytes, 8);
            let masked = take(&mut bytes, 4);
            check(&length, masked);
            let event = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let masked = take(&mut bytes, 4);
            check(&event, masked);
            events.push(event);
        }
        events
    }

    /// CRC-32C by the unreflected polynomial, most significant bit first.
    fn table_crc(bytes: &[u8]) -> u32 {
        let mut crc = !0_u32;
        for byte in bytes {
            crc ^= u32::from(byte.reverse_bits()) << 24;
            for _ in 0..8 {
                let high = crc & 0x8000_0000 != 0;
                crc = (crc << 1) ^ if high { 0x1EDC_6F41 } else { 0 };
            }
        }
        !crc.reverse_bits()
    }

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tensorboard/events.out.tfevents.golden")
    }

    /// The run that the golden file holds; `tests/golden/tensorboard/check.py` knows it too.
    fn write_example(path: &Path) {
        let mut writer = EventWriter::create_at(path, || 1_700_000_000.5).unwrap();
        let hparams = [
            ("rank".to_string(), HParam::Number(4.0)),
            ("schedule".to_string(), HParam::Text("cosine".into())),
            ("use_rslora".to_string(), HParam::Flag(true)),
        ];
        writer.hparams(&hparams).unwrap();
        for step in [1, 2, 300] {
            let row = MetricsRow {
                step,
                epoch: Some(step as f64 / 100.0),
                loss: Some(3.0 - step as f64 / 256.0),
                learning_rate: Some(2e-4),
                grad_norm: Some(0.5),
                ..Default::default()
            };
            writer.row(&row).unwrap();
        }
        writer.scalar("eval/loss", 300, 1.25).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn the_crc_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn events_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        write_example(&path);
        let events = events(&std::fs::read(&path).unwrap());
        assert_eq!(at(&events[0], &[3]), b"brain.Event:2");
        assert_eq!(at(&events[1], &[5, 1, 1]), b"_hparams_/session_start_info");
        assert_eq!(at(&events[1], &[5, 1, 9, 1, 1]), b"hparams");
        let first = at(&events[1], &[5, 1, 9, 1, 2, 3, 1]);
        assert_eq!((at(&first, &[1]), at(&first, &[2, 2])), (b"rank".to_vec(), 4.0_f64.to_le_bytes().to_vec()));
        let last_row = &events[4];
        assert!(fields(last_row).contains(&(2, Field::Varint(300))));
        let scalars: BTreeMap<String, f32> = fields(&at(last_row, &[5]))
            .into_iter()
            .map(|(_, value)| match value {
                Field::Block(value) => {
                    let number = f32::from_le_bytes(at(&value, &[2]).try_into().unwrap());
                    (String::from_utf8(at(&value, &[1])).unwrap(), number)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let expected =
            [("train/epoch", 3.0), ("train/grad_norm", 0.5), ("train/learning_rate", 2e-4), ("train/loss", 1.828125)];
        assert_eq!(scalars, expected.map(|(tag, x)| (tag.to_string(), x)).into());
        assert_eq!(at(&events[5], &[5, 1, 1]), b"eval/loss");
    }

    /// TensorBoard itself has read the golden file: see `check.py` beside it.
    #[test]
    fn the_bytes_are_those_that_tensorboard_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        write_example(&path);
        if std::env::var_os("LORHAI_WRITE_GOLDEN").is_some() {
            std::fs::copy(&path, golden()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(golden()).unwrap());
    }

    #[test]
    fn a_full_disk_ends_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        write_example(&path);
    }
}
