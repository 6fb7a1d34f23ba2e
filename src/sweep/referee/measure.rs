//! Measures trained ranks, prefixes and truncations on the same held-out rows.

use super::comparison::{RankLosses, Referee};
use super::distance::SeedLoss;
use crate::bail;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Kind, Result};
use crate::eval::loss::mean_losses;
use crate::interrupt;
use crate::lora::spectrum::truncate;
use crate::lora::{peft, Adapter, Model, Trainable};
use crate::model::Decoder;
use crate::options;
use crate::sweep::folder::read_marker;
use crate::sweep::grid::SEED;
use crate::sweep::results::{SweepResult, TrialRow};
use crate::train::recorded::ADAPTER;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The names of the axis of ranks.
const RANK: [&str; 2] = ["rank", "r"];

options! {
    /// What trained ranks are compared with, and how closely.
    #[derive(Debug, Clone)]
    pub struct RefereeOptions {
        /// The folder of a sweep, a run or an adapter that was trained with `nested_ranks`; a sweep over the same seeds
        /// gives the narrowest intervals.
        pub nested: Option<PathBuf> = None, words "none: only the highest rank, cut by its singular values";
        /// The difference of the loss that matters, in nats per token.
        pub margin: f64 = 0.01, range above(0.0);
        /// The confidence of intervals and verdicts.
        pub confidence: f64 = 0.95, range between(0.5, 0.9999);
        /// Rows that are measured together.
        pub batch: usize = 8, alias ["batch_size"], range at_least(1.0);
    }
}

/// Measures the adapters of the sweep `trained`, and what `options` compares them with, on `test`. `to_read` says where a
/// file of a rehearsal lies.
///
/// # Errors
/// A sweep over more than ranks and seeds, adapters that cannot be read, nested runs without a rank in common with it.
pub fn referee(
    trained: &SweepResult,
    model: &Model,
    test: &TokenizedDataset,
    options: &RefereeOptions,
    to_read: &dyn Fn(&Path) -> PathBuf,
) -> Result<Referee> {
    model.adapted.ensure_unmerged()?;
    let decoder = model.decoder();
    let measuring = Measuring { decoder, test, batch: options.batch, to_read };
    let mut ranks: BTreeMap<i64, RankLosses> = BTreeMap::new();
    let rows = rows_by_rank(trained)?;
    let highest = *rows.keys().next_back().unwrap_or(&0);
    let mut labels = 0;
    for (rank, rows) in &rows {
        let adapters = measuring.adapters(trained, rows)?;
        let trained = measuring.losses(&adapters, &mut labels)?;
        let nothing = || RankLosses { rank: *rank, trained: Vec::new(), nested: Vec::new(), truncated: Vec::new() };
        ranks.entry(*rank).or_insert_with(nothing).trained = trained;
        if *rank < highest {
            continue;
        }
        for (lower, losses) in ranks.range_mut(..highest) {
            let cut = |(seed, adapter): &(_, Adapter)| Ok((*seed, truncate(adapter, *lower, &decoder.config)?));
            let cut: Vec<(Option<u64>, Adapter)> = adapters.iter().map(cut).collect::<Result<_>>()?;
            losses.truncated = measuring.losses(&cut, &mut labels)?;
        }
    }
    if let Some(nested) = &options.nested {
        for (seed, adapter) in measuring.nested(nested)? {
            let prefixes = adapter.prefixes();
            let wanted: Vec<_> = prefixes.iter().filter(|prefix| ranks.contains_key(&prefix.rank())).collect();
            let trainables: Vec<&dyn Trainable> = wanted.iter().map(|prefix| *prefix as &dyn Trainable).collect();
            let losses = measuring.mean_losses(&trainables, &mut labels)?;
            for (prefix, loss) in wanted.iter().zip(losses) {
                ranks.entry(prefix.rank()).and_modify(|losses| losses.nested.push(SeedLoss { seed, loss }));
            }
        }
        if ranks.values().all(|losses| losses.nested.is_empty()) {
            bail!(
                Kind::Input,
                "referee: option `nested`: the nested ranks of `{}` have none of the trained ones: {}",
                nested.display(),
                listed(rows.keys())
            )
        }
    }
    let RefereeOptions { margin, confidence, .. } = *options;
    Ok(Referee { ranks: ranks.into_values().collect(), margin, confidence, labels })
}

fn listed<'a>(ranks: impl Iterator<Item = &'a i64>) -> String {
    ranks.map(i64::to_string).collect::<Vec<_>>().join(", ")
}

