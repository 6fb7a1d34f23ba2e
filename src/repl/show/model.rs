//! Prints a model: its tensors with their shapes, identical layers once, and which are trained.

use super::Screen;
use crate::format::thousands;
use crate::lora::{AdaptedModel, Adapter, Model};
use crate::model::device::{device_name, dtype_name};
use crate::model::shapes::parameter_shapes;
use crate::script::Handle;
use crate::table::{pad, truncate, width, Align};

/// What the names of all layers begin with.
const LAYERS: &str = "model.layers.";

pub fn line(handle: &Handle<Model>) -> String {
    let described = handle.read().map(|model| {
        let decoder = model.decoder();
        let count = thousands(decoder.config.parameter_count());
        let (dtype, device) = (dtype_name(decoder.dtype), device_name(decoder.device));
        format!("Model {}: {count} parameters, {dtype}, {device}", model.name)
    });
    described.unwrap_or_else(|error| error.to_string())
}

pub fn show(handle: &Handle<Model>, screen: &Screen) -> String {
    let tree = handle.read().map(|model| {
        let mut rows = rows(&model.adapted);
        let widest = rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
        let lines: Vec<String> = rows.iter_mut().map(|row| row.line(widest)).collect();
        (lines, model.adapted.names().map(str::to_owned).collect::<Vec<_>>(), model.adapted.count_line())
    });
    let (mut lines, adapters, count) = match tree {
        Ok(tree) => tree,
        Err(error) => return error.to_string(),
    };
    lines.insert(0, line(handle));
    if !adapters.is_empty() {
        lines.push(format!("adapters: {}", adapters.join(", ")));
    }
    lines.push(count);
    lines.iter().map(|line| truncate(line, screen.columns)).collect::<Vec<_>>().join("\n")
}

/// A line of the tree.
struct LayerRow {
    name: String,
    shape: Option<Vec<i64>>,
    trained: String,
}

impl LayerRow {
    fn line(&self, widest: usize) -> String {
        let shape = self.shape.as_ref().map_or(String::new(), |shape| format!("{shape:?}"));
        let name = pad(&self.name, widest, Align::Left);
        format!("  {name}  {shape:<16}{}", self.trained).trim_end().to_string()
    }
}

fn rows(adapted: &AdaptedModel) -> Vec<LayerRow> {
    let config = &adapted.decoder.config;
    let layers = config.num_hidden_layers;
    let adapter = adapted.adapter(None).ok();
    let full = adapter.is_none() && adapted.trainable().is_ok();
    let (mut before, mut inside, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in parameter_shapes(config) {
        let trained = if full { "trained".to_string() } else { String::new() };
        match name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')) {
            Some(("0", within)) => {
                let trained = adapter.map_or(trained, |adapter| on_layers(adapter, within, layers));
                inside.push(LayerRow {
                    name: format!("  {}", within.trim_end_matches(".weight")),
                    shape: Some(shape),
                    trained,
                });
            }
            Some(_) => {}
            None => {
                let trained = adapter.filter(|_| name.starts_with("lm_head")).map_or(trained, on_head);
                let row = LayerRow { name: name.trim_end_matches(".weight").to_string(), shape: Some(shape), trained };
                if name.starts_with("model.embed") {
                    before.push(row)
                } else {
                    behind.push(row)
                }
            }
        }
    }
    let title =
        LayerRow { name: format!("{LAYERS}0 … {}", layers.saturating_sub(1)), shape: None, trained: String::new() };
    before.into_iter().chain([title]).chain(inside).chain(behind).collect()
}

/// The ranks of an adapter on one kind of linear layer, and how many layers have it.
fn on_layers(adapter: &Adapter, within: &str, layers: usize) -> String {
    let linear = within.trim_end_matches(".weight");
    let is_target = |name: &str| {
        name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')).is_some_and(|(_, inner)| inner == linear)
    };
    let targets: Vec<_> = adapter.targets.iter().filter(|target| is_target(&target.linear.name)).collect();
    let (Some(low), Some(high)) =
        (targets.iter().map(|target| target.r).min(), targets.iter().map(|target| target.r).max())
    else {
        return String::new();
    };
    let ranks = if low == high { format!("r {low}") } else { format!("r {low} to {high}") };
    let trained: i64 =
        targets.iter().map(|target| target.r * (target.linear.in_features + target.linear.out_features)).sum();
    let some = if targets.len() < layers { format!(" in {} of {layers} layers", targets.len()) } else { String::new() };
    format!("lora {ranks}{some}, {} trained", thousands(trained as u64))
}

fn on_head(adapter: &Adapter) -> String {
    let head = adapter.targets.iter().find(|target| target.linear.layer.is_none());
    head.map_or(String::new(), |head| format!("lora r {}", head.r))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{screen, shown_on};
    use super::Screen;

    fn shown(input: &str) -> String {
        shown_on(&Screen { columns: 100, ..screen() }, input)
    }

    #[test]
    fn the_tree_shows_shapes_and_what_is_trained() {
        let text = shown("let m = load_model(\"scripts/tiny\", #{ dtype: \"f32\", device: \"cpu\" }); m.add_lora(#{ r: 4, layers_to_transform: [0] }); m");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Model scripts/tiny: ") && lines[0].ends_with(" parameters, f32, cpu"), "{text}");
        let query = lines.iter().find(|line| line.contains("self_attn.q_proj")).unwrap();
        assert!(query.contains("lora r 4 in 1 of ") && query.ends_with(" trained"), "{text}");
        assert!(!lines.iter().any(|line| line.contains("o_proj") && line.contains("lora")), "{text}");
        assert!(lines.last().unwrap().starts_with("trainable params: "), "{text}");
        let text = shown("let m = random_model(\"scripts/tiny\", #{}); m.train_all(); m");
        assert_eq!(text.matches(" trained\n").count(), text.matches(']').count(), "{text}");
    }
}
