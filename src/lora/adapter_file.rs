//! The tensors of an adapter's file, under the names that PEFT gives them today: without its
//! prefix, and without the adapter's name where the file is a state dict of the running model.
//!
//! Which tensors the file must hold is for `peft/weights.rs`.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::weights::Weights;
use crate::model::family::wrapper::unwrapped;
use crate::model::shapes::{EMBEDDING, HEAD};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

pub const PREFIX: &str = "base_model.model.";

/// Parts of a tensor's name that the adapter's name may follow, and what may follow that.
const MARKS: [(&str, &[&str]); 6] = [
    ("lora_A", &["weight", "bias"]),
    ("lora_B", &["weight", "bias"]),
    ("lora_magnitude_vector", &["weight"]),
    ("lora_embedding_A", &[]),
    ("lora_embedding_B", &[]),
    ("trainable_tokens_delta", &[]),
];

pub struct AdapterFile {
    weights: Weights,
    /// The names in the file, by the names without prefix and adapter.
    stored: BTreeMap<String, String>,
}

impl AdapterFile {
    pub fn open(path: &Path) -> Result<Self> {
        let weights = Weights::open(path)?;
        let mut stored = BTreeMap::new();
        let mut adapter: Option<String> = None;
        for name in weights.names() {
            let (short, named) = without_adapter(&unwrapped(name.strip_prefix(PREFIX).unwrap_or(name)));
            match (&adapter, &named) {
                (Some(one), Some(other)) if one != other => {
                    bail!(Kind::Model, "the adapter's file holds tensors of two adapters, `{one}` and `{other}`"; hint: "save each of them by itself, with peft's save_pretrained(folder, selected_adapters=[name])")
                }
                _ => adapter = adapter.or(named),
            }
            if stored.insert(short.clone(), name.to_owned()).is_some() {
                bail!(Kind::Model, "the adapter's file holds `{short}` twice, with and without the adapter's name");
            }
        }
        let file = AdapterFile { weights, stored };
        match file.stored.values().find(|name| !name.starts_with(PREFIX)) {
            Some(_) => Err(file.misnamed().unwrap_or_else(|| Error::bug("a name without prefix"))),
            None => Ok(file),
        }
    }

    /// What the file says beside its tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.weights.metadata(key)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    /// The name in the file.
    pub fn stored<'a>(&'a self, name: &'a str) -> &'a str {
        self.stored.get(name).map_or(name, String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.weights.info(self.stored(name)).map(|info| info.shape.as_slice())
    }

    /// The tensor in its stored dtype; fails if that is no float.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let stored = self.stored(name);
        self.weights.ensure_floats(stored)?;
        self.weights.tensor(stored)
    }

    /// The name of the frozen embedding or head in the file. PEFT writes it where that module is a
    /// target, where the vocabulary was resized, or on demand (`save_embedding_layers`). For a module
    /// of `modules_to_save`, `.weight` is the trained copy.
    pub fn base_weight(&self, module: &str, is_trained: bool) -> Option<String> {
        let inside = [
            "",
            ".base_layer",
            ".original_module",
            ".token_adapter.base_layer",
            ".base_layer.token_adapter.base_layer",
        ];
        let inside = &inside[usize::from(is_trained)..];
        inside.iter().map(|inside| format!("{module}{inside}.weight")).find(|name| self.has(name))
    }

    /// The size of the vocabulary, from the shapes of the tensors of embeddings and head.
    pub fn vocabulary(&self) -> Option<i64> {
        let of = |(name, at): (String, usize)| self.shape(&name)?.get(at).copied();
        let rows = [EMBEDDING, HEAD].into_iter().filter_map(|module| self.base_weight(module, false));
        let rows = rows.map(|name| (name, 0));
        let lora = [(format!("{EMBEDDING}.lora_embedding_A"), 1), (format!("{HEAD}.lora_B.weight"), 0)];
        rows.chain(lora).find_map(of)
    }

    /// The error of a file without the tensor `missing`.
    pub fn lacks(&self, missing: &str) -> Error {
        self.misnamed().unwrap_or_else(|| {
            Error::model(format!("the adapter does not fit this model: it lacks the tensor `{PREFIX}{missing}`")).with_hint("load the base that its adapter_config.json names as `base_model_name_or_path`; if that is this one, that file and the weights do not belong together")
        })
    }

