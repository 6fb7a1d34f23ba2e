//! Which layers of a given model a specification means, by PEFT's rules of matching.

use super::spec::{Bias, LoraSpec, Targets};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::model::shapes::{LinearShape, EMBEDDING};
use crate::suggest;
use regex::Regex;
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
    spec.check()?;
    let wanted = Matcher::new("target_modules", &spec.target_modules)?;
    let excluded = spec.exclude_modules.as_ref().map(|targets| Matcher::new("exclude_modules", targets)).transpose()?;
    let ranks = patterns("rank_pattern", &spec.rank_pattern)?;
    let alphas = patterns("alpha_pattern", &spec.alpha_pattern)?;
    let layers = checked_layers(spec, linears)?;
    let mut targets = Vec::new();
    for linear in linears {
        let left_out = excluded.as_ref().is_some_and(|excluded| excluded.matches(linear));
        let in_layers = layers.as_ref().is_none_or(|layers| linear.layer.is_some_and(|layer| layers.contains(&layer)));
        // A layer that is named in full is meant, whatever its number.
        let is_wanted = wanted.names_in_full(linear) || in_layers && wanted.matches(linear);
        if left_out || is_saved(spec, &linear.name) || !is_wanted {
            continue;
        }
        let r = first_match(&ranks, &linear.name).unwrap_or(spec.r);
        let alpha = first_match(&alphas, &linear.name).unwrap_or(spec.alpha);
        if spec.init.takes_from_base() {
            refuse_rank_above(linear.in_features.min(linear.out_features), linear, r)?;
        }
        targets.push(Target { linear: linear.clone(), r, alpha, scale: spec.scale(r, alpha) });
    }
    match targets.is_empty() {
        false => Ok(targets),
        true => Err(no_target(spec, linears)),
    }
}

fn refuse_rank_above(most: i64, linear: &LinearShape, r: i64) -> Result<()> {
    if r > most {
        bail!(Kind::Input, "lora `r`: rank {r} is larger than the layer `{}` allows, which is {} × {}", linear.name, linear.out_features, linear.in_features; hint: "use a rank of at most {most}, leave that layer out, or lower it with rank_pattern");
    }
    Ok(())
}

enum Matcher {
    AllLinear,
    Names(Vec<String>),
    Pattern(Regex),
}

impl Matcher {
    fn new(option: &str, targets: &Targets) -> Result<Self> {
        Ok(match targets {
            Targets::AllLinear => Matcher::AllLinear,
            Targets::Names(names) => Matcher::Names(names.clone()),
            Targets::Pattern(pattern) => Matcher::Pattern(whole_match(option, pattern)?),
        })
    }

    fn names_in_full(&self, linear: &LinearShape) -> bool {
        matches!(self, Matcher::Names(names) if names.contains(&linear.name))
    }

    fn matches(&self, linear: &LinearShape) -> bool {
        match self {
            Matcher::AllLinear => linear.layer.is_some(),
            Matcher::Names(names) => names.iter().any(|name| is_suffix(name, &linear.name)),
            Matcher::Pattern(pattern) => pattern.is_match(&linear.name),
        }
    }
}

/// `name` is `full` or a part of it that starts after a dot.
fn is_suffix(name: &str, full: &str) -> bool {
    full.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Compiles a pattern that must match the whole name, as Python's `re.fullmatch` does.
fn whole_match(option: &str, pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or("").trim().trim_start_matches("error: ");
        Error::input(format!("lora `{option}`: `{pattern}` is not a regular expression that we can read: {reason}"))
            .with_hint("look-around and back-references are not supported; a list of names may do")
    })
}

fn patterns<T: Copy>(option: &str, by_name: &std::collections::BTreeMap<String, T>) -> Result<Vec<(Regex, T)>> {
    by_name.iter().map(|(key, value)| Ok((whole_match(option, &format!(r"(?:.*\.)?(?:{key})"))?, *value))).collect()
}

