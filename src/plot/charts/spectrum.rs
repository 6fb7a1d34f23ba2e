//! Charts of what adapters learnt: effective ranks by layer and module, singular values, the similarity of
//! two adapters' subspaces.

use super::chart::{Axis, Chart, Mark, Point, Series};
use super::heat::Heat;
use super::scale::Scale;
use crate::error::{Error, Result};
use crate::lora::spectrum::{mean_grid, AdapterSimilarity, ModuleSpectrum, RankSpectrum, Side, Similarity};
use crate::suggest;
use std::collections::BTreeSet;
use std::path::Path;

/// The quantity that [`rank_heat`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    EffectiveRank,
    /// The least rank with 90 % of the energy.
    Rank90,
    Rank99,
    /// The Frobenius norm of ΔW.
    Norm,
}

crate::choices!(
    Measure,
    [
        ("effective_rank", Measure::EffectiveRank),
        ("rank_90", Measure::Rank90),
        ("rank_99", Measure::Rank99),
        ("norm", Measure::Norm),
    ]
);

/// How a spectrum is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpectrumChart {
    /// By [`rank_heat`].
    Heat,
    /// By [`spectrum_lines`].
    Lines,
}

crate::choices!(SpectrumChart, [("heat", SpectrumChart::Heat), ("lines", SpectrumChart::Lines)]);

crate::options! {
    /// How a spectrum is drawn, and what is shown of it.
    #[derive(Debug, Clone)]
    pub struct SpectrumChartOptions {
        /// A cell for each layer and module ("heat"), or singular values as a mean over layers ("lines").
        pub kind: SpectrumChart = SpectrumChart::Heat;
        /// What the cells show.
        pub value: Measure = Measure::EffectiveRank;
    }
}

/// Draws a spectrum into a file.
///
/// # Errors
/// Lines of an adapter that adds nothing: a logarithmic axis cannot show 0.
pub fn save_spectrum(spectrum: &RankSpectrum, options: &SpectrumChartOptions, path: &Path) -> Result<()> {
    match options.kind {
        SpectrumChart::Heat => rank_heat(spectrum, options.value).save(path),
        SpectrumChart::Lines if spectrum.modules.iter().any(|module| module.norm() > 0.0) => {
            spectrum_lines(spectrum).save(path)
        }
        SpectrumChart::Lines => {
            Err(Error::input("chart: the adapter adds nothing yet: all of its singular values are 0")
                .with_hint("train it first: B of a fresh adapter is zero"))
        }
    }
}

/// The similarity of two adapters as a heat map: of one layer, or as the mean over all.
///
/// # Errors
/// A layer that the adapters do not both have.
pub fn similarity_chart(similarity: &AdapterSimilarity, layer: Option<&str>) -> Result<Heat> {
    let AdapterSimilarity { names: (one, other), side, layers } = similarity;
    let matrix = if *side == Side::A { "A" } else { "B" };
    let Some(layer) = layer else {
        let text = format!("{matrix} of each, mean over {} layers", layers.len());
        return Ok(similarity_heat(layers, (one, other), &text));
    };
    let at = layers.iter().position(|known| known.name == layer).ok_or_else(|| {
        Error::input(format!("chart: option `layer`: the adapters have no common layer called `{layer}`"))
            .with_hint(suggest::hint(layer, layers.iter().map(|known| known.name.as_str())))
    })?;
    Ok(similarity_heat(&layers[at..=at], (one, other), &format!("{matrix} of {layer}")))
}

impl Measure {
    fn of(self, module: &ModuleSpectrum) -> f64 {
        match self {
            Measure::EffectiveRank => module.effective_rank(),
            Measure::Rank90 => module.energy_rank(0.9) as f64,
            Measure::Rank99 => module.energy_rank(0.99) as f64,
            Measure::Norm => module.norm(),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Measure::EffectiveRank => "Effective rank of ΔW",
            Measure::Rank90 => "Least rank with 90 % of the energy of ΔW",
            Measure::Rank99 => "Least rank with 99 % of the energy of ΔW",
            Measure::Norm => "Frobenius norm of ΔW",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Measure::EffectiveRank => 1,
            Measure::Rank90 | Measure::Rank99 => 0,
            Measure::Norm => 2,
        }
    }
}

