//! 4-bit weights in the layout of transformers and bitsandbytes: `quantization_config` of config.json, and
//! the tensors that represent one quantised weight in a checkpoint.

use super::linear::Weight;
use crate::error::{Error, Kind, Result};
use crate::native::{Nf4, Scales};
use crate::options;
use crate::options::{Mismatch, OptionSet, OptionType, Refusal, Source, Table};
use crate::{bail, hub::weights::Weights};
use serde_json::{json, Value};
use tch::{Device, Kind as Dtype, Tensor};

/// How the linear layers are quantised. As in transformers, embedding, norms and biases never are, and the
/// output head only if it is in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Whether the scales are quantised too (`bnb_4bit_use_double_quant`).
    pub double_quant: bool,
}

options! {
    /// transformers' BitsAndBytesConfig.
    #[derive(Debug)]
    struct QuantizationOptions {
        /// Quantises the linear layers to 4-bit and freezes them (QLoRA). Embedding, norms and output head stay in `dtype`,
        /// which is also what is computed in. A checkpoint that bitsandbytes quantised to nf4 needs no option.
        load_in_4bit: bool = false;
        /// The data type of the 4-bit values; Python's default is "fp4".
        bnb_4bit_quant_type: QuantType = QuantType::Nf4;
        /// Whether the scales are quantised too.
        bnb_4bit_use_double_quant: bool = false;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuantType {
    Nf4,
}

impl OptionType for QuantType {
    fn type_name() -> String {
        "string".to_owned()
    }
    fn choices() -> &'static [&'static str] {
        &["nf4"]
    }
    fn from_value(value: &options::Value) -> std::result::Result<Self, Mismatch> {
        let mismatch = || Mismatch::of::<Self>(value);
        match value.as_str() {
            Some("nf4") => Ok(QuantType::Nf4),
            Some("fp4") => Err(mismatch().with_hint(
                "fp4 is not supported, and nf4 loses less for weights that are normally distributed: leave the option out",
            )),
            _ => Err(mismatch()),
        }
    }
    fn to_value(&self) -> options::Value {
        options::Value::Text("nf4".to_owned())
    }
}

/// Given as the options of transformers' BitsAndBytesConfig.
impl OptionSet for Option<Quantization> {
    fn table() -> &'static Table {
        QuantizationOptions::table()
    }

    fn update(&mut self, source: &mut dyn Source) -> Result<Vec<&'static str>> {
        let mut options = QuantizationOptions::default();
        let names = options.update(source)?;
        if let Some(first) = names.first() {
            if !names.contains(&"load_in_4bit") {
                let refusal = Refusal::new(*first, "`load_in_4bit` beside it", "it alone");
                return Err(source.refuse(refusal.with_hint("it is for 4-bit models: add load_in_4bit: true")));
            }
            *self = options.load_in_4bit.then_some(Quantization { double_quant: options.bnb_4bit_use_double_quant });
        }
        Ok(names)
    }

    fn values(&self) -> Vec<(&'static str, options::Value)> {
        let options = QuantizationOptions {
            load_in_4bit: self.is_some(),
            bnb_4bit_use_double_quant: self.is_some_and(|quantization| quantization.double_quant),
            ..QuantizationOptions::default()
        };
        options.values()
    }
}

/// The suffixes that the parts of a weight have after its name.
const STATE: &str = "quant_state.bitsandbytes__nf4";
/// As [`STATE`], for a weight in bitsandbytes' 4-bit floating point.
const FP4_STATE: &str = "quant_state.bitsandbytes__fp4";
const PARTS: [&str; 6] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map", STATE, FP4_STATE];
/// Dtypes that the codes may be stored as (`bnb_4bit_quant_storage`).
const STORAGES: [&str; 5] = ["uint8", "int8", "bfloat16", "float16", "float32"];

