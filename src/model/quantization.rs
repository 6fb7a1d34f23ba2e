//! Weights of 4 bits as transformers and bitsandbytes lay them out: `quantization_config` of
//! config.json, and the tensors that stand in a checkpoint for one quantised weight.

use crate::error::{Error, Kind, Result};
use crate::native::{Nf4, Scales};
use crate::{bail, hub::weights::Weights};
use serde_json::{json, Value};
use tch::{Device, Kind as Dtype, Tensor};

/// How the linear layers are quantised; embedding, norms, biases and output head never are,
/// as in transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Whether the scales are quantised too (`bnb_4bit_use_double_quant`).
    pub double_quant: bool,
}

/// What follows the weight's name in the names of its parts.
const STATE: &str = "quant_state.bitsandbytes__nf4";
const PARTS: [&str; 5] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map", STATE];

impl Quantization {
    /// For `bnb_4bit_quant_type` and `bnb_4bit_use_double_quant`.
    pub fn new(quant_type: &str, double_quant: bool) -> Result<Self> {
        match quant_type {
            "nf4" => Ok(Quantization { double_quant }),
            "fp4" => {
                bail!(Kind::Input, "bnb_4bit_quant_type: fp4 is not supported, only nf4"; hint: "nf4 loses less for weights that are normally distributed; leave the option out")
            }
            other => bail!(Kind::Input, "bnb_4bit_quant_type: expected \"nf4\", found \"{other}\""),
        }
    }

    /// Reads `quantization_config`; refuses what bitsandbytes' NF4 is not.
    pub fn from_json(config: &Value) -> Result<Self> {
        let method = config.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
        let flag = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
        if method != "bitsandbytes" || !flag("load_in_4bit") {
            let method = if method == "bitsandbytes" { "bitsandbytes, 8 bit" } else { method };
            bail!(Kind::Model, "the checkpoint is quantised ({method}): expected f32, f16 or bf16 weights, or bitsandbytes' nf4"; hint: "load the unquantised model of the same name");
        }
        let text =
            |name: &str, default: &'static str| config.get(name).and_then(Value::as_str).unwrap_or(default).to_owned();
        let (quant_type, storage) = (text("bnb_4bit_quant_type", "fp4"), text("bnb_4bit_quant_storage", "uint8"));
        if quant_type != "nf4" || storage != "uint8" {
            bail!(Kind::Model, "the checkpoint is quantised to {quant_type} stored as {storage}: expected nf4 stored as uint8"; hint: "load the unquantised model of the same name with load_in_4bit: true");
        }
        Ok(Quantization { double_quant: flag("bnb_4bit_use_double_quant") })
    }

    /// `quantization_config` as transformers writes it.
    pub fn to_json(self, compute_dtype: Dtype) -> Value {
        json!({
            "_load_in_4bit": true,
            "_load_in_8bit": false,
            "bnb_4bit_compute_dtype": torch_name(compute_dtype),
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": self.double_quant,
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": null,
            "llm_int8_threshold": 6.0,
            "load_in_4bit": true,
            "load_in_8bit": false,
            "quant_method": "bitsandbytes",
        })
    }
}

/// The name that torch has for a dtype, as config.json spells it.
pub fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BFloat16 => "bfloat16",
        Dtype::Half => "float16",
        Dtype::Double => "float64",
        _ => "float32",
    }
}

/// The weight that a tensor's name says it is a part of: `….q_proj.weight` of
/// `….q_proj.weight.absmax`.
pub fn weight_of_part(name: &str) -> Option<&str> {
    PARTS.iter().find_map(|part| name.strip_suffix(part)?.strip_suffix('.'))
}

/// Does the checkpoint hold the weight `name` in 4 bits?
pub fn is_quantized(weights: &Weights, name: &str) -> bool {
    weights.info(&format!("{name}.{STATE}")).is_some()
}