/// A cell for each layer (column) and module (row). Leaves out modules that belong to no layer, such as
/// the output head.
pub fn rank_heat(spectrum: &RankSpectrum, measure: Measure) -> Heat {
    let modules = in_order(spectrum);
    let layers: BTreeSet<usize> = spectrum.modules.iter().filter_map(|module| module.layer).collect();
    let cell = |module: &str, layer: usize| {
        let spectrum = spectrum.modules.iter().find(|one| one.module == module && one.layer == Some(layer));
        spectrum.map(|spectrum| measure.of(spectrum))
    };
    let cells: Vec<Vec<Option<f64>>> =
        modules.iter().map(|module| layers.iter().map(|&layer| cell(module, layer)).collect()).collect();
    let highest = cells.iter().flatten().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let r = spectrum.modules.iter().map(|module| module.r).max().unwrap_or(0);
    let notes = match measure {
        Measure::EffectiveRank => {
            vec!["e to the entropy of σ/Σσ (Roy and Vetterli, 2007); from 1 to the rank.".to_owned()]
        }
        _ => Vec::new(),
    };
    Heat {
        title: measure.title().into(),
        subtitle: format!("Adapter of rank {r}"),
        x: "layer".into(),
        y: String::new(),
        columns: layers.iter().map(usize::to_string).collect(),
        rows: modules,
        cells,
        decimals: measure.decimals(),
        low: 0.0,
        high: highest,
        notes,
        style: Default::default(),
    }
}

/// The singular values of each kind of module, divided by the largest, mean over layers.
pub fn spectrum_lines(spectrum: &RankSpectrum) -> Chart {
    let series = in_order(spectrum).into_iter().map(|module| {
        let layers: Vec<&ModuleSpectrum> = spectrum.modules.iter().filter(|one| one.module == module).collect();
        Series { points: mean_values(&layers), name: module, mark: Mark::LineAndPoints, ..Series::default() }
    });
    Chart {
        title: "Singular values of ΔW".into(),
        subtitle: "Relative to the largest; mean over layers".into(),
        x: Axis::new("index", Scale::Linear),
        y: Axis::new("σ / σ₁", Scale::Log10),
        series: series.collect(),
        ..Chart::default()
    }
}

fn mean_values(modules: &[&ModuleSpectrum]) -> Vec<Point> {
    let longest = modules.iter().map(|module| module.values.len()).max().unwrap_or(0);
    let mean = |at: usize| {
        let ratios = modules.iter().filter_map(|module| {
            let first = module.values.first().filter(|first| **first > 0.0)?;
            Some(module.values.get(at)? / first)
        });
        let ratios: Vec<f64> = ratios.collect();
        ratios.iter().sum::<f64>() / ratios.len().max(1) as f64
    };
    (0..longest).map(|at| Point::new((at + 1) as f64, mean(at))).collect()
}

/// The kinds of modules that belong to layers, in order of appearance.
fn in_order(spectrum: &RankSpectrum) -> Vec<String> {
    let mut modules: Vec<String> = Vec::new();
    for spectrum in spectrum.modules.iter().filter(|module| module.layer.is_some()) {
        if !modules.contains(&spectrum.module) {
            modules.push(spectrum.module.clone());
        }
    }
    modules
}

/// φ(i, j), averaged over `similarities`; `which` names the layers in the subtitle.
pub fn similarity_heat(similarities: &[Similarity], names: (&str, &str), which: &str) -> Heat {
    let grid = mean_grid(similarities);
    let count = |number: usize| (1..=number).map(|at| at.to_string()).collect();
    Heat {
        title: format!("Subspace similarity of {} and {}", names.0, names.1),
        subtitle: which.to_owned(),
        x: format!("j: leading directions of {}", names.1),
        y: format!("i: of {}", names.0),
        columns: count(grid.first().map_or(0, Vec::len)),
        rows: count(grid.len()),
        cells: grid.into_iter().map(|row| row.into_iter().map(Some).collect()).collect(),
        decimals: 2,
        low: 0.0,
        high: 1.0,
        style: Default::default(),
        notes: vec![
            "φ(i, j): 0 where the first i and the first j directions are orthogonal, 1 where one set contains the other (LoRA, section 7.2).".into(),
        ],
    }
}
