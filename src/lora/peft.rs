//! Adapters on disk in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The configuration is written in the classic subset of keys, which every PEFT release
//! since 2023, vLLM and llama.cpp read.

use super::adapter::{Adapter, Replaced};
use super::adapter_file::{AdapterFile, PREFIX};
use super::pattern::Pattern;
use super::spec::{Bias, Init, LoraSpec, Targets, TrainableTokens};
use super::targets::{match_embedding, match_targets, short_names, ties_targets};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::hub::weights;
use crate::model::shapes::{linear_shapes, EMBEDDING, HEAD};
use crate::model::{Config, Decoder};
use serde_json::{json, Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Kind as Dtype, Tensor};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What an adapter's folder holds.
pub const FILES: [&str; 2] = [CONFIG, WEIGHTS];
/// What PEFT wrote before safetensors.
const PICKLED: &str = "adapter_model.bin";

/// Writes the adapter into `folder`. `base` is the name or path of the base model.
pub fn save(adapter: &Adapter, base: &str, folder: &Path) -> Result<()> {
    files::create_folder(folder)?;
    let parameters = &adapter.parameters;
    let named = parameters.names().iter().cloned().zip(parameters.leaves());
    let copy = adapter.trained_head().filter(|_| adapter.layout.is_tied);
    let copy = copy.map(|weight| (format!("{HEAD}.weight"), weight));
    let tensors = named.chain(copy).chain(replaced_weights(adapter));
    let tensors = tensors.map(|(name, tensor)| Ok((format!("{PREFIX}{name}"), tensor.f_detach()?)));
    weights::save(&folder.join(WEIGHTS), &tensors.collect::<Result<Vec<_>>>()?, &[])?;
    files::write_json(&folder.join(CONFIG), &config_json(adapter, base))
}

/// Embeddings and head that the adapter brought along, by the names that PEFT gives them inside
/// what it wraps around these modules.
fn replaced_weights(adapter: &Adapter) -> impl Iterator<Item = (String, &Tensor)> {
    let Replaced { embedding, head } = &adapter.replaced;
    let tokens = &adapter.layout.tokens;
    let is_trained = [adapter.trained_embedding().is_some(), adapter.trained_head().is_some()];
    let has_rows = [tokens.embedding.is_some(), tokens.of_head().is_some()];
    let is_target = [adapter.embedding_target.is_some(), adapter.has_head_target()];
    let modules = [(EMBEDDING, embedding), (HEAD, head)].into_iter().zip(is_trained).zip(has_rows).zip(is_target);
    modules.filter_map(|((((module, weight), is_trained), has_rows), is_target)| {
        let inside = match (is_trained, has_rows, is_target) {
            (true, ..) => ".original_module",
            (_, true, true) => ".base_layer.token_adapter.base_layer",
            (_, true, false) => ".token_adapter.base_layer",
            (_, false, true) => ".base_layer",
            (_, false, false) => "",
        };
        Some((format!("{module}{inside}.weight"), weight.as_ref()?))
    })
}

/// The folder of the adapter that `folder` means: itself, or `adapter/` in it, where a run
/// leaves its adapter.
///
/// # Errors
/// There is none: names what lies there instead.
pub fn find(folder: &Path) -> Result<PathBuf> {
    let holds = |folder: &Path| folder.join(CONFIG).is_file() && folder.join(WEIGHTS).is_file();
    let inner = folder.join("adapter");
    if holds(folder) || !holds(&inner) {
        ensure_files(folder)?;
        return Ok(folder.to_owned());
    }
    Ok(inner)
}

