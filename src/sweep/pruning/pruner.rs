//! Decides which trials of a plan go on at their rungs. A setting, which is a point of the grid without its seed, goes on
//! or stops with all of its seeds: its value at a rung is the mean over them.

use super::options::{PruneOptions, PruneRule};
use super::record::{Climb, Decided, RungRecord, Score};
use super::rule::{halving, is_within_median, number_kept};
use super::rungs::Rung;
use crate::error::{Error, Result};
use crate::sweep::columns::sign;
use crate::sweep::grid::SEED;
use crate::sweep::record::{Measurements, PrunedTrial};
use crate::sweep::trial::{Plan, Trial};
use std::collections::HashMap;
use std::path::PathBuf;

/// What the rungs of a trial depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    /// Settings of one class are compared: they have base, rows and objective in common.
    pub class: usize,
    /// By step.
    pub rungs: Vec<Rung>,
    /// The steps of the whole trial, and its tokens.
    pub steps: u64,
    pub tokens: u64,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Finished,
    Failed,
    Pruned,
}

#[derive(Debug)]
struct Member {
    name: String,
    fingerprint: String,
    setting: usize,
    entrant: Entrant,
    /// The step that it goes on from, or 0.
    saved: u64,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Setting {
    name: String,
    class: usize,
    trials: Vec<usize>,
}

/// What came out at a rung, for the settings of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct RungReport {
    pub step: u64,
    /// The numbers of settings.
    pub go_on: usize,
    pub stopped: usize,
    /// The trials that stop here, by their positions in the plan.
    pub trials: Vec<(usize, PrunedTrial)>,
}

/// The trials of a plan on their rungs.
#[derive(Debug)]
pub struct Pruner {
    options: PruneOptions,
    out: PathBuf,
    members: Vec<Member>,
    settings: Vec<Setting>,
    record: RungRecord,
    /// All rungs, and the number of the next one that is decided.
    stages: Vec<i64>,
    at: usize,
    /// Does it only keep the trials that were stopped before?
    is_idle: bool,
}

impl Pruner {
    /// For the trials of `plan`, in their order, with what an earlier run recorded of them in its folder. What it recorded of
    /// trials that begin anew is void.
    ///
    /// # Errors
    /// Other numbers of trials and entrants.
    pub fn new(
        plan: &Plan,
        options: &PruneOptions,
        entrants: Vec<Entrant>,
        begins_anew: &dyn Fn(&Trial) -> bool,
    ) -> Result<Self> {
        if entrants.len() != plan.trials.len() {
            return Err(Error::bug(format!("{} entrants for {} trials", entrants.len(), plan.trials.len())));
        }
        let (mut members, mut settings): (Vec<Member>, Vec<Setting>) = Default::default();
        let mut numbers: HashMap<(usize, String), usize> = HashMap::new();
        for (trial, entrant) in plan.trials.iter().zip(entrants) {
            let name = trial.point.without(SEED).folder_name();
            let setting = *numbers.entry((entrant.class, name)).or_insert_with_key(|(class, name)| {
                settings.push(Setting { name: name.clone(), class: *class, trials: Vec::new() });
                settings.len() - 1
            });
            settings[setting].trials.push(members.len());
            let (name, fingerprint) = (trial.name.clone(), trial.fingerprint());
            members.push(Member { name, fingerprint, setting, entrant, saved: 0, ending: None });
        }
        let mut pruner = Pruner {
            options: options.clone(),
            out: plan.out.clone(),
            record: RungRecord::new(options),
            members,
            settings,
            stages: Vec::new(),
            at: 0,
            is_idle: false,
        };
        pruner.stages = pruner.all_stages();
        if let Some(mut earlier) = RungRecord::read(&plan.out) {
            plan.trials.iter().filter(|trial| begins_anew(trial)).for_each(|trial| {
                earlier.trials.remove(&trial.name);
            });
            pruner.take_over(earlier);
        }
        Ok(pruner)
    }

    /// Stops no trial of `plan`, and leaves those that were stopped before as they are.
    pub fn idle(plan: &Plan) -> Result<Self> {
        let entrant = Entrant { class: 0, rungs: Vec::new(), steps: 0, tokens: 0 };
        let entrants = vec![entrant; plan.trials.len()];
        Ok(Pruner { is_idle: true, ..Self::new(plan, &PruneOptions::default(), entrants, &|_| true)? })
    }

