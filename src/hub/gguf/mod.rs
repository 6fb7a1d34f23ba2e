//! The GGUF container, version 3: settings and tensors in one file, as llama.cpp and Ollama read it.
//!
//! Leaves to others: the names and settings of a model (`model/gguf/`) and of an adapter
//! (`lora/gguf.rs`).
//!
//! Written by hand: crates that write GGUF belong to a tensor library of their own, and take its tensors.

mod blocks;
mod read;
mod splitter;
mod vocabulary;
mod write;

pub use blocks::BlockType;
pub use read::{is_gguf, Gguf};
pub use vocabulary::vocabulary;
pub use write::{write, Planned};

/// Tensors begin at multiples of this many bytes.
const ALIGNMENT: usize = 32;
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// The value of a setting. Narrower integers are read as 32-bit ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    /// Values of one kind.
    List(Vec<Value>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Settings in the order of the file.
pub type Settings = Vec<(String, Value)>;

impl Value {
    /// The code of this kind of value in the format.
    fn code(&self) -> u32 {
        match self {
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::Text(_) => 8,
            Value::List(_) => 9,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Any number, integer or float.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Value::U32(number) => Some(f64::from(number)),
            Value::I32(number) => Some(f64::from(number)),
            Value::F32(number) => Some(f64::from(number)),
            Value::U64(number) => Some(number as f64),
            Value::I64(number) => Some(number as f64),
            Value::F64(number) => Some(number),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn a_written_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let settings: Settings = vec![
            ("general.architecture".into(), "llama".into()),
            ("a".into(), Value::U32(7)),
            ("b".into(), Value::F32(1e-5)),
            ("c".into(), Value::Bool(true)),
            ("d".into(), Value::List(vec!["x".into(), "▁y".into()])),
            ("e".into(), Value::List(vec![Value::I32(-1)])),
        ];
        let x = Tensor::randn([3, 64], (Kind::Float, tch::Device::Cpu));
        let planned: Vec<Planned> = [BlockType::F32, BlockType::F16, BlockType::Bf16, BlockType::Q8_0]
            .into_iter()
            .map(|block| Planned { name: block.name().to_owned(), shape: vec![3, 64], block })
            .collect();
        write(&path, &settings, &planned, &mut |_| Ok(x.shallow_clone())).unwrap();
        let read = Gguf::open(&path).unwrap();
        assert_eq!(read.settings, settings);
        let expected = Vec::<f32>::try_from(x.flatten(0, -1)).unwrap();
        for Planned { name, shape, block } in planned {
            let actual = read.tensor(&name).unwrap();
            assert_eq!(actual.size(), shape);
            let actual = Vec::<f32>::try_from(actual.flatten(0, -1)).unwrap();
            assert!(block.holds(&expected, &actual), "{name}");
            let moved: Vec<f32> = actual.iter().map(|x| x * 1.02).collect();
            assert!(!block.holds(&expected, &moved), "{name}: the bound would pass anything");
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let planned = [Planned { name: "w".into(), shape: vec![2, 32], block: BlockType::F32 }];
        let x = Tensor::ones([2, 32], (Kind::Float, tch::Device::Cpu));
        let settings = vec![("k".to_owned(), Value::List(vec![Value::U32(1); 3]))];
        write(&path, &settings, &planned, &mut |_| Ok(x.shallow_clone())).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 3, 8, 20, 40, 80, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Gguf::open(&path).is_err(), "{length} bytes");
        }
        let mut absurd = bytes.clone();
        absurd[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, &absurd).unwrap();
        assert!(Gguf::open(&path).is_err());
    }
}