fn ensure_files(folder: &Path) -> Result<()> {
    let (config, weights) = (folder.join(CONFIG), folder.join(WEIGHTS));
    if config.is_file() && !weights.is_file() && folder.join(PICKLED).is_file() {
        bail!(Kind::File, "`{}` holds its weights as a pickle, `{PICKLED}`: expected {WEIGHTS}", folder.display(); hint: "a pickle can run any code, so it is not read: turn it into safetensors once, in Python: from safetensors.torch import save_file; import torch; save_file(torch.load(\"{PICKLED}\", weights_only=True), \"{WEIGHTS}\")");
    }
    let Some(path) = [&config, &weights].into_iter().find(|path| !path.exists()) else { return Ok(()) };
    let error = Error::new(Kind::File, format!("there is no `{}`", path.display()));
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut inside: Vec<PathBuf> = inside.filter(|path| path.join(CONFIG).is_file()).collect();
    inside.sort();
    Err(match inside.first() {
        Some(inner) => error.with_hint(format!("adapters lie in folders below it: give one, as `{}`", inner.display())),
        None => error.with_hint("give the folder of an adapter, as save_adapter or peft's save_pretrained writes it"),
    })
}

/// Reads an adapter for `decoder`. Of PiSSA and OLoRA the file holds what was trained; what
/// they took out of the base is computed from its weights again, as PEFT does.
pub fn load(folder: &Path, decoder: &Decoder) -> Result<Adapter> {
    ensure_files(folder)?;
    let path = folder.join(CONFIG);
    let config = &decoder.config;
    let json = files::read_json(&path)?;
    let mut spec = spec_from_json(&json).map_err(|error| error.context(format!("`{}`", path.display())))?;
    ensure_same_kind(&json, &spec, config)?;
    let linears = linear_shapes(config);
    let ties_targets = ties_targets(&spec, &linears, config)?;
    if ties_targets {
        name_both_ends(&mut spec);
    }
    let file = AdapterFile::open(&folder.join(WEIGHTS))?;
    ensure_vocabulary(&file, config)?;
    ensure_ranks_fit(&file, &spec, config).map_err(|error| match json.get("r") {
        Some(_) => error,
        None => {
            error.with_hint("its adapter_config.json has no `r`, which peft takes for 8: write the true rank there")
        }
    })?;
    let mut adapter = Adapter::zeros(spec, config, Dtype::Float, decoder.device)?;
    adapter.take_from(decoder)?;
    ensure_names(&adapter, &file).map_err(|error| match task(&json) {
        "CAUSAL_LM" => error,
        task => error.with_hint(format!("it was made for the task {task}, whose model has other layers at its end")),
    })?;
    adapter.replaced = replaced(&adapter, &file, decoder)?;
    for at in 0..adapter.parameters.names().len() {
        let name = adapter.parameters.names()[at].clone();
        let tensor = file.tensor(&name)?.f_to_kind(Dtype::Float)?;
        adapter.parameters.set(at, &tensor).map_err(|error| {
            error.with_hint("the adapter was made for a model of another size, or its adapter_config.json was changed; where keys of rank_pattern overlap, peft sorts them when it saves: put them in the order that the adapter was trained with")
        })?;
    }
    ensure_repeats_agree(&adapter, &file)?;
    if ties_targets {
        adapter.fixed = Some("its `ensure_weight_tying` has head and embeddings share LoRA matrices");
    }
    if json.get("fan_in_fan_out") == Some(&json!(true)) {
        adapter.notes.push("adapter: `fan_in_fan_out` is true, which means nothing for the linear layers of this model: taken as false, as peft takes it".to_owned());
    }
    if adapter.replaced.embedding.is_some() || adapter.replaced.head.is_some() {
        adapter.notes.push("adapter: its file brings embeddings or a head of its own (peft's save_embedding_layers): they stand in the base's place while it is active, and are not trained".to_owned());
    }
    Ok(adapter)
}

/// Head and embeddings as targets by name, for those that `ensure_weight_tying` adds.
fn name_both_ends(spec: &mut LoraSpec) {
    spec.ensure_weight_tying = false;
    match &mut spec.target_modules {
        Targets::AllLinear => {}
        Targets::Pattern(pattern) => *pattern = format!("(?:{pattern})|{HEAD}|{}", EMBEDDING.replace('.', r"\.")),
        Targets::Names(names) => {
            for end in [HEAD, EMBEDDING] {
                if !names.iter().any(|name| name == end) {
                    names.push(end.to_owned());
                }
            }
        }
    }
}

fn task(json: &Value) -> &str {
    json.get("task_type").and_then(Value::as_str).unwrap_or("CAUSAL_LM")
}