    /// Notes the steps that trials go on from.
    pub fn go_on_from(&mut self, step: impl Fn(&str) -> Option<u64>) {
        self.members.iter_mut().for_each(|member| member.saved = step(&member.name).unwrap_or(0));
    }

    /// Takes over what still holds of an earlier record.
    fn take_over(&mut self, earlier: RungRecord) {
        let prune = PruneOptions { keep_states: self.options.keep_states, ..earlier.prune };
        if prune.metric != self.options.metric {
            return;
        }
        let has_same_rules = prune == self.options;
        let members: HashMap<&str, &Member> =
            self.members.iter().map(|member| (member.name.as_str(), member)).collect();
        for (name, climb) in earlier.trials {
            // Trials that are not in this plan may be in a later one, which decides by their settings.
            let Some(member) = members.get(name.as_str()) else {
                self.record.trials.insert(name, climb);
                continue;
            };
            let is_rung = |score: &Score| member.entrant.rungs.contains(&Rung { stage: score.stage, step: score.step });
            if climb.fingerprint == member.fingerprint && climb.scores.iter().all(is_rung) {
                self.record.trials.insert(name, climb);
            }
        }
        let holds = |decided: &Decided| {
            let setting = self.settings.iter().find(|setting| setting.name == decided.setting);
            // Decided by numbers that are void now, or not decided by those of this plan at all.
            setting.is_none_or(|setting| {
                let mut climbs = setting.trials.iter().filter_map(|&at| self.climb(at));
                climbs.any(|climb| climb.scores.iter().any(|score| score.stage == decided.stage))
            })
        };
        if has_same_rules {
            self.record.decisions = earlier.decisions.into_iter().filter(holds).collect();
        }
    }

