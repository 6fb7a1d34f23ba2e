//! Safetensors: reading back, mapping, saving, and every way in which a file can be damaged.

use lorhai::hub::weights::{save, Dtype, Weights, INDEX_FILE, SINGLE_FILE};
use lorhai::Error;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file with this header text, and `data` zero bytes after it.
fn write(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(path, bytes).unwrap();
}

fn entry(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn refused(actual: lorhai::Result<Weights>) -> Error {
    match actual {
        Ok(weights) => panic!("opened, with {} tensors", weights.len()),
        Err(error) => error,
    }
}

#[test]
fn every_dtype_is_read_back_bit_for_bit() {
    let folder = folder();
    let kinds =
        [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double, Kind::Int64, Kind::Int, Kind::Uint8, Kind::Bool];
    let values = Tensor::from_slice(&[0.0, 1.0, 2.5, 130.0, 7.0, 65.0]).reshape([2, 3]);
    let mut tensors: Vec<(String, Tensor)> =
        kinds.iter().map(|kind| (format!("t.{kind:?}"), values.to_kind(*kind))).collect();
    tensors.push(("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))));
    tensors.push(("scalar".into(), Tensor::from(3.5_f32)));
    tensors.push(("transposed".into(), values.to_kind(Kind::Float).tr()));
    save(&folder.path().join(SINGLE_FILE), &tensors, &[("made_by", "test")]).unwrap();

    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.len(), tensors.len());
    assert!(weights.names().is_sorted());
    for (name, tensor) in &tensors {
        let back = weights.tensor(name).unwrap();
        assert_eq!(back.size(), tensor.size(), "{name}");
        assert_eq!(back.kind(), tensor.kind(), "{name}");
        assert!(back.equal(tensor), "{name}");
        assert_eq!(weights.info(name).unwrap().shape, tensor.size());
    }
    assert_eq!(weights.info("t.BFloat16").unwrap().dtype, Dtype::BF16);
}

#[test]
fn the_same_tensors_give_the_same_bytes_in_any_order() {
    let folder = folder();
    let make = |name: &str| (name.to_string(), Tensor::from_slice(&[1_f32, 2.0]));
    let (one, two) = (folder.path().join("one.safetensors"), folder.path().join("two.safetensors"));
    save(&one, &[make("a"), make("b"), make("c")], &[]).unwrap();
    save(&two, &[make("c"), make("a"), make("b")], &[]).unwrap();
    let bytes = fs::read(&one).unwrap();
    assert_eq!(bytes, fs::read(&two).unwrap());
    assert!(String::from_utf8_lossy(&bytes).contains(r#"{"__metadata__":{"format":"pt"},"a":{"#));
}

#[test]
fn a_duplicate_name_is_not_saved() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let tensor = || ("a".to_string(), Tensor::from_slice(&[1_f32]));
    assert!(save(&path, &[tensor(), tensor()], &[]).is_err());
    assert!(!path.exists());
}

#[test]
fn writing_to_a_mapped_tensor_does_not_change_the_file() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    save(&path, &[("w".into(), Tensor::from_slice(&[1_f32, 2.0, 3.0]))], &[]).unwrap();
    let before = fs::read(&path).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    let mut tensor = weights.tensor("w").unwrap();
    let _ = tensor.fill_(9.0);
    assert!(tensor.equal(&Tensor::from_slice(&[9_f32, 9.0, 9.0])));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn tensors_share_the_pages_of_the_file_and_keep_them() {
    let folder = folder();
    let tensor = Tensor::arange(1000, (Kind::Float, Device::Cpu));
    save(&folder.path().join(SINGLE_FILE), &[("w".into(), tensor.shallow_clone())], &[]).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    let (one, two) = (weights.tensor("w").unwrap(), weights.tensor("w").unwrap());
    assert_eq!(one.data_ptr(), two.data_ptr());
    drop((weights, two));
    // A view keeps the storage alive without the tensor, as a node of a graph does.
    let tail = one.narrow(0, 900, 100);
    drop(one);
    assert!(is_mapped(&folder.path().join(SINGLE_FILE)));
    assert!(tail.equal(&tensor.narrow(0, 900, 100)));
    drop(tail);
    assert!(!is_mapped(&folder.path().join(SINGLE_FILE)));
}

/// Whether Linux lists the file as mapped.
fn is_mapped(path: &Path) -> bool {
    let name = path.canonicalize().unwrap();
    fs::read_to_string("/proc/self/maps").unwrap().contains(name.to_str().unwrap())
}

#[test]
fn a_tensor_at_an_odd_byte_is_read() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    let header = format!(r#"{{"a":{},"b":{}}}"#, entry("U8", "[1]", 0, 1), entry("F32", "[2]", 1, 9));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.push(7);
    bytes.extend(1.5_f32.to_le_bytes());
    bytes.extend((-2.0_f32).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    assert!(weights.tensor("b").unwrap().equal(&Tensor::from_slice(&[1.5_f32, -2.0])));
}

#[test]
fn shards_open_as_one_set() {
    let folder = folder();
    sharded(folder.path(), r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#);
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    assert!(weights.tensor("b").unwrap().equal(&Tensor::from_slice(&[2_f32])));
}

fn sharded(folder: &Path, index: &str) {
    let one = |value: f32| Tensor::from_slice(&[value]);
    save(&folder.join("one.safetensors"), &[("a".into(), one(1.0))], &[]).unwrap();
    save(&folder.join("two.safetensors"), &[("b".into(), one(2.0))], &[]).unwrap();
    fs::write(folder.join(INDEX_FILE), index).unwrap();
}

#[test]
fn broken_indexes_are_refused() {
    let cases = [
        (r#"{"weight_map":{"a":"one.safetensors","b":"gone.safetensors"}}"#, "expected the shard `gone.safetensors`"),
        (r#"{"weight_map":{"a":"one.safetensors","c":"two.safetensors"}}"#, "expected tensor `c`"),
        (r#"{"weight_map":{"a":"two.safetensors","b":"one.safetensors"}}"#, "found it in"),
        (r#"{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}"#, "tensor `a` appears twice"),
        (r#"{"weight_map":{"a":"../one.safetensors"}}"#, "expected the bare name"),
        (r#"{"weight_map":{"a":"/etc/passwd"}}"#, "expected the bare name"),
        (r#"{"weight_map":{"a":""}}"#, "expected the bare name"),
        (r#"{"weight_map":{"a":"one.safetensors\u0000"}}"#, "expected the bare name"),
        (r#"{"weight_map":{}}"#, "weight_map is empty"),
        (r#"{"weights":{}}"#, "missing field `weight_map`"),
        (r#"{"weight_map":["one.safetensors"]}"#, "map from tensor names"),
        (r#"{"weight_map":{"a":"#, "EOF"),
        ("", "EOF"),
    ];
    for (index, expected) in cases {
        let folder = folder();
        sharded(folder.path(), index);
        let error = refused(Weights::open(folder.path())).to_string();
        assert!(error.contains(expected), "{index}\n{error}");
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = folder();
    sharded(folder.path(), r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#);
    let both: Vec<(String, Tensor)> = ["a", "b"].map(|name| (name.into(), Tensor::from_slice(&[2_f32]))).into();
    save(&folder.path().join("two.safetensors"), &both, &[]).unwrap();
    let error = refused(Weights::open(folder.path())).to_string();
    assert!(error.contains("tensor `a` is also in"), "{error}");
}

/// A description, the content of the file, and what the error must say.
type Broken = (&'static str, Vec<u8>, &'static str);

fn broken_files() -> Vec<Broken> {
    let file = |header: String, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let one = |entry: String| format!(r#"{{"w":{entry}}}"#);
    let good = || one(entry("F32", "[2]", 0, 8));
    let two = |first: String, second: String| format!(r#"{{"a":{first},"b":{second}}}"#);
    let mut not_text = file(good(), 8);
    not_text[10] = 0xff;
    vec![
        ("empty", vec![], "is empty"),
        ("shorter than the length", vec![1, 0, 0], "expected at least 8 bytes"),
        ("length of zero", file(String::new(), 0), "EOF"),
        ("huge length", [0xff; 16].to_vec(), "expected a header of at most"),
        ("length above the cap", 100_000_001_u64.to_le_bytes().to_vec(), "expected a header of at most"),
        ("length past the end", [100_u64.to_le_bytes().as_slice(), b"{}"].concat(), "truncated"),
        ("not UTF-8", not_text, "not UTF-8 at byte 10"),
        ("not JSON", file("weights!".into(), 0), "broken safetensors header"),
        ("an array", file("[1, 2]".into(), 0), "expected a map"),
        ("text after the header", file(format!("{} x", good()), 8), "trailing characters"),
        ("deep nesting", file(one("[".repeat(100_000)), 0), "tensor `w`"),
        ("no shape", file(one(r#"{"dtype":"F32","data_offsets":[0,8]}"#.into()), 8), "missing field `shape`"),
        ("negative shape", file(one(entry("F32", "[-2]", 0, 8)), 8), "tensor `w`: invalid value"),
        ("fractional shape", file(one(entry("F32", "[1.5]", 0, 8)), 8), "tensor `w`: invalid type"),
        ("unknown dtype", file(one(entry("F33", "[2]", 0, 8)), 8), "unknown variant `F33`"),
        ("duplicate name", file(format!(r#"{{"w":{0},"w":{0}}}"#, entry("F32", "[2]", 0, 8)), 8), "`w` appears twice"),
        ("duplicate metadata", file(r#"{"__metadata__":{},"__metadata__":{}}"#.into(), 0), "appears twice"),
        ("metadata not text", file(r#"{"__metadata__":{"a":1}}"#.into(), 0), "expected a string"),
        (
            "control character",
            file(format!(r#"{{"a\u001b[2J":{}}}"#, entry("F32", "[2]", 0, 8)), 8),
            "not a tensor name",
        ),
        ("shape overflow", file(one(entry("F32", "[4294967296,4294967296,16]", 0, 8)), 8), "is too large"),
        ("zero times huge", file(one(entry("F32", "[0,18446744073709551615]", 0, 0)), 0), "is too large"),
        ("strides overflow", file(one(entry("F32", "[4294967296,0,4294967296]", 0, 0)), 0), "is too large"),
        ("too few bytes for the shape", file(one(entry("F32", "[2]", 0, 4)), 4), "expected 8 bytes"),
        ("offsets backwards", file(one(entry("F32", "[2]", 8, 0)), 8), "found offsets 8 to 0"),
        ("offsets huge", file(one(entry("U8", "[1]", u64::MAX - 1, u64::MAX)), 1), "out of range"),
        ("overlap", file(two(entry("U8", "[4]", 0, 4), entry("U8", "[4]", 2, 6)), 6), "overlaps"),
        ("gap", file(two(entry("U8", "[4]", 0, 4), entry("U8", "[4]", 8, 12)), 12), "leaves a gap"),
        ("truncated", file(good(), 7), "truncated"),
        ("bytes after the end", file(good(), 9), "1 bytes follow the last tensor"),
        (
            "git-lfs pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(),
            "git lfs pull",
        ),
        ("zip pickle", b"PK\x03\x04aaaaaaaaaaaaaaa".to_vec(), "pickle"),
        ("GGUF", b"GGUF\x03\0\0\0aaaaaaaaaaaaa".to_vec(), "GGUF"),
        ("web page", b"<!DOCTYPE html><html></html>".to_vec(), "not a safetensors file"),
    ]
}

#[test]
fn every_broken_file_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    for (case, bytes, expected) in broken_files() {
        fs::write(&path, bytes).unwrap();
        let error = refused(Weights::open(folder.path())).to_string();
        assert!(error.contains(expected), "{case}: {error}");
        assert!(error.contains(SINGLE_FILE), "{case}: {error}");
    }
}

#[test]
fn every_truncation_of_a_good_file_is_detected() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    save(&path, &[("w".into(), Tensor::from_slice(&[1_f32, 2.0, 3.0]))], &[]).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        refused(Weights::open(folder.path()));
    }
}

#[test]
fn folders_without_weights_say_what_they_hold() {
    let cases = [
        ("pytorch_model.bin", "save_pretrained"),
        ("model.gguf", "GGUF"),
        ("weights.safetensors", "rename `weights.safetensors`"),
        ("readme.md", "config.json"),
    ];
    for (name, expected) in cases {
        let folder = folder();
        fs::write(folder.path().join(name), "x").unwrap();
        let error = refused(Weights::open(folder.path())).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let error = refused(Weights::open(Path::new("/nowhere/at/all"))).to_string();
    assert!(error.contains("no such folder"), "{error}");
}

#[test]
fn a_folder_or_pipe_in_place_of_the_file_is_refused() {
    let folder = folder();
    let error = refused(Weights::open_files(&[folder.path().to_path_buf()])).to_string();
    assert!(error.contains("it is a folder"), "{error}");
    let pipe = folder.path().join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = refused(Weights::open_files(&[pipe])).to_string();
    assert!(error.contains("expected a regular file"), "{error}");
}

#[test]
fn missing_names_and_dtypes_are_named() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    write(&path, &format!(r#"{{"layers.0.q_proj.weight":{}}}"#, entry("F8_E4M3", "[2]", 0, 2)), 2);
    let weights = Weights::open(folder.path()).unwrap();
    let error = weights.tensor("layers.0.q_porj.weight").unwrap_err().to_string();
    assert!(error.contains("the most similar name is `layers.0.q_proj.weight`"), "{error}");
    let error = weights.tensor("layers.0.q_proj.weight").unwrap_err().to_string();
    assert!(error.contains("found dtype F8_E4M3") && error.contains("unquantised"), "{error}");
}

#[test]
fn a_boolean_of_two_is_refused() {
    let folder = folder();
    let path = folder.path().join(SINGLE_FILE);
    write(&path, &format!(r#"{{"mask":{}}}"#, entry("BOOL", "[2]", 0, 2)), 2);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = 2;
    fs::write(&path, bytes).unwrap();
    let error = Weights::open(folder.path()).unwrap().tensor("mask").unwrap_err().to_string();
    assert!(error.contains("stored as 0 or 1"), "{error}");
}
