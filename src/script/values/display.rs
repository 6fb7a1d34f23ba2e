//! The objects of scripts as text, for `print`, texts between backticks, and arrays: what they are, and how large.

use crate::data::{Batch, Dataset};
use crate::eval::compare::Comparison;
use crate::format::{bytes, thousands};
use crate::lora::spectrum::{AdapterSimilarity, RankSpectrum};
use crate::lora::Model;
use crate::plot::{Chart, Picture};
use crate::script::values::handles::Handle;
use crate::script::values::objects::{DatasetSplit, ModelOptimizer, Output, ScriptRun, Tokenized, TokenizedSplit};
use crate::script::values::tensor::entries;
use crate::sweep::referee::Referee;
use crate::sweep::SweepResult;
use crate::train::forward::ForwardPass;
use crate::train::memory::Plan;
use crate::train::schedule::Schedule;
use crate::train::Batches;
use rhai::{Engine, FuncRegistration, Module};
use tch::Tensor;

/// Tensors with more entries are shown by their shape.
const MAX_SHOWN: usize = 8;

/// Registers the texts of all types of objects, which without them would be the names of Rust types.
pub fn register(engine: &mut Engine) {
    let mut module = Module::new();
    register_text(&mut module, |data: &Dataset| {
        format!("Dataset: {} rows of {}", thousands(data.len() as u64), data.columns().join(", "))
    });
    register_text(&mut module, |split: &DatasetSplit| {
        format!("DatasetSplit: {} rows in `train`, {} in `test`", split.train.len(), split.test.len())
    });
    register_text(&mut module, |data: &Tokenized| {
        let (rows, tokens) = (thousands(data.rows.len() as u64), thousands(data.rows.token_count() as u64));
        format!("Tokenized: {rows} rows, {tokens} tokens")
    });
    register_text(&mut module, |split: &TokenizedSplit| {
        format!("TokenizedSplit: {} rows in `train`, {} in `test`", split.train.rows.len(), split.test.rows.len())
    });
    register_text(&mut module, |batches: &Batches| format!("Batches: {batches}"));
    register_handle(&mut module, |batch: &Batch| format!("Batch: {} rows of {} positions", batch.rows, batch.seq_len));
    register_handle(&mut module, Model::to_string);
    register_handle(&mut module, tensor);
    register_text(&mut module, |output: &Output| {
        let loss = output.tensor(ForwardPass::loss).ok().and_then(|loss| loss.read().ok()?.f_double_value(&[]).ok());
        format!("Output: {}", loss.map_or("logits and mask".to_owned(), |loss| format!("loss {loss:.4}")))
    });
    register_handle(&mut module, |pair: &ModelOptimizer| format!("AdamWOptimizer: lr {}", pair.optimizer.lr()));
    register_handle(&mut module, |run: &ScriptRun| format!("Run: in {}", run.out.display()));
    register_text(&mut module, |schedule: &Schedule| {
        let Schedule { kind, steps, warmup_steps } = schedule;
        let kind = format!("{kind:?}").to_lowercase();
        format!("Schedule: {kind} over {steps} steps, {warmup_steps} of warm-up")
    });
    register_handle(&mut module, |comparison: &Comparison| {
        format!("Comparison: {} prompts, answered by {}", comparison.rows.len(), comparison.names.join(", "))
    });
    register_handle(&mut module, |result: &SweepResult| {
        format!("SweepResult: {} trials in {}", result.rows().len(), result.out.display())
    });
    register_text(&mut module, |chart: &Chart| format!("Chart: {}", chart.title));
    register_text(&mut module, |picture: &Picture| format!("Picture: {}", picture.title()));
    register_text(&mut module, |plan: &Plan| {
        let least = plan.needs.iter().map(|need| need.ours.total()).min().unwrap_or(0);
        format!("MemoryPlan: {}, {} methods, from {}", plan.model, plan.needs.len(), bytes(least))
    });
    register_text(&mut module, |spectrum: &RankSpectrum| {
        format!("RankSpectrum: {} adapted layers", spectrum.modules.len())
    });
    register_text(&mut module, |comparison: &Referee| format!("RankComparison: {} ranks", comparison.ranks.len()));
    register_text(&mut module, |similarity: &AdapterSimilarity| {
        let (one, other) = &similarity.names;
        format!("SubspaceSimilarity: {one} and {other}, {} layers", similarity.layers.len())
    });
    engine.register_global_module(module.into());
}

fn register_text<T: Clone + 'static>(module: &mut Module, text: fn(&T) -> String) {
    for name in ["to_string", "to_debug"] {
        let registration = FuncRegistration::new(name).in_global_namespace().with_purity(true);
        registration.set_into_module(module, move |value: &mut T| text(value));
    }
}

fn register_handle<T: 'static>(module: &mut Module, text: fn(&T) -> String) {
    for name in ["to_string", "to_debug"] {
        let registration = FuncRegistration::new(name).in_global_namespace().with_purity(true);
        registration.set_into_module(module, move |handle: &mut Handle<T>| {
            handle.read().map_or_else(|error| error.message, |value| text(&value))
        });
    }
}

/// `Tensor [2, 3]`; of few numbers also these.
fn tensor(x: &Tensor) -> String {
    let shape = format!("Tensor {:?}", x.size());
    if x.numel() > MAX_SHOWN {
        return shape;
    }
    entries(x).map_or(shape.clone(), |entries| format!("{shape}: {entries:?}"))
}

#[cfg(test)]
mod tests {
    use crate::script::engine::session::printed_by;

    /// Prints what each line leaves in `x`, alone and in an array.
    #[test]
    fn objects_print_what_they_are() {
        for (script, text) in [
            ("dataset([#{ a: 1, b: 2 }])", "Dataset: 1 rows of a, b"),
            ("dataset([#{ a: 1 }, #{ a: 2 }]).split(#{ test: 1 })", "DatasetSplit: 1 rows in `train`, 1 in `test`"),
            ("rows", "Tokenized: 2 rows, "),
            ("splits(rows, rows)", "TokenizedSplit: 2 rows in `train`, 2 in `test`"),
            ("rows.batches(#{ size: 1 })", "Batches: 2 of up to 1 rows"),
            ("model", "Model `scripts/tiny`"),
            ("tensor([1, 2])", "Tensor [2]: [1.0, 2.0]"),
            ("adamw(model, #{ lr: 0.5 })", "AdamWOptimizer: lr 0.5"),
            ("lr_schedule(\"cosine\", #{ steps: 10 })", "Schedule: cosine over 10 steps, 0 of warm-up"),
            ("line_chart(#{ series: [], title: \"t\" })", "Chart: t"),
            ("rank_spectrum(model)", "RankSpectrum: "),
            ("memory_plan(model, #{})", "MemoryPlan: scripts/tiny"),
            ("compare(model, [\"base\"], [\"the\"])", "Comparison: 1 prompts, answered by base"),
        ] {
            let script = format!(
                r#"let model = load_model("scripts/tiny"); model.add_lora(#{{ r: 2 }});
                let pairs = dataset([#{{ prompt: "a", completion: " b" }}, #{{ prompt: "c", completion: " d" }}]);
                let rows = pairs.tokenize(model, #{{}});
                let x = {script}; print(x); print([x]);"#
            );
            let printed = printed_by(&script).unwrap();
            assert_eq!(printed.matches(text).count(), 2, "{script}: {printed}");
            assert!(!printed.contains("::"), "{printed}");
        }
    }
}