/// The finished trials of each rank.
fn rows_by_rank(result: &SweepResult) -> Result<BTreeMap<i64, Vec<&TrialRow>>> {
    let Some(axis) = result.axes().iter().find(|axis| RANK.contains(&axis.key.as_str())) else {
        bail!(Kind::Input, "referee: expected a sweep over `rank`, found one over {}", result.axes().iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(", "); hint: "sweep with grid: #{{ rank: [1, 2, 4, 8], seed: 5 }}")
    };
    let others = result.axes().iter().filter(|other| other.key != axis.key && other.key != SEED);
    if let Some(other) = others.into_iter().find(|other| other.values.len() > 1) {
        bail!(Kind::Input, "referee: expected a sweep over `{}` and `{SEED}` alone, found one over `{}` too", axis.key, other.key; hint: "sweep the ranks at the values of `{}` that you would use", other.key)
    }
    let mut rows: BTreeMap<i64, Vec<&TrialRow>> = BTreeMap::new();
    for row in result.rows().iter().filter(|row| row.outcome().is_some()) {
        if let Some(rank) = row.point.get(&axis.key).and_then(Value::as_i64) {
            rows.entry(rank).or_default().push(row);
        }
    }
    if rows.len() < 2 {
        bail!(Kind::Input, "referee: expected at least two ranks with finished trials, found {}", rows.len(); hint: "print(result.table()) shows what each trial has")
    }
    Ok(rows)
}

/// What adapters are measured with.
struct Measuring<'a> {
    decoder: &'a Decoder,
    test: &'a TokenizedDataset,
    batch: usize,
    to_read: &'a dyn Fn(&Path) -> PathBuf,
}

impl Measuring<'_> {
    fn adapters(&self, result: &SweepResult, rows: &[&TrialRow]) -> Result<Vec<(Option<u64>, Adapter)>> {
        let read = |row: &&TrialRow| {
            let seed = row.point.get(SEED).and_then(Value::as_u64);
            Ok((seed, self.adapter(&result.out.join(&row.dir).join(ADAPTER))?))
        };
        rows.iter().map(read).collect()
    }

    fn adapter(&self, folder: &Path) -> Result<Adapter> {
        interrupt::check()?;
        peft::load(&peft::find(&(self.to_read)(folder))?, self.decoder)
    }

    /// The adapters with nested ranks in the folder of a sweep, a run or an adapter.
    fn nested(&self, folder: &Path) -> Result<Vec<(Option<u64>, Adapter)>> {
        let found = (self.to_read)(folder);
        let adapters = match read_marker(&found) {
            Ok(Some(_)) => {
                let result = SweepResult::open(&found)?;
                let rows: Vec<&TrialRow> = result.rows().iter().filter(|row| row.outcome().is_some()).collect();
                self.adapters(&result, &rows)?
            }
            _ => vec![(None, self.adapter(folder)?)],
        };
        let nested: Vec<_> = adapters.into_iter().filter(|(_, adapter)| adapter.nested().is_some()).collect();
        let mut seeds: Vec<Option<u64>> = nested.iter().map(|(seed, _)| *seed).collect();
        seeds.sort_unstable();
        if seeds.is_empty() {
            bail!(Kind::Input, "referee: option `nested`: expected adapters with nested ranks in `{}`, found none", folder.display(); hint: "train with lora: #{{ r: 8, nested_ranks: [1, 2, 4, 8] }}")
        }
        if seeds.windows(2).any(|pair| pair[0] == pair[1]) {
            bail!(Kind::Input, "referee: option `nested`: expected one nested run for each seed in `{}`, found several", folder.display(); hint: "sweep over `{SEED}` alone")
        }
        Ok(nested)
    }

    fn losses(&self, adapters: &[(Option<u64>, Adapter)], labels: &mut usize) -> Result<Vec<SeedLoss>> {
        let trainables: Vec<&dyn Trainable> = adapters.iter().map(|(_, adapter)| adapter as &dyn Trainable).collect();
        let losses = self.mean_losses(&trainables, labels)?;
        Ok(adapters.iter().zip(losses).map(|((seed, _), loss)| SeedLoss { seed: *seed, loss }).collect())
    }

    fn mean_losses(&self, trainables: &[&dyn Trainable], labels: &mut usize) -> Result<Vec<f64>> {
        let measured = mean_losses(self.decoder, trainables, self.test, self.batch)?;
        *labels = measured.first().map_or(*labels, |loss| loss.labels);
        Ok(measured.into_iter().map(|loss| loss.loss).collect())
    }
}