impl Quantization {
    /// Reads `quantization_config`. Fails unless it is bitsandbytes' 4-bit format.
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
        if !["nf4", "fp4"].contains(&quant_type.as_str()) || !STORAGES.contains(&storage.as_str()) {
            bail!(Kind::Model, "the checkpoint is quantised to {quant_type} stored as {storage}: expected nf4 or fp4 stored as {}", STORAGES.join(", "); hint: "load the unquantised model of the same name with load_in_4bit: true");
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

/// The weight that a tensor is a part of, by its name: `….q_proj.weight` for
/// `….q_proj.weight.absmax`.
pub fn weight_of_part(name: &str) -> Option<&str> {
    PARTS.iter().find_map(|part| name.strip_suffix(part)?.strip_suffix('.'))
}

/// Whether the checkpoint has the weight `name` as 4-bit.
pub fn is_quantized(weights: &Weights, name: &str) -> bool {
    [STATE, FP4_STATE].iter().any(|state| weights.info(&format!("{name}.{state}")).is_some())
}

/// The tensors that represent the quantised weight `name` in a checkpoint; `dtype` is that of the matrix
/// before quantisation.
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
        Scales::Flat(absmax) => parts.push(part("absmax", absmax)),
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

/// Whether a tensor of this name marks a weight as fp4.
pub fn is_fp4_state(name: &str) -> bool {
    name.ends_with(FP4_STATE)
}

/// Reads the quantised weight `name`, whose dense shape must be `shape`. On the CPU its parts stay in the
/// mapped file. An fp4 weight is made dense, in `dtype`.
pub fn read(weights: &Weights, name: &str, shape: [i64; 2], dtype: Dtype, device: Device) -> Result<Weight> {
    let weight = match weights.info(&format!("{name}.{FP4_STATE}")) {
        None => read_nf4(weights, name, shape).and_then(|weight| Ok(Weight::Nf4(weight.to_device(device)?))),
        Some(_) => read_fp4(weights, name, shape)
            .and_then(|weight| Ok(Weight::Dense(weight.f_to_kind(dtype)?.f_to_device(device)?))),
    };
    weight.map_err(|error| error.context(format!("tensor `{name}`")))
}

/// The parts of a weight, nf4 or fp4: the codes, two in a byte, and their scales.
struct QuantizedParts {
    codes: Tensor,
    scales: Scales,
    state: State,
}

fn read_parts(weights: &Weights, name: &str, state: &str, shape: [i64; 2]) -> Result<QuantizedParts> {
    let part = |part: &str| -> Result<Tensor> { weights.tensor(&format!("{name}.{part}")) };
    let parsed = State::parse(&Vec::<u8>::try_from(part(state)?.f_view([-1])?)?)?;
    if parsed.shape != shape {
        return Err(Error::model(format!("expected shape {shape:?}, found {:?} in its {state}", parsed.shape))
            .with_hint("the checkpoint does not belong to its config.json"));
    }
    let scales = match parsed.nested {
        None => Scales::Flat(part("absmax")?),
        Some((offset, block)) => Scales::Nested {
            codes: part("absmax")?,
            map: part("nested_quant_map")?,
            absmax: part("nested_absmax")?,
            offset,
            block,
        },
    };
    let stored = weights.tensor(name)?;
    let codes = match stored.f_kind()? {
        Dtype::Uint8 => stored,
        // The same bytes as another dtype.
        _ => stored.f_flatten(0, -1)?.f_view_dtype(Dtype::Uint8)?.f_view([-1, 1])?,
    };
    Ok(QuantizedParts { codes, scales, state: parsed })
}

fn read_nf4(weights: &Weights, name: &str, shape: [i64; 2]) -> Result<Nf4> {
    ensure_nf4_values(&weights.tensor(&format!("{name}.quant_map"))?)?;
    let QuantizedParts { codes, scales, state } = read_parts(weights, name, STATE, shape)?;
    Nf4::new(codes, scales, state.block, shape)
}

/// Value i is `quant_map[code i] · scale[i / block]`: f32 `shape`.
fn read_fp4(weights: &Weights, name: &str, shape: [i64; 2]) -> Result<Tensor> {
    let values = weights.tensor(&format!("{name}.quant_map"))?.f_to_kind(Dtype::Float)?;
    if values.size() != [16] {
        return Err(Error::model(format!("quant_map: expected 16 values, found shape {:?}", values.size())));
    }
    let QuantizedParts { codes, scales, state } = read_parts(weights, name, FP4_STATE, shape)?;
    // `Nf4::new` checks the parts: fp4 has the same layout.
    let checked = Nf4::new(codes, scales, state.block, shape)?;
    let count = shape[0] * shape[1];
    let bytes = checked.codes.f_flatten(0, -1)?;
    let halves = [bytes.f_bitwise_right_shift_tensor_scalar(4)?, bytes.f_bitwise_and(15)?];
    let codes = Tensor::f_stack(&halves, 1)?.f_flatten(0, -1)?.f_narrow(0, 0, count)?;
    let scales = match &checked.scales {
        Scales::Flat(absmax) => absmax.shallow_clone(),
        Scales::Nested { codes, map, absmax, offset, block } => {
            let nested = map.f_index_select(0, &codes.f_to_kind(Dtype::Int64)?)?;
            let count = nested.size()[0];
            let absmax = absmax.f_repeat_interleave_self_int(*block, 0, None)?.f_narrow(0, 0, count)?;
            nested.f_mul(&absmax)?.f_add_scalar(f64::from(*offset))?
        }
    };
    let scales = scales.f_repeat_interleave_self_int(state.block, 0, None)?.f_narrow(0, 0, count)?;
    Ok(values.f_index_select(0, &codes.f_to_kind(Dtype::Int64)?)?.f_mul(&scales)?.f_view(shape)?)
}

/// Fails unless the values are those of nf4, which are built in: others would be read as wrong numbers.
fn ensure_nf4_values(values: &Tensor) -> Result<()> {
    let expected = Nf4::values()?;
    let same = values.size() == expected.size() && values.f_kind()? == Dtype::Float && {
        values.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])? < 1e-6
    };
    if !same {
        bail!(Kind::Model, "quant_map: expected the 16 values of nf4, found others");
    }
    Ok(())
}

/// The content of `quant_state`, a JSON text in a tensor of bytes.
struct State {
    block: i64,
    shape: [i64; 2],
    /// Offset and block size of nested scales.
    nested: Option<(f32, i64)>,
}

impl State {
    fn parse(bytes: &[u8]) -> Result<State> {
        let json: Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::model(format!("{STATE}: expected JSON, found something else: {error}")))?;
        let missing = |name: &str| Error::model(format!("{STATE}: `{name}` is missing or not a number"));
        let integer = |name: &str| json.get(name).and_then(Value::as_i64).ok_or_else(|| missing(name));
        let size = |at: usize| json["shape"].get(at).and_then(Value::as_i64).filter(|size| (1..1 << 31).contains(size));
        let shape = match (size(0), size(1), size(2)) {
            (Some(rows), Some(columns), None) => [rows, columns],
            _ => return Err(missing("shape")),
        };
        let nested = match json.get("nested_blocksize") {
            None => None,
            Some(_) => {
                let offset = json.get("nested_offset").and_then(Value::as_f64);
                Some((offset.ok_or_else(|| missing("nested_offset"))? as f32, integer("nested_blocksize")?))
            }
        };
        Ok(State { block: integer("blocksize")?, shape, nested })
    }
}
