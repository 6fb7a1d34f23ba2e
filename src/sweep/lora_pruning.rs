//! Which trials of a LoRA sweep are stopped early: their rungs, the settings that are compared, and what that saves.

use super::folder::{SweepFolder, TrialState};
use super::lora_sweep::LoraSweep;
use super::options::TrialSettings;
use super::pruning::forecast::{Climber, PruningForecast};
use super::pruning::rungs::rungs;
use super::pruning::{Entrant, Pruner};
use super::trial::{Plan, Trial};
use crate::bail;
use crate::error::{Kind, Result};
use crate::train::checkpoint::Resume;
use crate::train::objective::Objective;
use crate::train::rehearsal::planned_tokens;
use crate::train::TrainConfig;

impl LoraSweep<'_> {
    /// `cohorts` are those of the trials. `None` where all of them train to their ends.
    pub(super) fn pruner(&self, plan: &Plan, cohorts: &[usize]) -> Result<Option<Pruner>> {
        if self.keeps_pruned {
            return Pruner::idle(plan).map(Some);
        }
        let Some(options) = &self.options.prune.0 else { return Ok(None) };
        self.ensure_measured(&options.metric)?;
        // What is compared must have been measured on the same rows, as the same loss of the same base.
        let mut classes: Vec<(usize, Objective)> = Vec::new();
        let entrants = self.settings.iter().zip(&self.inputs).zip(cohorts).map(|((settings, inputs), cohort)| {
            let (config, rows) = (&settings.config, inputs.train.len());
            let own = (*cohort, config.objective.kind);
            let class = classes.iter().position(|class| *class == own).unwrap_or_else(|| {
                classes.push(own);
                classes.len() - 1
            });
            let (rungs, steps) = (rungs(options, config, rows), config.total_steps(rows));
            Entrant { class, rungs, steps, tokens: planned_tokens(inputs.train, config) }
        });
        let is_unfinished =
            |trial: &Trial| !matches!(SweepFolder::state(trial), Ok(TrialState::Finished(_) | TrialState::Pruned(_)));
        let begins_anew = |trial: &Trial| self.options.checkpoints.resume == Some(Resume::No) && is_unfinished(trial);
        Pruner::new(plan, options, entrants.collect(), &begins_anew).map(Some)
    }

    /// A number that no trial has at its rungs fails here, before the first trial trains.
    fn ensure_measured(&self, metric: &str) -> Result<()> {
        let is_of_objective =
            |settings: &TrialSettings| metric.starts_with("eval_rewards/") && settings.config.objective.is_preference();
        let is_loss = ["eval_loss", "eval_perplexity", "train_loss"].contains(&metric);
        if is_loss || self.settings.iter().all(is_of_objective) {
            return Ok(());
        }
        bail!(Kind::Input, "sweep: option `prune.metric`: expected \"eval_loss\", \"train_loss\", or on preferences a name such as \"eval_rewards/accuracies\", found \"{metric}\"";
            hint: "the option `metrics` measures finished trials alone")
    }

    /// What pruning leaves of the trials that are to run.
    pub(super) fn pruning_forecast(&self, plan: &Plan, pruner: &Pruner) -> PruningForecast {
        let is_to_run = |trial: &Trial| match SweepFolder::state(trial) {
            Ok(TrialState::Finished(_)) => false,
            Ok(TrialState::Pruned(_)) => !pruner.is_stopped(trial),
            _ => true,
        };
        let tokens_after = |index: usize| {
            move |step: u64| {
                let (settings, inputs) = (self.settings.get(index)?, self.inputs.get(index)?);
                Some(planned_tokens(inputs.train, &TrainConfig { steps: step, ..settings.config.clone() }))
            }
        };
        let trials: Vec<&Trial> = plan.trials.iter().filter(|trial| is_to_run(trial)).collect();
        let tokens: Vec<_> = trials
            .iter()
            .map(|trial| {
                let after = tokens_after(trial.index);
                move |step: u64| after(step).unwrap_or(0)
            })
            .collect();
        let climbers = trials.iter().zip(&tokens).filter_map(|(trial, tokens_after)| {
            let (entrant, setting) = pruner.entrant(trial)?;
            Some(Climber { entrant, setting, tokens_after })
        });
        PruningForecast::of(pruner.options(), &climbers.collect::<Vec<_>>())
    }
}
