//! What a run leaves in its folder, without the times in it.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The files below `folder` by their paths, for comparison. Event files are called `events`: their names have a time.
pub fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    add(folder, folder, &mut files);
    files
}

fn add(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add(root, &path, files);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        // It counts steps that are taken again after a cut, and their time.
        if name.ends_with("throughput.json") {
            continue;
        }
        if name.ends_with("metrics.jsonl") {
            files.insert(name, metrics(&bytes));
        } else if name.contains("events.out.tfevents") {
            let folder = Path::new(&name).parent().unwrap().join("events");
            files.insert(folder.to_string_lossy().into_owned(), events(&bytes));
        } else if name.ends_with(".json") {
            files.insert(name, without_times(&bytes));
        } else if !name.contains(".lock") && name != "results.csv" {
            // The rows of `results.csv` are those of `results.json`.
            files.insert(name, bytes);
        }
    }
}

/// The first difference, as a text.
pub fn difference(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    if names(found) != names(expected) {
        return Some(format!("files: {:?} instead of {:?}", names(found), names(expected)));
    }
    let differing = expected.iter().find(|(name, bytes)| found[*name] != **bytes)?;
    let (name, bytes) = differing;
    let at = found[name].iter().zip(bytes).position(|(one, other)| one != other);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(4000).collect::<String>();
    Some(match name.ends_with("json") || name.ends_with("jsonl") {
        true => format!("{name}:\n{}\ninstead of\n{}", text(&found[name]), text(bytes)),
        false => format!("{name}: at {at:?}, {} and {} bytes", found[name].len(), bytes.len()),
    })
}

fn metrics(bytes: &[u8]) -> Vec<u8> {
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        assert!(row["tokens_per_s"].as_f64().is_none_or(|speed| speed > 0.0), "{line}");
        row.as_object_mut().unwrap().remove("tokens_per_s");
        row.to_string()
    };
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Times in the state of a checkpoint, what depends on the length of the logs with theirs, and the checksum of it all; where
/// a trial ran.
const TIMES: [&str; 7] = ["time", "log_bytes", "log_crc", "events", "bytes", "sha256", "place"];

fn without_times(bytes: &[u8]) -> Vec<u8> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|name, _| !lorhai::sweep::columns::is_time(name) && !TIMES.contains(&name.as_str()));
                map.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    strip(&mut value);
    value.to_string().into_bytes()
}

/// The frames of an event file, without wall times and the values of `train/tokens_per_s`. The first frame names the
/// version, the second has the hyperparameters with the time of the start.
fn events(mut bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for number in 0.. {
        if bytes.is_empty() {
            break;
        }
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut event = bytes[12..12 + length].to_vec();
        bytes = &bytes[12 + length + 4..];
        // Field 1, a double: the wall time.
        assert_eq!(event[0], 9);
        event[1..9].fill(0);
        if number == 1 {
            // The start's time is the last field of the session's start.
            let at = event.len() - 9;
            assert_eq!(event[at], 5 << 3 | 1);
            event[at + 1..].fill(0);
        }
        const SPEED: &[u8] = b"train/tokens_per_s";
        if let Some(at) = event.windows(SPEED.len()).position(|window| window == SPEED) {
            let value = at + SPEED.len();
            assert_eq!(event[value], 2 << 3 | 5);
            event[value + 1..value + 5].fill(0);
        }
        kept.extend((event.len() as u64).to_le_bytes());
        kept.extend(event);
    }
    kept
}
