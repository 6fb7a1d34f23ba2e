//! Matches a specification with the layers of a model, by PEFT's rules.

use super::pattern::{Compiled, WholeName};
use super::spec::{Bias, LoraSpec, Targets};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::model::architecture::Projections;
use crate::model::shapes::{linear_shapes, norm_shapes, LinearShape, EMBEDDING, HEAD};
use crate::model::Config;
use crate::options::OptionSet;
use crate::suggest;
use std::collections::BTreeSet;

/// One adapted layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub linear: LinearShape,
    pub r: i64,
    pub alpha: f64,
    /// What B(A(x)) is multiplied by.
    pub scale: f64,
}

/// The layers among `linears` that `spec` adapts, in the order of the checkpoint.
pub fn match_targets(spec: &LoraSpec, linears: &[LinearShape]) -> Result<Vec<Target>> {
    let matching = Matching::new(spec, linears)?;
    let targets = linears.iter().map(|linear| matching.target(linear));
    let targets: Vec<Target> = targets.filter_map(Result::transpose).collect::<Result<_>>()?;
    if targets.is_empty() && matching.embedding(linears)?.is_none() {
        return Err(no_target(spec, linears));
    }
    Ok(targets)
}

/// The input embeddings as a target, if `spec` adapts them.
///
/// # Errors
/// Variants that the embeddings cannot have.
pub fn match_embedding(spec: &LoraSpec, linears: &[LinearShape]) -> Result<Option<Target>> {
    let target = Matching::new(spec, linears)?.embedding(linears)?;
    let variant = if spec.use_dora { "use_dora" } else { "lora_bias" };
    if target.is_some() && (spec.use_dora || spec.lora_bias) {
        bail!(Kind::Input, "lora `{variant}`: expected linear layers, found the target `{EMBEDDING}`"; hint: "leave the embeddings out of target_modules; modules_to_save: [\"embed_tokens\"] trains a whole copy of them");
    }
    Ok(target)
}

/// The options of a specification that select layers, compiled.
struct Matching<'a> {
    spec: &'a LoraSpec,
    included: Matcher,
    excluded: Option<Matcher>,
    ranks: Compiled<i64>,
    alphas: Compiled<f64>,
    layers: Option<BTreeSet<usize>>,
}

impl<'a> Matching<'a> {
    fn new(spec: &'a LoraSpec, linears: &[LinearShape]) -> Result<Self> {
        spec.ensure_valid("lora")?;
        let excluded = spec.exclude_modules.as_ref();
        Ok(Matching {
            spec,
            included: Matcher::new("target_modules", &spec.target_modules)?,
            excluded: excluded.map(|targets| Matcher::new("exclude_modules", targets)).transpose()?,
            ranks: Compiled::new("rank_pattern", &spec.rank_pattern)?,
            alphas: Compiled::new("alpha_pattern", &spec.alpha_pattern)?,
            layers: checked_layers(spec, linears)?,
        })
    }

    fn target(&self, linear: &LinearShape) -> Result<Option<Target>> {
        let Matching { spec, included, excluded, layers, .. } = self;
        let is_excluded = excluded.as_ref().map_or(Ok(false), |excluded| excluded.matches(linear))?;
        let in_layers = layers.as_ref().is_none_or(|layers| linear.layer.is_some_and(|layer| layers.contains(&layer)));
        // A layer that is named in full is included whatever `layers_to_transform` says.
        let is_included = included.names_in_full(linear) || in_layers && included.matches(linear)?;
        if is_excluded || is_in_saved_module(spec, &linear.name) || !is_included {
            return Ok(None);
        }
        if let Some(saved) = spec.modules_to_save.iter().find(|saved| is_part_of(&linear.name, saved)) {
            bail!(Kind::Input, "lora `modules_to_save`: `{saved}` means every module whose name ends with it, and `{}` is in such a module and also a target", linear.name; hint: "write the module's name in full, or leave it out of target_modules");
        }
        let r = self.ranks.first_match(&linear.outer_name())?.unwrap_or(spec.r);
        let alpha = self.alphas.first_match(&linear.outer_name())?.unwrap_or(spec.alpha);
        if spec.init.splits_base() && linear.name != EMBEDDING {
            ensure_rank_at_most(linear.in_features.min(linear.out_features), linear, r)?;
        }
        Ok(Some(Target { linear: linear.clone(), r, alpha, scale: spec.scale(r, alpha) }))
    }