/// The tensors of a checkpoint that stand for the quantised weight `name`; `dtype` is that of
/// the matrix it was made from.
pub fn parts(name: &str, weight: &Nf4, dtype: Dtype) -> Result<Vec<(String, Tensor)>> {
    let mut state = json!({
        "quant_type": "nf4",
        "blocksize": weight.block,
        "dtype": torch_name(dtype),
        "shape": weight.shape,
    });
    let part = |part: &str, tensor: &Tensor| (format!("{name}.{part}"), tensor.shallow_clone());
    let mut parts = vec![(name.to_owned(), weight.codes.shallow_clone()), part("quant_map", &Nf4::values()?)];
    match &weight.scales {
        Scales::Plain(absmax) => parts.push(part("absmax", absmax)),
        Scales::Nested { codes, map, absmax, offset, block } => {
            parts.extend([part("absmax", codes), part("nested_quant_map", map), part("nested_absmax", absmax)]);
            state["nested_blocksize"] = json!(block);
            state["nested_dtype"] = json!("float32");
            state["nested_offset"] = json!(f64::from(*offset));
        }
    }
    parts.push(part(STATE, &Tensor::f_from_slice(state.to_string().as_bytes())?));
    Ok(parts)
}

/// Reads the quantised weight `name`, whose dense shape must be `shape`. On the CPU its parts
/// stay in the mapped file.
pub fn read(weights: &Weights, name: &str, shape: [i64; 2], device: Device) -> Result<Nf4> {
    read_parts(weights, name, shape)
        .and_then(|weight| weight.to_device(device))
        .map_err(|error| error.context(format!("tensor `{name}`")))
}

fn read_parts(weights: &Weights, name: &str, shape: [i64; 2]) -> Result<Nf4> {
    let part = |part: &str| -> Result<Tensor> { weights.tensor(&format!("{name}.{part}")) };
    let state = State::parse(&Vec::<u8>::try_from(part(STATE)?.f_view([-1])?)?)?;
    if state.shape != shape {
        let found = state.shape;
        return Err(Error::model(format!("expected shape {shape:?}, found {found:?} in its {STATE}"))
            .with_hint("the checkpoint does not belong to its config.json"));
    }
    check_values(&part("quant_map")?)?;
    let scales = match state.nested {
        None => Scales::Plain(part("absmax")?),
        Some((offset, block)) => Scales::Nested {
            codes: part("absmax")?,
            map: part("nested_quant_map")?,
            absmax: part("nested_absmax")?,
            offset,
            block,
        },
    };
    Nf4::new(weights.tensor(name)?, scales, state.block, shape)
}

/// The values are built in: a checkpoint with others would be read as other numbers.
fn check_values(found: &Tensor) -> Result<()> {
    let expected = Nf4::values()?;
    let same = found.size() == expected.size() && found.f_kind()? == Dtype::Float && {
        found.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])? < 1e-6
    };
    match same {
        true => Ok(()),
        false => Err(Error::model("quant_map: expected the 16 values of nf4, found others")),
    }
}

/// What `quant_state` says, a JSON text in a tensor of bytes.
struct State {
    block: i64,
    shape: [i64; 2],
    /// Offset and block size of nested scales.
    nested: Option<(f32, i64)>,
}

impl State {
    fn parse(bytes: &[u8]) -> Result<State> {
        let json: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::model(format!("{STATE}: expected JSON, found what is none: {error}")))?;
        let missing = |name: &str| Error::model(format!("{STATE}: `{name}` is missing or no number"));
        let whole = |name: &str| json.get(name).and_then(Value::as_i64).ok_or_else(|| missing(name));
        let size = |at: usize| json["shape"].get(at).and_then(Value::as_i64).filter(|size| (1..1 << 31).contains(size));
        let shape = match (size(0), size(1), size(2)) {
            (Some(rows), Some(columns), None) => [rows, columns],
            _ => return Err(missing("shape")),
        };
        let nested = match json.get("nested_blocksize") {
            None => None,
            Some(_) => {
                let offset = json.get("nested_offset").and_then(Value::as_f64);
                Some((offset.ok_or_else(|| missing("nested_offset"))? as f32, whole("nested_blocksize")?))
            }
        };
        Ok(State { block: whole("blocksize")?, shape, nested })
    }
}
