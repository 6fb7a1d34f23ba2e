//! The files that the mistakes need and that a script cannot write itself, by name.

use std::fs;
use std::path::Path;

/// Puts the fixture called `name` into the folder `work`.
pub fn put(name: &str, work: &Path) {
    match name {
        "tiny" => link(&source("scripts/tiny"), &work.join("scripts/tiny")),
        "model" => copy(&source("tests/golden/models/qwen2_tied"), &work.join("model")),
        "tokenizer" => {
            for name in ["tokenizer.json", "tokenizer_config.json"] {
                fs::copy(source("scripts/tiny").join(name), work.join("model").join(name)).unwrap();
            }
        }
        "damaged generation settings" => {
            fs::write(work.join("model/generation_config.json"), r#"{"do_sample": true, "top_p": "high"}"#).unwrap();
        }
        "sharded model" => copy(&source("tests/golden/models/qwen2_sharded"), &work.join("model")),
        "other adapter" => copy(&source("tests/golden/models/llama_head_dim/adapter"), &work.join("adapter")),
        "adapter" => copy(&source("tests/golden/models/qwen2_tied/adapter"), &work.join("adapter")),
        "adapter of another vocabulary" => {
            copy(&source("tests/golden/models/embedding_adapters/resized_tied"), &work.join("adapter"))
        }
        "pickled adapter" => {
            copy(&source("tests/golden/models/qwen2_tied/adapter"), &work.join("adapter"));
            let weights = work.join("adapter/adapter_model.safetensors");
            fs::rename(weights, work.join("adapter/adapter_model.bin")).unwrap();
        }
        "named pipe" => pipe(&work.join("pipe")),
        "latin-1 file" => fs::write(work.join("latin.txt"), b"caf\xe9\n").unwrap(),
        "weights cut short" => change_weights(work, |bytes| bytes.truncate(bytes.len() - 100)),
        "weights cut in the header" => change_weights(work, |bytes| bytes.truncate(200)),
        "empty weights" => change_weights(work, Vec::clear),
        "huge header length" => change_weights(work, |bytes| bytes[..8].fill(0xff)),
        "header that is not JSON" => change_weights(work, |bytes| bytes[8] = b'['),
        "pickle weights" => fs::rename(work.join("model/model.safetensors"), work.join("model/model.bin")).unwrap(),
        "no weights" => fs::remove_file(work.join("model/model.safetensors")).unwrap(),
        "missing tensor" => rename_tensor(work, "model.norm.weight", "model.morn.weight"),
        "twice one tensor" => rename_tensor(work, "layers.1.mlp.up_proj.weight", "layers.0.mlp.up_proj.weight"),
        "integer tensor" => change_header(work, "\"F32\"", "\"I32\""),
        "unknown dtype" => change_header(work, "\"F32\"", "\"F31\""),
        "swapped shape" => change_header(work, "[64,32]", "[32,64]"),
        "adapter without weights" => {
            copy(&source("tests/golden/models/qwen2_tied/adapter"), &work.join("adapter"));
            fs::remove_file(work.join("adapter/adapter_model.safetensors")).unwrap();
        }
        "adapter cut short" => {
            let path = work.join("adapter/adapter_model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }
        "missing shard" => {
            let shards = fs::read_dir(work.join("model")).unwrap().map(|entry| entry.unwrap().path());
            let last = shards.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).max().unwrap();
            fs::remove_file(last).unwrap();
        }
        "broken parquet" => fs::write(work.join("rows.parquet"), b"PAR1 this is not parquet PAR1").unwrap(),
        "past runs" => past_runs(work),
        other => panic!("no fixture is called `{other}`"),
    }
}

/// One good single run, and folders with one thing wrong each.
fn past_runs(work: &Path) {
    let sweep = r#"{"format": "lorhai sweep 1", "identity": {}, "grid": {"rank": [2, 4]}}"#;
    let result = r#"{"fingerprint": "a", "finished": {"trainable_params": 8, "train_loss": 1.5, "eval_loss": 2.0,
        "tokens": 100, "seconds": 1.0, "metrics": {}}}"#;
    let typed = r#"{"format": "lorhai origin 1", "script": null, "set": [], "folder": "/", "out": "runs/typed",
        "program": {"version": "0", "libtorch": "0", "sha256": ""}, "files": {},
        "machine": {"device": "cpu", "dtype": "f32", "threads": 1},
        "model": {"name": "m", "folder": "m", "fingerprint": "", "tokenizer": null}}"#;
    for (path, text) in [
        ("one/run.json", r#"{"settings": {"train": {"lr": 0.5}}, "status": "finished", "metrics": {"train_loss": 1}}"#),
        ("typed/run.json", r#"{"settings": {}, "status": "finished", "metrics": {}}"#),
        ("typed/origin.json", typed),
        ("unsaid/run.json", r#"{"settings": {}, "status": "finished", "metrics": {}}"#),
        ("unsaid/origin.json", r#"{"format": "lorhai origin 1", "script": null, "set": []}"#),
        ("damaged/run.json", r#"{"settings": {"#),
        ("other/run.json", r#"{"distance": 42}"#),
        ("sweep/sweep.json", sweep),
        ("sweep/rank-2/config.json", r#"{"fingerprint": "a"}"#),
        ("sweep/rank-2/result.json", result),
        ("sweep/rank-4/config.json", r#"{"fingerprint": "a", "settings": {}}"#),
        ("sweep/rank-4/result.json", r#"{"fingerprint": "a"}"#),
        ("begun/sweep.json", sweep),
        ("later/sweep.json", r#"{"format": "lorhai sweep 9"}"#),
        ("told/sweep.json", sweep),
        ("told/rank-2/result.json", result),
        ("told/about.json", r#"{"title": 3}"#),
    ] {
        let path = work.join("runs").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn source(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder of links: quick, and no case can change what they lead to, as files are replaced
/// and never written in place.
fn link(from: &Path, to: &Path) {
    each_file(from, to, |from, to| std::os::unix::fs::symlink(from, to).unwrap());
}

fn copy(from: &Path, to: &Path) {
    each_file(from, to, |from, to| {
        fs::copy(from, to).unwrap();
    });
}

fn each_file(from: &Path, to: &Path, put: fn(&Path, &Path)) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_file() {
            put(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

fn pipe(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the name ends with a zero and lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn change_weights(work: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = work.join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn rename_tensor(work: &Path, old: &str, new: &str) {
    change_header(work, old, new);
}

/// Replaces the first `old` in the header by `new`, which is as long.
fn change_header(work: &Path, old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    change_weights(work, |bytes| {
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).expect("the header has it");
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    });
}