    fn embedding(&self, linears: &[LinearShape]) -> Result<Option<Target>> {
        embedding_shape(linears).map_or(Ok(None), |shape| self.target(&shape))
    }
}

/// The input embeddings as a linear layer from tokens to vectors: the sizes of the output head, transposed.
fn embedding_shape(linears: &[LinearShape]) -> Option<LinearShape> {
    let head = linears.last()?;
    let (in_features, out_features) = (head.out_features, head.in_features);
    let (index, name) = (linears.len(), EMBEDDING.to_owned());
    Some(LinearShape { index, name, in_features, out_features, bias: false, ..head.clone() })
}

fn ensure_rank_at_most(most: i64, linear: &LinearShape, r: i64) -> Result<()> {
    if r > most {
        bail!(Kind::Input, "lora `r`: rank {r} is larger than the layer `{}` allows, which is {} × {}", linear.name, linear.out_features, linear.in_features; hint: "use a rank of at most {most}, leave that layer out, or lower it with rank_pattern");
    }
    Ok(())
}

enum Matcher {
    AllLinear,
    Names(Vec<String>),
    Pattern(WholeName),
}

impl Matcher {
    fn new(option: &'static str, targets: &Targets) -> Result<Self> {
        Ok(match targets {
            Targets::AllLinear => Matcher::AllLinear,
            Targets::Names(names) => Matcher::Names(names.clone()),
            Targets::Pattern(pattern) => Matcher::Pattern(WholeName::new(option, pattern)?),
        })
    }

    fn names_in_full(&self, linear: &LinearShape) -> bool {
        matches!(self, Matcher::Names(names) if names.iter().any(|name| *name == linear.outer_name()))
    }

    fn matches(&self, linear: &LinearShape) -> Result<bool> {
        Ok(match self {
            Matcher::AllLinear => linear.layer.is_some(),
            Matcher::Names(names) => names.iter().any(|name| is_suffix(name, &linear.outer_name())),
            Matcher::Pattern(pattern) => pattern.matches(&linear.outer_name())?,
        })
    }
}

/// Is `name` equal to `full`, or the part of it after a dot?
fn is_suffix(name: &str, full: &str) -> bool {
    full.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn checked_layers(spec: &LoraSpec, linears: &[LinearShape]) -> Result<Option<BTreeSet<usize>>> {
    let Some(layers) = spec.layers_to_transform.as_ref().filter(|layers| !layers.is_empty()) else { return Ok(None) };
    if matches!(spec.target_modules, Targets::Pattern(_)) {
        bail!(Kind::Input, "lora `layers_to_transform` works with a list of target_modules, not with a regular expression"; hint: "put the layer numbers into the expression");
    }
    let count = linears.iter().filter_map(|linear| linear.layer).max().map_or(0, |last| last + 1);
    if let Some(layer) = layers.iter().find(|&&layer| layer >= count) {
        bail!(
            Kind::Input,
            "lora `layers_to_transform`: expected layers from 0 to {}, found {layer}",
            count.saturating_sub(1)
        );
    }
    Ok(Some(layers.iter().copied().collect()))
}

/// Is the module of this full name in `modules_to_save`? PEFT includes every module whose name ends with
/// the text, and all modules in it: "norm" means every norm, "mlp" its three layers.
pub fn is_saved(spec: &LoraSpec, name: &str) -> bool {
    spec.modules_to_save.iter().any(|saved| is_part_of(name, saved))
}

/// Does the name of the module, or of one that contains it, end with `saved`?
fn is_part_of(name: &str, saved: &str) -> bool {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| &name[..end]).any(|path| path.ends_with(saved))
}