/// An adapter of another architecture is told by its task and its targets.
fn ensure_same_kind(json: &Value, spec: &LoraSpec, config: &Config) -> Result<()> {
    let task = task(json);
    let linears = linear_shapes(config);
    if task == "CAUSAL_LM" || match_targets(spec, &linears).is_ok() {
        return Ok(());
    }
    let targets = match &spec.target_modules {
        Targets::Names(names) => format!("[{}]", names.join(", ")),
        Targets::Pattern(pattern) => format!("`{pattern}`"),
        Targets::AllLinear => "all linear layers".to_owned(),
    };
    let base = json.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or("nothing");
    let family = format!("{:?}", config.family).to_lowercase();
    bail!(Kind::Model, "the adapter does not fit this model: it was made for the task {task} and adapts {targets}, and this {family} has the layers {}", short_names(&linears).join(", "); hint: "its base is `{base}`: an adapter works over the model that it was trained on")
}

/// A vocabulary of another size is the one difference that can be made good.
fn ensure_vocabulary(file: &AdapterFile, config: &Config) -> Result<()> {
    match file.vocabulary().filter(|size| *size != config.vocab_size) {
        None => Ok(()),
        Some(size) => {
            bail!(Kind::Model, "the adapter was made for a vocabulary of {size} tokens, and this model has {}", config.vocab_size; hint: "call model.resize_token_embeddings({size}) before you load it, as its author did in transformers")
        }
    }
}

/// A rank that the tensors do not have is refused before there is memory for it.
fn ensure_ranks_fit(file: &AdapterFile, spec: &LoraSpec, config: &Config) -> Result<()> {
    let rows = |name: &str| file.shape(name).and_then(|shape| shape.first().copied());
    let is_a = |name: &&str| name.ends_with("lora_A.weight") || name.ends_with("lora_embedding_A");
    let most = file.names().filter(is_a).filter_map(rows).max().unwrap_or(0);
    let linears = linear_shapes(config);
    let embedding = match_embedding(spec, &linears)?;
    match match_targets(spec, &linears)?.iter().chain(&embedding).find(|target| target.r > most) {
        None => Ok(()),
        // No A at all: the names say why.
        Some(target) if most == 0 => Err(file.lacks(&format!("{}.lora_A.weight", target.linear.name))),
        Some(target) => Err(Error::model(format!(
            "the adapter's configuration gives `{}` the rank {}, and the largest in its weights is {most}",
            target.linear.name, target.r
        ))
        .with_hint(
            "its adapter_config.json and adapter_model.safetensors do not belong together: fetch or save both again",
        )),
    }
}

fn ensure_names(adapter: &Adapter, file: &AdapterFile) -> Result<()> {
    let expected: BTreeSet<&str> = adapter.parameters.names().iter().map(String::as_str).collect();
    if let Some(missing) = expected.iter().find(|name| !file.has(name)) {
        return Err(file.lacks(missing));
    }
    let of_base = base_names(adapter, file).into_iter().flatten();
    let beside: Vec<String> = of_base.chain(repeats(adapter).into_iter().map(|(name, _)| name)).collect();
    let is_known = |name: &str| expected.contains(name) || beside.iter().any(|known| known == name);
    match file.names().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(extra) => {
            bail!(Kind::Model, "the adapter does not fit this model: it holds the tensor `{}`, which has no place there", file.stored(extra); hint: "load the base that its adapter_config.json names as `base_model_name_or_path`; if that is this one, that file was changed or it adapts layers that are not supported")
        }
    }
}

/// The base's own embeddings and head in the file.
fn base_names(adapter: &Adapter, file: &AdapterFile) -> [Option<String>; 2] {
    [
        file.base_weight(EMBEDDING, adapter.trained_embedding().is_some()),
        file.base_weight(HEAD, adapter.trained_head().is_some()),
    ]
}

