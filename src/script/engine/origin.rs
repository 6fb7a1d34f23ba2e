//! Where a run of this script comes from, for its record: see `train::origin`.

use crate::error::Result;
use crate::model::{device, Decoder};
use crate::script::engine::state::State;
use crate::train::origin::{Machine, Model, Origin, Program, Script};
use crate::{files, lora, threads};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The device and the dtype of a run without a model.
const NONE: &str = "none";

/// Of a run that is about to begin, whose `out` the script calls `out`.
pub fn of(state: &State, model: Option<&lora::Model>, out: &Path) -> Result<Origin> {
    let decoder = model.map(lora::Model::decoder);
    let hashed = |path: PathBuf| Some((path.display().to_string(), sha256(&path).ok()?));
    Ok(Origin {
        format: Origin::format(),
        script: script(state),
        set: state.set_values(),
        folder: std::env::current_dir().unwrap_or_default(),
        out: out.to_path_buf(),
        program: Program::current()?,
        machine: Machine {
            device: decoder.map_or(NONE.to_owned(), |decoder| device::device_name(decoder.device).to_string()),
            dtype: decoder.map_or(NONE.to_owned(), Decoder::weights_dtype),
            threads: i32::try_from(threads::count()).unwrap_or(i32::MAX),
            processes: state.processes().map(|processes| processes.size()),
        },
        model: model.map(of_model).transpose()?,
        files: state.files_read().into_iter().filter_map(hashed).collect(),
    })
}

fn of_model(model: &lora::Model) -> Result<Model> {
    Ok(Model {
        name: model.name.clone(),
        folder: model.folder.clone().unwrap_or_default(),
        fingerprint: model.fingerprint()?,
        // A chat template that the script sets is in the script.
        tokenizer: model.tokenizer().ok().map(|tokenizer| tokenizer.files_fingerprint().to_owned()),
    })
}

/// `None` where the session ran no file, or runs line by line.
fn script(state: &State) -> Option<Script> {
    let folder = state.folder().filter(|_| !state.in_conversation())?;
    let below = |(name, text): (String, String)| {
        let path = Path::new(&name).strip_prefix(&folder).ok()?.display().to_string();
        Some((path, text))
    };
    let modules: BTreeMap<String, String> = state.modules().into_iter().filter_map(below).collect();
    Some(Script { path: state.script().into(), text: state.source(), modules })
}

/// A script that trains many times reads its data once: hashes are kept as long as a file is the same.
fn sha256(path: &Path) -> Result<String> {
    type Seen = HashMap<PathBuf, (Option<SystemTime>, String)>;
    thread_local! {
        static SEEN: RefCell<Seen> = RefCell::default();
    }
    let when = std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let known = SEEN.with_borrow(|seen| seen.get(path).filter(|(then, _)| *then == when).map(|(_, hash)| hash.clone()));
    if let Some(hash) = known {
        return Ok(hash);
    }
    let hash = files::sha256(path)?;
    SEEN.with_borrow_mut(|seen| seen.insert(path.to_path_buf(), (when, hash.clone())));
    Ok(hash)
}