fn first_match<T: Copy>(patterns: &[(Regex, T)], name: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(name)).map(|(_, value)| *value)
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

/// Is the module of this full name trained whole?
pub fn is_saved(spec: &LoraSpec, name: &str) -> bool {
    spec.modules_to_save.iter().any(|saved| is_suffix(saved, name))
}

/// As [`match_targets`], of an adapter that is asked for rather than read from a file: what can only be
/// a slip is refused. Names that match no layer: a misspelt one among good ones would
/// quietly train less than was asked for. A rank beyond the larger side of its layer, which takes
/// more memory than the layer itself.
pub fn fresh_targets(spec: &LoraSpec, linears: &[LinearShape]) -> Result<Vec<Target>> {
    refuse_unmatched_names(spec, linears)?;
    let targets = match_targets(spec, linears)?;
    for Target { linear, r, .. } in &targets {
        refuse_rank_above(linear.in_features.max(linear.out_features), linear, *r)?;
    }
    Ok(targets)
}

fn refuse_unmatched_names(spec: &LoraSpec, linears: &[LinearShape]) -> Result<()> {
    refuse_unmatched_modules_to_save(spec, linears)?;
    if spec.bias != Bias::None && !linears.iter().any(|linear| linear.bias) {
        bail!(Kind::Input, "lora `bias`: expected \"none\" for a model without biases, found \"{}\"", spec.bias.name());
    }
    let Targets::Names(names) = &spec.target_modules else { return Ok(()) };
    for name in names {
        if !linears.iter().any(|linear| is_suffix(name, &linear.name)) {
            return Err(unknown_module(name, linears));
        }
    }
    Ok(())
}

fn refuse_unmatched_modules_to_save(spec: &LoraSpec, linears: &[LinearShape]) -> Result<()> {
    let known = |name: &str| is_suffix(name, EMBEDDING) || linears.iter().any(|linear| is_suffix(name, &linear.name));
    let Some(name) = spec.modules_to_save.iter().find(|name| !known(name)) else { return Ok(()) };
    let error = Error::input(format!("lora `modules_to_save`: no embedding or linear layer is called `{name}`"));
    if name.ends_with("norm") {
        return Err(error.with_hint("norms cannot be trained beside an adapter; model.train_all() trains everything"));
    }
    Err(error.with_hint(suggest::hint(name, short_names(linears).into_iter().chain(["embed_tokens"]))))
}

fn unknown_module(name: &str, linears: &[LinearShape]) -> Error {
    let error = Error::input(format!("lora `target_modules`: no linear layer is called `{name}`"));
    if name == "embed_tokens" {
        return error.with_hint(
            "adapters on embeddings are not supported; modules_to_save: [\"embed_tokens\"] trains a whole copy of them",
        );
    }
    error.with_hint(suggest::hint(name, short_names(linears)))
}

fn short_names(linears: &[LinearShape]) -> Vec<&str> {
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
    let wanted = match &spec.target_modules {
        Targets::AllLinear => "all-linear".to_owned(),
        Targets::Names(names) => format!("[{}]", names.join(", ")),
        Targets::Pattern(pattern) => format!("the expression `{pattern}`"),
    };
    let narrowed = spec.exclude_modules.is_some() || spec.layers_to_transform.is_some();
    if narrowed || !spec.modules_to_save.is_empty() {
        let text = "matches no layer that exclude_modules, layers_to_transform and modules_to_save leave";
        return Error::input(format!("lora `target_modules`: {wanted} {text}"))
            .with_hint("narrow these options down, or take more targets");
    }
    let error = Error::input(format!("lora `target_modules`: {wanted} matches no layer of this model"));
    if matches!(&spec.target_modules, Targets::Pattern(pattern) if pattern.contains(',')) {
        return error.with_hint("several names are an array: [\"q_proj\", \"v_proj\"]");
    }
    error.with_hint(format!(
        "a full name reads like `{}`; names: {}",
        linears.first().map_or("", |linear| &linear.name),
        short_names(linears).join(", ")
    ))
}