    fn all_stages(&self) -> Vec<i64> {
        let rungs = self.members.iter().flat_map(|member| member.entrant.rungs.iter().map(move |rung| (member, rung)));
        let used = rungs.filter(|(member, rung)| self.is_used(member.entrant.class, rung.stage));
        let mut stages: Vec<i64> = used.map(|(_, rung)| rung.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// How many times the settings of a class are divided by `eta` in all: while one of them would be left.
    fn reductions(&self, class: usize) -> u32 {
        let settings = self.settings.iter().filter(|setting| setting.class == class).count() as u64;
        let of_class = self.members.iter().filter(|member| member.entrant.class == class);
        let rungs = of_class.flat_map(|member| &member.entrant.rungs).map(|rung| rung.stage.unsigned_abs() as u32);
        settings.max(1).ilog(self.options.eta.max(2)).max(1).min(rungs.max().unwrap_or(0))
    }

    /// Few settings have fewer rungs, the last ones: one of three cannot be divided twice.
    fn is_used(&self, class: usize, stage: i64) -> bool {
        self.options.rule == PruneRule::Median || stage.unsigned_abs() as u32 <= self.reductions(class)
    }

    fn climb(&self, trial: usize) -> Option<&Climb> {
        self.record.trials.get(&self.members.get(trial)?.name)
    }

    fn score(&self, trial: usize, stage: i64) -> Option<f64> {
        let climb = self.climb(trial)?;
        let score = climb.scores.iter().find(|score| score.stage == stage);
        // One that ended by itself counts with its last value.
        let score = score.or_else(|| climb.scores.last().filter(|last| climb.has_ended && last.stage < stage));
        score.map(|score| score.value)
    }

    /// The rung that is decided next; `None` where all are decided and trials run to their ends.
    pub fn stage(&self) -> Option<i64> {
        self.stages.get(self.at).copied()
    }

    /// The trials that have not ended.
    pub fn open(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(|&at| self.members[at].ending.is_none())
    }

    pub fn options(&self) -> &PruneOptions {
        &self.options
    }

    /// What the rungs of a trial depend on, and the number of its setting.
    pub fn entrant(&self, trial: &Trial) -> Option<(&Entrant, usize)> {
        self.members.get(trial.index).map(|member| (&member.entrant, member.setting))
    }

    /// Does each trial that stops keep its state?
    pub fn keeps_states(&self) -> bool {
        self.options.keep_states
    }

    /// Was the setting of this trial stopped?
    pub fn is_stopped(&self, trial: &Trial) -> bool {
        if self.is_idle {
            return true;
        }
        let setting = self.members.get(trial.index).and_then(|member| self.settings.get(member.setting));
        setting.is_some_and(|setting| self.record.stopped_at(&setting.name).is_some())
    }

    /// The rung of a trial at this stage, if it takes part in the decision.
    fn rung(&self, trial: usize, stage: i64) -> Option<Rung> {
        let member = self.members.get(trial)?;
        let rung = *member.entrant.rungs.iter().find(|rung| rung.stage == stage)?;
        // One that was trained further by an earlier run, without this rung, is not compared there.
        let has_passed = member.saved > rung.step && self.score(trial, stage).is_none();
        let class = member.entrant.class;
        (!has_passed && self.is_used(class, stage) && self.in_play(class, stage).count() > 1).then_some(rung)
    }

    /// The settings of a class that were not stopped before this stage.
    fn in_play(&self, class: usize, stage: i64) -> impl Iterator<Item = usize> + '_ {
        let is_in_play = move |setting: &Setting| {
            setting.class == class && self.record.stopped_at(&setting.name).is_none_or(|stopped| stopped >= stage)
        };
        (0..self.settings.len()).filter(move |&at| is_in_play(&self.settings[at]))
    }

    /// The step at which the trial pauses next; `None` runs to its end.
    pub fn until(&self, trial: &Trial) -> Option<u64> {
        Some(self.rung(trial.index, self.stage()?)?.step)
    }

    /// Those of `trials` that train before the next decision.
    pub fn due<'a>(&self, trials: &[&'a Trial]) -> Vec<&'a Trial> {
        let Some(stage) = self.stage() else { return trials.to_vec() };
        let is_due =
            |trial: &&&Trial| self.rung(trial.index, stage).is_some() && self.score(trial.index, stage).is_none();
        trials.iter().filter(is_due).copied().collect()
    }

    /// Notes how a trial ended.
    pub fn conclude(&mut self, trial: &Trial, ending: Ending) {
        if let Some(member) = self.members.get_mut(trial.index) {
            member.ending = Some(ending);
        }
    }

    /// Notes what a trial measured where it paused, or where it ended by itself before its rung.
    ///
    /// # Errors
    /// A metric that the trial does not have.
    pub fn measure(&mut self, trial: &Trial, measurements: &Measurements, has_ended: bool) -> Result<()> {
        let Some(rung) = self.stage().and_then(|stage| self.rung(trial.index, stage)) else { return Ok(()) };
        let metric = self.options.metric.as_str();
        let value = measurements.number(metric).ok_or_else(|| {
            let error = Error::input(format!(
                "sweep: option `prune.metric`: trials do not measure `{metric}` at step {}",
                rung.step
            ));
            error.with_hint(
                "name a number of an evaluation, such as \"eval_loss\", or \"train_loss\" without held-out rows",
            )
        })?;
        let fingerprint = self.members.get(trial.index).map(|member| member.fingerprint.clone()).unwrap_or_default();
        let climb = self.record.trials.entry(trial.name.clone()).or_insert_with(|| Climb {
            fingerprint,
            scores: Vec::new(),
            measurements: measurements.clone(),
            has_ended,
        });
        climb.scores.push(Score { stage: rung.stage, step: rung.step, value });
        (climb.measurements, climb.has_ended) = (measurements.clone(), has_ended);
        Ok(())
    }

    /// Writes what was measured and decided.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self) -> Result<()> {
        if self.is_idle {
            return Ok(());
        }
        self.record.write(&self.out)
    }

    /// Decides which settings go on after the present rung, to which all have come, and turns to the next one. A report for
    /// each class with a trial there.
    pub fn decide(&mut self) -> Vec<RungReport> {
        let Some(stage) = self.stage() else { return Vec::new() };
        let mut classes: Vec<usize> = self.settings.iter().map(|setting| setting.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let reports = classes.into_iter().filter_map(|class| self.decide_class(class, stage)).collect();
        self.at += 1;
        reports
    }

    fn decide_class(&mut self, class: usize, stage: i64) -> Option<RungReport> {
        let in_play: Vec<usize> = self.in_play(class, stage).collect();
        let has_rung = |at: &usize| self.settings[*at].trials.iter().any(|&trial| self.rung(trial, stage).is_some());
        let values: Vec<(usize, f64)> =
            in_play.iter().filter(|at| has_rung(at)).filter_map(|&at| Some((at, self.value(at, stage)?))).collect();
        let goes_on = match self.options.rule {
            PruneRule::Halving => {
                let of_class = self.settings.iter().filter(|setting| setting.class == class).count();
                // Those in play that have no value are not counted: they do not compete.
                let settings = of_class - (in_play.len() - values.len());
                let reductions = (self.reductions(class) + 1).saturating_sub(stage.unsigned_abs() as u32);
                let numbers: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
                halving(&numbers, number_kept(settings, self.options.eta, reductions))
            }
            PruneRule::Median => self.within_median(&values.iter().map(|(at, _)| *at).collect::<Vec<_>>(), stage),
        };
        for ((at, _), goes_on) in values.iter().zip(goes_on) {
            let setting = self.settings[*at].name.clone();
            if self.record.decision(&setting, stage).is_none() {
                self.record.decisions.push(Decided { stage, setting, goes_on });
            }
        }
        let decision = |at: &usize| self.record.decision(&self.settings[*at].name, stage);
        let stopped: Vec<usize> = in_play.iter().filter(|at| decision(at) == Some(false)).copied().collect();
        let go_on = in_play.iter().filter(|at| decision(at) == Some(true)).count();
        let trials = stopped.iter().flat_map(|&at| &self.settings[at].trials);
        let trials: Vec<(usize, PrunedTrial)> = trials
            .filter(|&&trial| self.members[trial].ending.is_none())
            .filter_map(|&trial| Some((trial, self.pruned(trial)?)))
            .collect();
        let is_news = !trials.is_empty()
            || in_play
                .iter()
                .any(|&at| self.settings[at].trials.iter().any(|&trial| self.members[trial].ending.is_none()));
        let steps =
            in_play.iter().flat_map(|&at| &self.settings[at].trials).filter_map(|&trial| self.rung(trial, stage));
        let step = steps.map(|rung| rung.step).max()?;
        is_news.then_some(RungReport { step, go_on, stopped: stopped.len(), trials })
    }

    /// The value of a setting at a rung: the mean over its seeds, where smaller is better. A setting with a failed trial is
    /// behind all others. `None` where one of them was trained without this rung.
    fn value(&self, setting: usize, stage: i64) -> Option<f64> {
        let sign = sign(&self.options.metric);
        let trials = &self.settings[setting].trials;
        let of_trial = |&trial: &usize| match self.members[trial].ending {
            Some(Ending::Failed) => Some(f64::INFINITY),
            _ => self.score(trial, stage).map(|value| sign * value),
        };
        let values: Vec<f64> = trials.iter().map(of_trial).collect::<Option<_>>()?;
        Some(values.iter().sum::<f64>() / values.len().max(1) as f64)
    }

    fn within_median(&self, settings: &[usize], stage: i64) -> Vec<bool> {
        let past: Vec<i64> = self.stages.iter().copied().filter(|other| *other <= stage).collect();
        let curve = |&at: &usize| past.iter().filter_map(|&stage| self.value(at, stage)).collect();
        let curves: Vec<Vec<f64>> = settings.iter().map(curve).collect();
        let others = |at: usize| curves.iter().enumerate().filter(move |(other, _)| *other != at);
        (0..curves.len())
            .map(|at| is_within_median(&curves[at], &others(at).map(|(_, curve)| curve.as_slice()).collect::<Vec<_>>()))
            .collect()
    }

    fn pruned(&self, trial: usize) -> Option<PrunedTrial> {
        let (member, climb) = (self.members.get(trial)?, self.climb(trial)?);
        Some(PrunedTrial {
            step: climb.scores.last()?.step,
            steps: member.entrant.steps,
            planned_tokens: member.entrant.tokens,
            measurements: climb.measurements.clone(),
        })
    }
}
