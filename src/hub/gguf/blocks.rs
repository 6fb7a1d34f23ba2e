//! The types of tensors in a GGUF file: floats, or blocks of integers that share a scale.

use half::{bf16, f16};

/// Numbers in one block of Q8_0.
const BLOCK: usize = 32;
/// A scale in f16, then a signed byte for each number.
const BLOCK_BYTES: usize = 2 + BLOCK;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockType {
    F32,
    F16,
    Bf16,
    /// 32 signed bytes times one f16 scale: 8.5 bits a number.
    Q8_0,
}

impl BlockType {
    pub const ALL: [BlockType; 4] = [BlockType::F32, BlockType::F16, BlockType::Bf16, BlockType::Q8_0];

    pub fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "f32",
            BlockType::F16 => "f16",
            BlockType::Bf16 => "bf16",
            BlockType::Q8_0 => "q8_0",
        }
    }

    /// The code of this type in the format.
    pub fn code(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q8_0 => 8,
            BlockType::Bf16 => 30,
        }
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|block| block.code() == code)
    }

    /// `general.file_type` of a file whose matrices are of this type.
    pub fn file_type(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q8_0 => 7,
            BlockType::Bf16 => 32,
        }
    }

    /// Whether this type can store rows of this length: a block lies within one row.
    pub fn fits(self, row: i64) -> bool {
        self != BlockType::Q8_0 || row % BLOCK as i64 == 0
    }

    /// The bytes of so many numbers.
    pub fn bytes(self, numbers: usize) -> usize {
        match self {
            BlockType::F32 => 4 * numbers,
            BlockType::F16 | BlockType::Bf16 => 2 * numbers,
            BlockType::Q8_0 => numbers / BLOCK * BLOCK_BYTES,
        }
    }

    pub fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            BlockType::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            BlockType::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            BlockType::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            BlockType::Q8_0 => numbers.chunks(BLOCK).flat_map(encode_block).collect(),
        }
    }

    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            BlockType::F32 => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            BlockType::F16 => bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
            BlockType::Bf16 => bytes.as_chunks().0.iter().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
            BlockType::Q8_0 => bytes.as_chunks::<BLOCK_BYTES>().0.iter().flat_map(decode_block).collect(),
        }
    }

    /// Whether `read` differs from `source` by no more than the rounding of this type.
    pub fn holds(self, source: &[f32], read: &[f32]) -> bool {
        let near = |source: &f32, read: &f32, bound: f32| (source - read).abs() <= bound;
        source.len() == read.len()
            && match self {
                BlockType::F32 => source == read,
                // Half a unit in the last place: 10 and 7 bits of fraction.
                BlockType::F16 => pairs(source, read).all(|(x, y)| near(x, y, x.abs() / 2048.0 + 3e-8)),
                BlockType::Bf16 => pairs(source, read).all(|(x, y)| near(x, y, x.abs() / 256.0 + 1e-38)),
                BlockType::Q8_0 => source.chunks(BLOCK).zip(read.chunks(BLOCK)).all(|(source, read)| {
                    // Half a step of the block, plus the rounding of its scale to f16.
                    let absmax = absmax(source);
                    let bound = absmax / 254.0 * 1.001 + absmax / 2048.0 + 4e-6;
                    pairs(source, read).all(|(x, y)| near(x, y, bound))
                }),
            }
    }
}

fn pairs<'a>(left: &'a [f32], right: &'a [f32]) -> impl Iterator<Item = (&'a f32, &'a f32)> {
    left.iter().zip(right)
}

fn absmax(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| x.abs().max(most))
}

/// As in ggml's reference: divides by the unrounded scale and rounds halves away from zero.
fn encode_block(numbers: &[f32]) -> Vec<u8> {
    let scale = absmax(numbers) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let codes = numbers.iter().map(|x| (x * inverse).round() as i8 as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(codes).collect()
}

fn decode_block(bytes: &[u8; BLOCK_BYTES]) -> impl Iterator<Item = f32> + '_ {
    let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    bytes[2..].iter().map(move |code| f32::from(*code as i8) * scale)
}
