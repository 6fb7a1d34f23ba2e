//! `model.safetensors.index.json`: which shard holds which tensor.

use super::broken;
use crate::error::Result;
use crate::files;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub struct Index {
    /// Sorted, each once.
    pub shards: Vec<PathBuf>,
    /// From the name of a tensor to the index of its shard.
    pub shard_of: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Content {
    weight_map: Unique,
}

/// A map that fails on duplicate keys; JSON readers silently drop one of the two.
struct Unique(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Unique;
            fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                out.write_str("a map from tensor names to shard files")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut map_of_names = BTreeMap::new();
                while let Some((name, shard)) = map.next_entry::<String, String>()? {
                    if map_of_names.insert(name.clone(), shard).is_some() {
                        return Err(A::Error::custom(format!("tensor `{}` appears twice", name.escape_debug())));
                    }
                }
                Ok(Unique(map_of_names))
            }
        }
        reader.deserialize_map(Pairs)
    }
}

/// Reads the index. Its shards must all be in the same folder.
pub fn read(path: &Path) -> Result<Index> {
    let weight_map = weight_map(path)?;
    let names = sorted_names(path, &weight_map)?;
    let mut shards = Vec::with_capacity(names.len());
    for name in &names {
        let shard = path.with_file_name(name);
        if !shard.is_file() {
            return Err(broken(path, format!("expected the shard `{name}` beside it, found none"))
                .with_hint("fetch the missing file, or the model again"));
        }
        shards.push(shard);
    }
    let shard_index = |shard: &String| names.binary_search(shard).unwrap_or_default();
    let shard_of = weight_map.iter().map(|(name, shard)| (name.clone(), shard_index(shard))).collect();
    Ok(Index { shards, shard_of })
}

/// The names of the shards that the index at `path` lists, whether they exist or not.
pub fn shard_names(path: &Path) -> Result<Vec<String>> {
    sorted_names(path, &weight_map(path)?)
}

fn weight_map(path: &Path) -> Result<BTreeMap<String, String>> {
    let content: Content = serde_json::from_str(&files::read_text(path)?)
        .map_err(|error| broken(path, format!("not a valid shard index: {error}")))?;
    match content.weight_map {
        Unique(map) if map.is_empty() => Err(broken(path, "the weight_map is empty")),
        Unique(map) => Ok(map),
    }
}

/// The shards, each once. A shard must be the bare name of a file beside the index, so that it cannot
/// lead out of the folder.
fn sorted_names(path: &Path, weight_map: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let names: BTreeSet<&String> = weight_map.values().collect();
    let is_file_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && !name.contains(['/', '\\', ':'])
            && !name.chars().any(char::is_control)
    };
    match names.iter().find(|name| !is_file_name(name)) {
        Some(name) => {
            let name = name.escape_debug();
            Err(broken(path, format!("expected the bare name of a file beside it, found shard `{name}`")))
        }
        None => Ok(names.into_iter().cloned().collect()),
    }
}