/// What PEFT writes once more: of a trained module in the form of its wrapper, of a weight that
/// head and embeddings share at both ends.
fn repeats(adapter: &Adapter) -> Vec<(String, &Tensor)> {
    let mut repeats = Vec::new();
    for (module, trained) in [(EMBEDDING, adapter.trained_embedding()), (HEAD, adapter.trained_head())] {
        repeats.extend(trained.map(|weight| (format!("{module}.modules_to_save.weight"), weight)));
    }
    let copy = adapter.trained_head().filter(|_| adapter.layout.is_tied);
    repeats.extend(copy.map(|weight| (format!("{HEAD}.weight"), weight)));
    let tokens = &adapter.layout.tokens;
    let rows = adapter.embedding_rows().filter(|_| tokens.is_tied && tokens.head.is_none());
    repeats.extend(rows.map(|rows| (format!("{HEAD}.token_adapter.trainable_tokens_delta"), rows.rows)));
    repeats
}

/// The embeddings and the head beside what is trained, where they are not the base's own. PEFT
/// loads them into the base; where that ties both, into both.
fn replaced(adapter: &Adapter, file: &AdapterFile, decoder: &Decoder) -> Result<Replaced> {
    let read = |name: Option<String>| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let weight = file.tensor(&name)?;
        if weight.size() != decoder.embed_tokens.size() {
            let (expected, stored) = (decoder.embed_tokens.size(), weight.size());
            bail!(Kind::Model, "`{}`: expected shape {expected:?}, found {stored:?}", file.stored(&name); hint: "the adapter was made for a model of another size");
        }
        Ok(Some(weight.f_to_kind(decoder.dtype)?.f_to_device(decoder.device)?))
    };
    let [embedding, head] = base_names(adapter, file);
    let (mut embedding, mut head) = (read(embedding)?, read(head)?);
    if decoder.config.tie_word_embeddings {
        if let (Some(one), Some(other)) = (&embedding, &head) {
            if !one.f_equal(other)? {
                bail!(Kind::Model, "the adapter's file brings embeddings and a head that differ, and this model has one weight for both"; hint: "it was made over a model that does not tie them: load that one");
            }
        }
        let both = head.or(embedding);
        (embedding, head) = (both.as_ref().map(Tensor::shallow_clone), both);
    }
    let embedding = embedding.filter(|weight| !weight.f_equal(&decoder.embed_tokens).unwrap_or(false));
    let base_head = decoder.lm_head.weight.to_dense(decoder.dtype)?;
    let head = head.filter(|weight| !weight.f_equal(&base_head).unwrap_or(false));
    if head.is_some() && adapter.has_head_target() && (adapter.spec.use_dora || adapter.spec.init.takes_from_base()) {
        bail!(Kind::Model, "the adapter's file brings a head of its own, and begins with a part of the base's or brings it to trained lengths (PiSSA, OLoRA, DoRA)"; hint: "load the base that the adapter was trained on");
    }
    Ok(Replaced { embedding, head })
}

/// What stands in the file twice is twice the same.
fn ensure_repeats_agree(adapter: &Adapter, file: &AdapterFile) -> Result<()> {
    for (name, trained) in repeats(adapter).into_iter().filter(|(name, _)| file.has(name)) {
        let again = file.tensor(&name)?.f_to_kind(Dtype::Float)?.f_to_device(trained.device())?;
        if again.size() != trained.size() || !again.f_equal(&trained.f_detach()?)? {
            bail!(Kind::Model, "the adapter's file holds `{}` twice, with other numbers", file.stored(&name); hint: "save the adapter again");
        }
    }
    Ok(())
}

