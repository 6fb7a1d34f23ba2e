//! Rank spectra: what adapters learnt, layer by layer, and adapters cut to a lower rank.

use crate::lora::spectrum::{mean_grid, truncate, SimilarityChartOptions, SimilarityOptions, SuggestOptions};
use crate::options;
use crate::options::OptionSet;
use crate::plot::spectrum::{save_spectrum, similarity_chart, SpectrumChartOptions};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_map};
use crate::script::values::options::Options;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use serde_json::json;

options! {
    #[derive(Debug, Clone)]
    struct SpectrumOptions {
        /// The adapter's name.
        adapter: Option<String> = None, words "the active one";
    }
}

options! {
    #[derive(Debug, Clone)]
    struct TruncateOptions {
        /// The name of the new adapter.
        name: Option<String> = None, words "the adapter's name, `_r` and the rank";
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("rank_spectrum", SpectrumOptions::table),
    ("rankSpectrum.chart", SpectrumChartOptions::table),
    ("rankSpectrum.suggest", SuggestOptions::table),
    ("truncate_adapter", TruncateOptions::table),
    ("subspace_similarity", SimilarityOptions::table),
    ("subspaceSimilarity.chart", SimilarityChartOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// The singular values of what an adapter adds to each layer.
    pub type RankSpectrum = crate::lora::spectrum::RankSpectrum;
    /// How similar the subspaces of two adapters are, layer by layer.
    pub type SubspaceSimilarity = crate::lora::spectrum::AdapterSimilarity;

    /// The singular values of what the active adapter adds to each layer, ΔW = s·B·A.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(rank_spectrum(model).table());
    /// ```
    #[rhai_fn(name = "rank_spectrum", return_raw, volatile)]
    pub fn rank_spectrum(model: Model) -> RhaiResultOf<RankSpectrum> {
        rank_spectrum_with(model, Map::new())
    }

    /// The singular values of what an adapter adds to each layer, ΔW = s·B·A.
    ///
    /// ΔW is never formed: the values are those of an r × r matrix from the QR decompositions of A and B, in f64.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, name: "a" });
    /// let spectrum = rank_spectrum(model, #{ adapter: "a" });
    /// for layer in spectrum.modules {
    ///     print(`${layer.name}: ${layer.effective_rank}`);
    /// }
    /// ```
    #[rhai_fn(name = "rank_spectrum", return_raw, volatile)]
    pub fn rank_spectrum_with(model: Model, options: Map) -> RhaiResultOf<RankSpectrum> {
        let SpectrumOptions { adapter } = Options::read("rank_spectrum", options)?;
        let model = model.read()?;
        Ok(RankSpectrum::of(model.adapted.adapter(adapter.as_deref())?)?)
    }

    /// The spectrum as text: a line for each adapted layer, with norm and effective ranks.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(rank_spectrum(model).table());
    /// ```
    #[rhai_fn(name = "table", global, pure)]
    pub fn spectrum_table(spectrum: &mut RankSpectrum) -> String {
        spectrum.table()
    }

    /// The adapted layers as maps: `name`, `layer`, `linear`, `r`, `values`, `effective_rank` and more.
    ///
    /// `linear` is the last part of the name, `effective_rank` is e to the entropy of σ/Σσ (Roy and Vetterli, 2007),
    /// `rank_90` the least rank that keeps 90 % of Σσ², and `norm` the Frobenius norm.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(rank_spectrum(model).modules[0].values);
    /// ```
    #[rhai_fn(get = "modules", global, pure)]
    pub fn modules(spectrum: &mut RankSpectrum) -> Array {
        spectrum.modules.iter().map(|module| Dynamic::from_map(to_map(&module.fields()))).collect()
    }

    /// Draw effective ranks by layer and module, into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// rank_spectrum(model).chart("runs/ranks.svg");
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn draw_spectrum(context: NativeCallContext, spectrum: &mut RankSpectrum, path: &str) -> RhaiResultOf<()> {
        draw_spectrum_with(context, spectrum, path, Map::new())
    }

    /// Draw the spectrum, into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// rank_spectrum(model).chart("runs/norms.svg", #{ value: "norm" });
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn draw_spectrum_with(
        context: NativeCallContext,
        spectrum: &mut RankSpectrum,
        path: &str,
        options: Map,
    ) -> RhaiResultOf<()> {
        let options: SpectrumChartOptions = Options::read("chart", options)?;
        Ok(save_spectrum(spectrum, &options, &State::of(&context)?.file_to_write(path)?)?)
    }

    /// Options for `add_lora` with the least rank for each layer that keeps 90 % of the energy.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(rank_spectrum(model).suggest());
    /// ```
    #[rhai_fn(name = "suggest", global, pure, return_raw)]
    pub fn suggest_default(spectrum: &mut RankSpectrum) -> RhaiResultOf<Map> {
        suggest_with(spectrum, Map::new())
    }

    /// Options for `add_lora` with the least rank for each layer that keeps a fraction of the energy.
    ///
    /// The result has `r`, `alpha`, `rank_pattern`, `alpha_pattern`, `target_modules` and `use_rslora`. Every layer
    /// keeps its scale.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, alpha: 8, name: "wide" });
    /// let options = rank_spectrum(model).suggest(#{ energy: 0.99 });
    /// options.name = "narrow";
    /// model.add_lora(options);
    /// ```
    #[rhai_fn(name = "suggest", global, pure, return_raw)]
    pub fn suggest_with(spectrum: &mut RankSpectrum, options: Map) -> RhaiResultOf<Map> {
        let options: SuggestOptions = Options::read("suggest", options)?;
        Ok(to_map(&spectrum.suggested(&options)?.fields()))
    }

    /// Cut an adapter to a lower rank by its singular values: a new adapter, which becomes the active one.
    ///
    /// No adapter of that rank is closer to the original. Its scale stays the same, and peft loads what
    /// `save_adapter` writes.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 8, name: "wide" });
    /// truncate_adapter(model, "wide", 2, #{ name: "narrow" });
    /// print(model.adapters);
    /// ```
    #[rhai_fn(name = "truncate_adapter", return_raw, volatile)]
    pub fn truncate_adapter(model: Model, adapter: &str, rank: i64, options: Map) -> RhaiResultOf<()> {
        let TruncateOptions { name } = Options::read("truncate_adapter", options)?;
        let name = name.unwrap_or_else(|| format!("{adapter}_r{rank}"));
        let mut model = model.write()?;
        let lower = truncate(model.adapted.adapter(Some(adapter))?, rank, &model.decoder().config)?;
        Ok(model.adapted.insert(&name, lower)?)
    }

    /// How alike the leading directions of two adapters are, layer by layer (LoRA paper, section 7.2).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 4, name: "b", seed: 2 });
    /// subspace_similarity(model, "a", "b").chart("runs/alike.svg");
    /// ```
    #[rhai_fn(name = "subspace_similarity", return_raw, volatile)]
    pub fn subspace_similarity(model: Model, one: &str, other: &str) -> RhaiResultOf<SubspaceSimilarity> {
        subspace_similarity_with(model, one, other, Map::new())
    }

    /// How alike the leading directions of two adapters are, layer by layer.
    ///
    /// Each grid holds φ(i, j) = ‖Uᵢᵀ Vⱼ‖² / min(i, j) over the first i and j singular directions: 0 where they
    /// are orthogonal, 1 where one subspace contains the other.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 4, name: "b", seed: 2 });
    /// print(subspace_similarity(model, "a", "b", #{ matrix: "A" }).mean);
    /// ```
    #[rhai_fn(name = "subspace_similarity", return_raw, volatile)]
    pub fn subspace_similarity_with(
        model: Model,
        one: &str,
        other: &str,
        options: Map,
    ) -> RhaiResultOf<SubspaceSimilarity> {
        let SimilarityOptions { matrix } = Options::read("subspace_similarity", options)?;
        Ok(SubspaceSimilarity::of(&model.read()?.adapted, one, other, matrix)?)
    }

    /// The grid of φ(i, j) as the mean over all layers: an array of rows.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 2, name: "b", seed: 2 });
    /// print(subspace_similarity(model, "a", "b").mean);
    /// ```
    #[rhai_fn(get = "mean", global, pure)]
    pub fn similarity_mean(similarity: &mut SubspaceSimilarity) -> Dynamic {
        to_dynamic(&json!(mean_grid(&similarity.layers)))
    }

    /// The layers as maps: `name` and `grid`, the rows of φ(i, j).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 2, name: "b", seed: 2 });
    /// print(subspace_similarity(model, "a", "b").layers[0].grid[0][0]);
    /// ```
    #[rhai_fn(get = "layers", global, pure)]
    pub fn similarity_layers(similarity: &mut SubspaceSimilarity) -> Dynamic {
        to_dynamic(&json!(similarity.layers))
    }

    /// Draw the mean of φ(i, j) over all layers, into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 4, name: "b", seed: 2 });
    /// subspace_similarity(model, "a", "b").chart("runs/alike.png");
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn draw_similarity(
        context: NativeCallContext,
        similarity: &mut SubspaceSimilarity,
        path: &str,
    ) -> RhaiResultOf<()> {
        draw_similarity_with(context, similarity, path, Map::new())
    }

    /// Draw φ(i, j), into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 2, name: "a", seed: 1 });
    /// model.add_lora(#{ r: 4, name: "b", seed: 2 });
    /// let alike = subspace_similarity(model, "a", "b");
    /// alike.chart("runs/alike.png", #{ layer: "model.layers.0.self_attn.q_proj" });
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn draw_similarity_with(
        context: NativeCallContext,
        similarity: &mut SubspaceSimilarity,
        path: &str,
        options: Map,
    ) -> RhaiResultOf<()> {
        let SimilarityChartOptions { layer } = Options::read("chart", options)?;
        let chart = similarity_chart(similarity, layer.as_deref())?;
        Ok(chart.save(&State::of(&context)?.file_to_write(path)?)?)
    }
}