/// PEFT adapts no module whose path contains a name of `modules_to_save` in full.
fn is_in_saved_module(spec: &LoraSpec, name: &str) -> bool {
    let dotted = format!(".{name}.");
    spec.modules_to_save.iter().any(|saved| dotted.contains(&format!(".{saved}.")))
}

/// As [`match_targets`], for a new adapter rather than one from a file. Also refuses likely mistakes: a name
/// that matches no layer, for the adapter would silently train less than intended; a rank above the larger
/// side of its layer, which takes more memory than the layer itself; keys without an order that disagree.
pub fn fresh_targets(spec: &LoraSpec, config: &Config) -> Result<Vec<Target>> {
    let linears = &linear_shapes(config);
    ensure_names_match(spec, linears, config)?;
    ensure_separate_matrices(spec, linears, config)?;
    let targets = match_targets(spec, linears)?;
    let embedding = match_embedding(spec, linears)?;
    let (ranks, alphas) =
        (Compiled::new("rank_pattern", &spec.rank_pattern)?, Compiled::new("alpha_pattern", &spec.alpha_pattern)?);
    for Target { linear, r, .. } in targets.iter().chain(&embedding) {
        ensure_rank_at_most(linear.in_features.max(linear.out_features), linear, *r)?;
        ranks.ensure_unambiguous(&linear.outer_name())?;
        alphas.ensure_unambiguous(&linear.outer_name())?;
    }
    Ok(targets)
}

fn ensure_names_match(spec: &LoraSpec, linears: &[LinearShape], config: &Config) -> Result<()> {
    ensure_modules_to_save_match(spec, linears, config)?;
    if spec.bias != Bias::None && !linears.iter().any(|linear| linear.bias) {
        bail!(Kind::Input, "lora `bias`: expected \"none\" for a model without biases, found \"{}\"", spec.bias.name());
    }
    ensure_no_experts(spec, config)?;
    let Targets::Names(names) = &spec.target_modules else { return Ok(()) };
    for name in names {
        if config.architecture.projections == Projections::Fused && SEPARATE_NAMES.contains(&name.as_str()) {
            return Err(unknown_module(name, linears).with_hint(
                "this model has one layer for queries, keys and values, `qkv_proj`, and one for gate and up, `gate_up_proj`",
            ));
        }
        if !is_suffix(name, EMBEDDING) && !linears.iter().any(|linear| is_suffix(name, &linear.outer_name())) {
            return Err(unknown_module(name, linears));
        }
    }
    Ok(())
}

/// Layers that some families have as parts of one.
const SEPARATE_NAMES: [&str; 5] = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"];

/// Fails for targets that peft would also adapt in the experts of a mixture, which are frozen here.
fn ensure_no_experts(spec: &LoraSpec, config: &Config) -> Result<()> {
    let Some(experts) = &config.architecture.experts else { return Ok(()) };
    let means_experts = match &spec.target_modules {
        Targets::AllLinear => Some("all-linear"),
        Targets::Names(names) => names.iter().map(String::as_str).find(|name| experts.names.contains(name)),
        Targets::Pattern(_) => None,
    };
    match means_experts {
        Some(name) => {
            bail!(Kind::Input, "lora `target_modules`: \"{name}\" means the experts of this model too, which carry no adapters in lorhai"; hint: "name the layers of attention: [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"]")
        }
        None => Ok(()),
    }
}