/// The keys of `adapter_config.json`, sorted as PEFT sorts them.
pub fn config_json(adapter: &Adapter, base: &str) -> Value {
    let spec = &adapter.spec;
    let mut fields: BTreeMap<&str, Value> = BTreeMap::from([
        (
            "alpha_pattern",
            json!(spec.alpha_pattern.iter().map(|(key, alpha)| (key.to_owned(), whole(*alpha))).collect::<Map<_, _>>()),
        ),
        ("base_model_name_or_path", json!(base)),
        ("bias", json!(spec.bias.name())),
        (
            "exclude_modules",
            spec.exclude_modules.as_ref().map_or(Value::Null, |targets| targets_json(targets, adapter)),
        ),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", init_json(spec.init)),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", json!(spec.layers_to_transform)),
        ("lora_alpha", whole(spec.alpha)),
        ("lora_dropout", json!(spec.dropout)),
        ("modules_to_save", if spec.modules_to_save.is_empty() { Value::Null } else { json!(spec.modules_to_save) }),
        ("peft_type", json!("LORA")),
        ("r", json!(spec.r)),
        (
            "rank_pattern",
            json!(spec.rank_pattern.iter().map(|(key, r)| (key.to_owned(), json!(r))).collect::<Map<_, _>>()),
        ),
        ("revision", Value::Null),
        ("target_modules", targets_json(&spec.target_modules, adapter)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(spec.use_dora)),
        ("use_rslora", json!(spec.use_rslora)),
    ]);
    // Beyond the classic keys, and only where they say something.
    if spec.lora_bias {
        fields.insert("lora_bias", json!(true));
    }
    if spec.ensure_weight_tying {
        fields.insert("ensure_weight_tying", json!(true));
    }
    match &spec.trainable_token_indices {
        TrainableTokens::None => {}
        TrainableTokens::Embeddings(ids) => {
            fields.insert("trainable_token_indices", json!(ids));
        }
        TrainableTokens::ByModule(modules) => {
            let modules = modules.iter().map(|(name, ids)| (name.clone(), json!(ids))).collect::<Map<_, _>>();
            fields.insert("trainable_token_indices", json!(modules));
        }
    }
    json!(fields)
}

fn init_json(init: Init) -> Value {
    match init {
        Init::KaimingUniform => json!(true),
        Init::Gaussian => json!("gaussian"),
        Init::Pissa => json!("pissa"),
        Init::Olora => json!("olora"),
    }
}

/// An integer where the number is one: Ollama reads `lora_alpha` as an integer.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// "all-linear" is written as the names it stands for, which readers other than PEFT need.
fn targets_json(targets: &Targets, adapter: &Adapter) -> Value {
    match targets {
        Targets::Names(names) => json!(names.iter().collect::<BTreeSet<_>>()),
        Targets::Pattern(pattern) => json!(pattern),
        Targets::AllLinear => {
            let names = adapter.targets.iter().map(|target| target.linear.name.rsplit('.').next().unwrap_or_default());
            json!(names.collect::<BTreeSet<_>>())
        }
    }
}

/// Reads `adapter_config.json`; refuses what would load but give other numbers.
pub fn spec_from_json(json: &Value) -> Result<LoraSpec> {
    ensure_supported(json)?;
    let r = match json.get("r") {
        None => LoraSpec::default().r,
        Some(r) => r.as_i64().ok_or_else(|| wrong("r", "a whole number", json))?,
    };
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
    let spec = LoraSpec {
        r,
        alpha: number(json, "lora_alpha")?.unwrap_or(8.0),
        dropout: number(json, "lora_dropout")?.unwrap_or(0.0),
        use_rslora: flag("use_rslora"),
        // PEFT's default for the families that we support.
        target_modules: targets(json, "target_modules")?.unwrap_or(LoraSpec::default().target_modules),
        exclude_modules: targets(json, "exclude_modules")?,
        layers_to_transform: layers(json)?,
        rank_pattern: pattern(json, "rank_pattern", Value::as_i64)?,
        alpha_pattern: pattern(json, "alpha_pattern", Value::as_f64)?,
        init: init(json)?,
        use_dora: flag("use_dora"),
        bias: bias(json)?,
        modules_to_save: match targets(json, "modules_to_save")? {
            Some(Targets::Names(names)) => names,
            None => Vec::new(),
            Some(_) => return Err(wrong("modules_to_save", "a list of names", json)),
        },
        lora_bias: flag("lora_bias"),
        trainable_token_indices: trainable_tokens(json)?,
        ensure_weight_tying: flag("ensure_weight_tying"),
    };
    spec.check()?;
    Ok(spec)
}

