//! Nested ranks: prefixes as adapters, and the comparison of ranks with and without training each.

use crate::lora::prefix::prefix;
use crate::options;
use crate::options::OptionSet;
use crate::plot::nested::rank_chart;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_dynamic;
use crate::script::values::objects::Tokenized;
use crate::script::values::options::Options;
use crate::sweep::referee::{self, RefereeOptions};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::Value;
use std::path::{Path, PathBuf};

options! {
    #[derive(Debug, Clone)]
    struct PrefixOptions {
        /// The name of the new adapter.
        name: Option<String> = None, words "the adapter's name, `_r` and the rank";
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] =
    &[("prefix_adapter", PrefixOptions::table), ("sweepResult.referee", RefereeOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// The trials of a sweep and their results.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;
    /// Trained ranks beside prefixes of nested runs and truncations of the highest rank.
    pub type RankComparison = crate::sweep::referee::Referee;

    /// Cut an adapter with nested ranks to one of them: a new adapter, which becomes the active one.
    ///
    /// It has the first rows of A and columns of B, with the scale that they were trained with, and is saved, merged and
    /// evaluated like any adapter of that rank.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, nested_ranks: [1, 2, 4], name: "nested" });
    /// prefix_adapter(model, "nested", 2, #{ name: "narrow" });
    /// print(model.adapters);
    /// ```
    #[rhai_fn(name = "prefix_adapter", return_raw, volatile)]
    pub fn prefix_adapter(model: Model, adapter: &str, rank: i64, options: Map) -> RhaiResultOf<()> {
        let PrefixOptions { name } = Options::read("prefix_adapter", options)?;
        let name = name.unwrap_or_else(|| format!("{adapter}_r{rank}"));
        let mut model = model.write()?;
        let lower = prefix(model.adapted.adapter(Some(adapter))?, rank, &model.decoder().config)?;
        Ok(model.adapted.insert(&name, lower)?)
    }

    /// Was a sweep over ranks needed? Measures its ranks, and the highest one cut by its singular values.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2], seed: 2 }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// print(result.referee(base, data.test).summary);
    /// ```
    #[rhai_fn(name = "referee", global, pure, return_raw, volatile)]
    pub fn referee_default(
        context: NativeCallContext,
        result: &mut SweepResult,
        model: Model,
        test: Tokenized,
    ) -> RhaiResultOf<RankComparison> {
        referee_with(context, result, model, test, Map::new())
    }

    /// Was a sweep over ranks needed? Compares its ranks with the prefixes of runs with nested ranks.
    ///
    /// All adapters are measured on the same held-out rows. The prefixes of `nested`, and the highest trained rank cut by its
    /// singular values, are set against the trained ranks: differences within seeds, with intervals. The sweep was not
    /// needed if the intervals of all prefixes end below `margin`.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2], seed: 2 }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// let nested = sweep(base, data, #{
    ///     grid: #{ seed: 2 }, lora: #{ r: 2, nested_ranks: [1, 2] }, train: #{ steps: 1 }, out: "runs/nested",
    /// });
    /// let verdict = result.referee(base, data.test, #{ nested: "runs/nested", margin: 0.02 });
    /// print(verdict.summary);
    /// print(verdict.table());
    /// ```
    #[rhai_fn(name = "referee", global, pure, return_raw, volatile)]
    pub fn referee_with(
        context: NativeCallContext,
        result: &mut SweepResult,
        model: Model,
        test: Tokenized,
        options: Map,
    ) -> RhaiResultOf<RankComparison> {
        let options: RefereeOptions = Options::read("referee", options)?;
        let (state, result, model) = (State::of(&context)?, result.read()?, model.read()?);
        let rows = state.pace().rows(&test.rows);
        let to_read = |path: &Path| PathBuf::from(state.to_read(&path.display().to_string()));
        Ok(referee::referee(&result, &model, &rows, &options, &to_read)?)
    }

    /// Whether the sweep was needed, in a sentence.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2] }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// print(result.referee(base, data.test).summary);
    /// ```
    #[rhai_fn(get = "summary", global, pure)]
    pub fn summary(comparison: &mut RankComparison) -> String {
        comparison.to_string()
    }

    /// Whether the sweep was needed: true, false, or `()` if the seeds do not tell.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2] }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// print(result.referee(base, data.test).needed);
    /// ```
    #[rhai_fn(get = "needed", global, pure)]
    pub fn needed(comparison: &mut RankComparison) -> Dynamic {
        comparison.needed().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The ranks as maps: `rank`, the losses in `trained`, `nested` and `truncated`, and their distances.
    ///
    /// `nested_distance` and `truncated_distance` have `difference` (above 0 where training the rank is better), `interval`
    /// (half of it) and `verdict`: "close", "worse" or "open".
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2] }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// for rank in result.referee(base, data.test).ranks {
    ///     print(`${rank.rank}: ${rank.trained}`);
    /// }
    /// ```
    #[rhai_fn(get = "ranks", global, pure)]
    pub fn ranks(comparison: &mut RankComparison) -> Dynamic {
        to_dynamic(comparison.fields().get("ranks").unwrap_or(&Value::Null))
    }

    /// The mean losses of all ranks as text, with their distances to the trained ones.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2] }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// print(result.referee(base, data.test).table());
    /// ```
    #[rhai_fn(name = "table", global, pure)]
    pub fn comparison_table(comparison: &mut RankComparison) -> String {
        comparison.table()
    }

    /// Draw the losses of all ranks with their intervals, into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [1, 2] }, train: #{ steps: 1 }, out: "runs/ranks" });
    /// result.referee(base, data.test).chart("runs/referee.svg");
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn draw_comparison(
        context: NativeCallContext,
        comparison: &mut RankComparison,
        path: &str,
    ) -> RhaiResultOf<()> {
        Ok(rank_chart(comparison).save(&State::of(&context)?.file_to_write(path)?)?)
    }
}