fn ensure_modules_to_save_match(spec: &LoraSpec, linears: &[LinearShape], config: &Config) -> Result<()> {
    let norms = norm_shapes(config);
    let modules =
        || linears.iter().map(|linear| linear.name.as_str()).chain(norms.iter().map(|(name, _)| name.as_str()));
    let known = |name: &str| is_part_of(EMBEDDING, name) || modules().any(|module| is_part_of(module, name));
    let Some(name) = spec.modules_to_save.iter().find(|name| name.is_empty() || !known(name)) else { return Ok(()) };
    let error = Error::input(format!("lora `modules_to_save`: no module is called `{name}`"));
    let norms = norms.iter().map(|(name, _)| name.rsplit('.').next().unwrap_or_default());
    let mut names = short_names(linears);
    names.push("embed_tokens");
    for norm in norms {
        if !names.contains(&norm) {
            names.push(norm);
        }
    }
    Err(error.with_hint(suggest::hint(name, names)))
}

/// PEFT gives head and embeddings LoRA matrices that share their memory and are trained twice over.
fn ensure_separate_matrices(spec: &LoraSpec, linears: &[LinearShape], config: &Config) -> Result<()> {
    if ties_targets(spec, linears, config)? {
        bail!(Kind::Input, "lora `ensure_weight_tying`: it is for modules_to_save and trainable_token_indices, found it with `target_modules` that include the embeddings or the head"; hint: "leave it out: head and embeddings then have separate matrices");
    }
    Ok(())
}

/// Would head and embeddings share LoRA matrices, by `ensure_weight_tying`?
pub fn ties_targets(spec: &LoraSpec, linears: &[LinearShape], config: &Config) -> Result<bool> {
    if !spec.ensure_weight_tying || !config.tie_word_embeddings || ties_saved(spec, config) {
        return Ok(false);
    }
    let matching = Matching::new(spec, linears)?;
    let head = linears.last().map_or(Ok(None), |head| matching.target(head))?;
    Ok(head.is_some() || matching.embedding(linears)?.is_some())
}

/// Do head and embeddings share one trained copy, by `ensure_weight_tying`?
pub fn ties_saved(spec: &LoraSpec, config: &Config) -> bool {
    let is_saved = |name: &str| is_saved(spec, name);
    spec.ensure_weight_tying && config.tie_word_embeddings && (is_saved(EMBEDDING) || is_saved(HEAD))
}

fn unknown_module(name: &str, linears: &[LinearShape]) -> Error {
    let error = Error::input(format!("lora `target_modules`: no linear layer is called `{name}`"));
    let names = short_names(linears).into_iter().chain(["embed_tokens"]);
    error.with_hint(suggest::hint(name, names))
}

/// The last parts of the names of all linear layers.
pub fn short_names(linears: &[LinearShape]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for linear in linears {
        let short = linear.name.rsplit('.').next().unwrap_or(&linear.name);
        if !names.contains(&short) {
            names.push(short);
        }
    }
    names
}

fn no_target(spec: &LoraSpec, linears: &[LinearShape]) -> Error {
    let targets = match &spec.target_modules {
        Targets::AllLinear => "all-linear".to_owned(),
        Targets::Names(names) => format!("[{}]", names.join(", ")),
        Targets::Pattern(pattern) => format!("the expression `{pattern}`"),
    };
    let narrowed = spec.exclude_modules.is_some() || spec.layers_to_transform.is_some();
    if narrowed || !spec.modules_to_save.is_empty() {
        let text = "matches no layer that exclude_modules, layers_to_transform and modules_to_save leave";
        return Error::input(format!("lora `target_modules`: {targets} {text}"))
            .with_hint("relax these options, or add targets");
    }
    let error = Error::input(format!("lora `target_modules`: {targets} matches no layer of this model"));
    if matches!(&spec.target_modules, Targets::Pattern(pattern) if pattern.contains(',')) {
        return error.with_hint("write several names as an array: [\"q_proj\", \"v_proj\"]");
    }
    error.with_hint(format!(
        "an example of a full name: `{}`; names: {}",
        linears.first().map_or("", |linear| &linear.name),
        short_names(linears).join(", ")
    ))
}