    /// The error of names that match no module. PEFT loads such a file without a word, and the adapter changes nothing.
    fn misnamed(&self) -> Option<Error> {
        let stored = || self.stored.values().map(String::as_str);
        let (what, hint) = if stored().any(|name| name.contains("_orig_mod.")) {
            ("after a compiled model, with `_orig_mod.` in them", "save it from the model inside (model._orig_mod.save_pretrained), or take `_orig_mod.` out of the names".to_owned())
        } else if stored().any(|name| name.starts_with("module.")) {
            (
                "after a wrapper of PyTorch, with `module.` before them",
                "save it from the model inside (model.module.save_pretrained), or take `module.` off the names"
                    .to_owned(),
            )
        } else if stored().any(|name| !name.starts_with(PREFIX)) {
            ("without the prefix of peft", format!("save it with peft's save_pretrained, or put the prefix before the module's full name: `{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight`"))
        } else if stored().any(|name| !is_inside(name)) {
            (
                "after another class of model",
                format!(
                    "load the base that its adapter_config.json names; for the same base without a head (AutoModel) put `model.` behind `{PREFIX}` in the names"
                ),
            )
        } else {
            return None;
        };
        let first = stored().find(|name| !is_inside(name)).or(stored().next()).unwrap_or_default();
        Some(Error::model(format!("the adapter's tensors are named {what}, like `{first}`: expected names that begin with `{PREFIX}model.` or `{PREFIX}{HEAD}.`; peft would load them and change nothing")).with_hint(hint))
    }
}

/// Is this the name of something in a model with an output head?
fn is_inside(name: &str) -> bool {
    let module = name.strip_prefix(PREFIX).unwrap_or_default();
    module.starts_with("model.") || module.starts_with(HEAD)
}

/// Takes the adapter's name out of a tensor's name; returns both.
fn without_adapter(name: &str) -> (String, Option<String>) {
    let parts: Vec<&str> = name.split('.').collect();
    if let Some(at) = parts.iter().position(|part| *part == "modules_to_save").filter(|at| at + 2 < parts.len()) {
        let kept: Vec<&str> = parts[..at].iter().chain(&parts[at + 2..]).copied().collect();
        return (kept.join("."), Some(parts[at + 1].to_owned()));
    }
    let mark = parts.iter().enumerate().rev().find_map(|(at, part)| {
        let (_, ends) = MARKS.iter().find(|(mark, _)| mark == part)?;
        Some((at, *part, *ends))
    });
    let Some((at, mark, ends)) = mark else { return (name.to_owned(), None) };
    // Magnitudes are written without `.weight`, which they have in a running model.
    let is_magnitude = mark == "lora_magnitude_vector";
    let (end, adapter) = match parts[at + 1..] {
        [end] if ends.contains(&end) => (vec![end], None),
        [adapter] => (Vec::new(), Some(adapter.to_owned())),
        [adapter, end] if ends.contains(&end) => (vec![end], Some(adapter.to_owned())),
        ref rest => (rest.to_vec(), None),
    };
    let end = end.into_iter().filter(|end| !(is_magnitude && *end == "weight"));
    let kept: Vec<&str> = parts[..=at].iter().copied().chain(end).collect();
    (kept.join("."), adapter)
}

#[cfg(test)]
mod tests {
    use super::without_adapter;

    #[test]
    fn the_name_of_the_adapter_is_removed() {
        for (stored, short, adapter) in [
            ("a.q_proj.lora_A.weight", "a.q_proj.lora_A.weight", None),
            ("a.q_proj.lora_A.default.weight", "a.q_proj.lora_A.weight", Some("default")),
            ("a.q_proj.lora_B.mine.bias", "a.q_proj.lora_B.bias", Some("mine")),
            ("a.q_proj.lora_magnitude_vector", "a.q_proj.lora_magnitude_vector", None),
            ("a.q_proj.lora_magnitude_vector.mine.weight", "a.q_proj.lora_magnitude_vector", Some("mine")),
            ("e.lora_embedding_A.mine", "e.lora_embedding_A", Some("mine")),
            ("e.lora_embedding_A", "e.lora_embedding_A", None),
            ("lm_head.modules_to_save.mine.weight", "lm_head.weight", Some("mine")),
            ("lm_head.weight", "lm_head.weight", None),
        ] {
            assert_eq!(without_adapter(stored), (short.to_owned(), adapter.map(str::to_owned)), "{stored}");
        }
    }
}
