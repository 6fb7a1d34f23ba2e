//! A model's weights as one safetensors file, or as several with an index beside them.

use super::{save, INDEX_FILE, SINGLE_FILE};
use crate::error::{Error, Kind, Result};
use crate::{files, interrupt};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Writes the tensors `sizes` (name and bytes, in order) into `folder` and returns the number of files. A
/// file has at most `limit` bytes, unless a single tensor is larger. `tensor` makes each tensor when its
/// file is written, so that only the tensors of one file are in memory.
pub fn save_sharded(
    folder: &Path,
    sizes: &[(String, u64)],
    limit: u64,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<usize> {
    let shards = plan(sizes, limit);
    let file_name = |number: usize| match shards.len() {
        1 => SINGLE_FILE.to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
    };
    let mut weight_map = BTreeMap::new();
    for (number, names) in shards.iter().enumerate() {
        let mut tensors = Vec::with_capacity(names.len());
        for &name in names {
            interrupt::check()?;
            tensors.push((name.to_owned(), tensor(name)?));
            weight_map.insert(name, file_name(number));
        }
        save(&folder.join(file_name(number)), &tensors, &[])?;
    }
    if shards.len() > 1 {
        let total: u64 = sizes.iter().map(|(_, size)| size).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        files::write_json(&folder.join(INDEX_FILE), &index)?;
    }
    Ok(shards.len())
}

fn plan(sizes: &[(String, u64)], limit: u64) -> Vec<Vec<&str>> {
    let (mut shards, mut filled): (Vec<Vec<&str>>, u64) = (vec![Vec::new()], 0);
    for (name, size) in sizes {
        if filled > 0 && filled + size > limit {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(last) = shards.last_mut() {
            last.push(name);
        }
    }
    shards
}

/// "5GB" as 5,000,000,000 bytes, "5GiB" as 5 · 2³⁰, as transformers reads them.
pub fn parse_size(text: &str) -> Result<u64> {
    const UNITS: [(&str, u64); 6] =
        [("KIB", 1 << 10), ("MIB", 1 << 20), ("GIB", 1 << 30), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let upper = text.trim().to_uppercase();
    let parsed = UNITS.iter().find_map(|(unit, bytes)| {
        let number: f64 = upper.strip_suffix(unit)?.trim().parse().ok()?;
        Some((number * *bytes as f64) as u64)
    });
    match parsed.filter(|&bytes| bytes > 0) {
        Some(bytes) => Ok(bytes),
        None => Err(Error::new(Kind::Input, format!("expected a size such as \"5GB\" or \"500MB\", found \"{text}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_transformers_reads_them() {
        for (text, bytes) in [("5GB", 5_000_000_000), ("5GiB", 5 << 30), ("1.5 MB", 1_500_000), ("200kb", 200_000)] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["5", "GB", "-1GB", "0MB", "5TBs"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shard_holds_what_fits() {
        let sizes: Vec<(String, u64)> =
            [("a", 4), ("b", 4), ("c", 9), ("d", 2)].map(|(name, size)| (name.to_owned(), size)).into();
        assert_eq!(plan(&sizes, 8), [vec!["a", "b"], vec!["c"], vec!["d"]]);
        assert_eq!(plan(&sizes, 100).len(), 1);
    }
}