fn ensure_supported(json: &Value) -> Result<()> {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    if text("peft_type").is_none_or(|kind| kind != "LORA") {
        return Err(wrong("peft_type", "\"LORA\"", json).with_hint("adapters of other kinds cannot be loaded"));
    }
    let filled = |value: &&Value| {
        value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty())
    };
    if let Some(parameters) = json.get("target_parameters").filter(filled) {
        bail!(Kind::Model, "adapter `target_parameters`: {parameters} are adapted as parameters rather than layers, which is not supported: without them the adapter would change something else"; hint: "in peft, merge it into the model (merge_and_unload) and load that; or train it with target_modules");
    }
    if let Some(layers) = json.get("layer_replication").filter(filled) {
        bail!(Kind::Model, "adapter `layer_replication`: {layers} stacks layers of the base anew, which is not supported: over the base as it is the adapter would change something else"; hint: "in peft, merge it into the model (merge_and_unload) and load that");
    }
    // Variants with the tensors of an ordinary LoRA, in part, but another use of them.
    let variants = [
        (
            "alora_invocation_tokens",
            "an activated LoRA (aLoRA) acts from its invocation tokens on; everywhere it would be another adapter",
        ),
        (
            "arrow_config",
            "a router (Arrow) chooses among several adapters token by token; this file alone would be another model",
        ),
        ("kasa_config", "KaSA truncates the base's weights and scales each direction"),
        ("monteclora_config", "MonteCLoRA draws its matrices at random"),
        ("use_bdlora", "BD-LoRA has matrices of blocks"),
        ("use_qalora", "QA-LoRA pools the inputs in groups"),
    ];
    for (name, what) in variants {
        if let Some(value) = json.get(name).filter(|value| !value.is_null() && *value != &json!(false)) {
            bail!(Kind::Model, "adapter `{name}`: {value}: {what}, which is not supported"; hint: "peft has it");
        }
    }
    Ok(())
}

/// Only what changes the base matters here: A and B come from the file, and names such as
/// "eva" or "orthogonal" tell how they began.
fn init(json: &Value) -> Result<Init> {
    let name = match json.get("init_lora_weights") {
        Some(Value::String(name)) => name.to_lowercase(),
        _ => return Ok(Init::KaimingUniform),
    };
    if name == "corda" || name == "loftq" || name == "lora_ga" {
        return Err(wrong(
            "init_lora_weights",
            "an initialisation that leaves the base as it is, \"pissa\" or \"olora\"",
            json,
        )
        .with_hint(
            "in peft, save it with path_initial_model_for_weight_conversion, which makes an ordinary LoRA of it",
        ));
    }
    Ok(Init::parse(&name).unwrap_or(Init::KaimingUniform))
}

/// A list is of the input embeddings; a map names the modules.
fn trainable_tokens(json: &Value) -> Result<TrainableTokens> {
    const NAME: &str = "trainable_token_indices";
    let list = |value: &Value| value.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>();
    let tokens = match json.get(NAME) {
        None | Some(Value::Null) => Some(TrainableTokens::None),
        Some(Value::Array(ids)) if ids.is_empty() => Some(TrainableTokens::None),
        Some(Value::Object(map)) => {
            let modules = map.iter().map(|(name, ids)| Some((name.clone(), list(ids)?))).collect::<Option<Vec<_>>>();
            modules.map(
                |modules| if modules.is_empty() { TrainableTokens::None } else { TrainableTokens::ByModule(modules) },
            )
        }
        Some(ids) => list(ids).map(TrainableTokens::Embeddings),
    };
    tokens.ok_or_else(|| wrong(NAME, "a list of token ids, or such a list for each module", json))
}

fn bias(json: &Value) -> Result<Bias> {
    let name = match json.get("bias") {
        None | Some(Value::Null) => return Ok(Bias::None),
        Some(value) => value.as_str(),
    };
    let known = Bias::NAMES.into_iter().find(|(known, _)| Some(*known) == name);
    known.map(|(_, bias)| bias).ok_or_else(|| wrong("bias", "\"none\", \"all\" or \"lora_only\"", json))
}

fn wrong(name: &str, expected: &str, json: &Value) -> Error {
    match json.get(name) {
        Some(found) => Error::model(format!("adapter `{name}`: expected {expected}, found {found}")),
        None => Error::model(format!("adapter `{name}` is missing: expected {expected}"))
            .with_hint("is this an adapter_config.json as peft writes it? save or fetch the adapter again"),
    }
}

fn number(json: &Value, name: &str) -> Result<Option<f64>> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(name, "a number", json)),
    }
}

fn targets(json: &Value, name: &str) -> Result<Option<Targets>> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "all-linear" => Ok(Some(Targets::AllLinear)),
        Some(Value::String(text)) => Ok(Some(Targets::Pattern(text.clone()))),
        Some(Value::Array(names)) if names.is_empty() => Ok(None),
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            names.map(|names| Some(Targets::Names(names))).ok_or_else(|| wrong(name, "a list of names", json))
        }
        Some(_) => Err(wrong(name, "a list or a string", json)),
    }
}

fn layers(json: &Value) -> Result<Option<Vec<usize>>> {
    let pattern = json.get("layers_pattern");
    let default_pattern = matches!(pattern, None | Some(Value::Null))
        || pattern == Some(&json!("layers"))
        || pattern == Some(&json!(["layers"]))
        || pattern == Some(&json!([]));
    if !default_pattern {
        return Err(wrong("layers_pattern", "\"layers\"", json));
    }
    let index = |value: &Value| value.as_u64().map(|layer| layer as usize);
    match json.get("layers_to_transform") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => list
            .iter()
            .map(index)
            .collect::<Option<Vec<_>>>()
            .map(Some)
            .ok_or_else(|| wrong("layers_to_transform", "layer numbers", json)),
        Some(one) => {
            index(one).map(|layer| Some(vec![layer])).ok_or_else(|| wrong("layers_to_transform", "layer numbers", json))
        }
    }
}

fn pattern<T>(json: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Pattern<T>> {
    let Some(Value::Object(map)) = json.get(name) else { return Ok(Pattern::default()) };
    map.iter()
        .map(|(key, value)| Some((key.clone(), read(value)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong(name, "a number for each name", json))
}

/// The limits of other programs that this adapter meets, for the user to read when saving.
pub fn deployment_notes(adapter: &Adapter, config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let largest = adapter.targets.iter().map(|target| target.r).max().unwrap_or(0);
    if largest > 16 {
        notes.push(format!("vLLM: start it with --max-lora-rank {} (its default is 16)", vllm_rank(largest)));
    }
    if !adapter.spec.rank_pattern.is_empty() || !adapter.spec.alpha_pattern.is_empty() {
        notes.push("vLLM ignores rank_pattern and alpha_pattern: merge the adapter instead".to_owned());
    }
    if adapter.low_rank(&linear_shapes(config)[linear_shapes(config).len() - 1]).is_some() {
        notes.push("the output head is adapted: some servers do not support that".to_owned());
    }
    if adapter.embedding_target.is_some() {
        notes.push("the embeddings are adapted: some servers do not support that".to_owned());
    }
    let refused = [
        ("DoRA", adapter.spec.use_dora),
        ("modules_to_save", !adapter.spec.modules_to_save.is_empty()),
        ("bias", adapter.spec.bias != Bias::None),
        ("lora_bias", adapter.spec.lora_bias),
        ("trainable_token_indices", !adapter.spec.trainable_token_indices.is_none()),
    ];
    let refused: Vec<&str> = refused.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect();
    if !refused.is_empty() {
        notes.push(format!("vLLM refuses adapters with {}: merge the adapter instead", refused.join(", ")));
    }
    if !adapter.taken.is_empty() {
        notes.push("this adapter stands over a residual of the base: peft and lorhai compute it from the original base when they load the adapter, other programs do not; save it with `as_lora: true` for them".to_owned());
    }
    notes
}

/// The least of vLLM's rank limits that holds `r`.
fn vllm_rank(r: i64) -> i64 {
    [8, 16, 32, 64, 128, 256, 320, 512].into_iter().find(|&limit| limit >= r).unwrap_or(r)
}
