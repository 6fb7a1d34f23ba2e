//! A sweep over experiments of the caller: a function runs each point of the grid, one after the other, and returns its
//! results. Folders, resuming, results and table are those of every sweep.

use super::decide::DecideOptions;
use super::event::Event;
use super::folder::{self, SweepFolder, TrialState};
use super::grid::{Grid, Point};
use super::lora_sweep::SweepReport;
use super::place::Place;
use super::progress::SweepProgress;
use super::record::{Measurements, Trained};
use super::rehearsal::moved;
use super::run::run;
use super::shared::run::run_shared;
use super::shared::WorkerId;
use super::trial::{Plan, Trial};
use crate::data::Pace;
use crate::error::Result;
use crate::train::origin::Origin;
use serde_json::{json, Value};
use std::path::Path;

/// Runs a trial in its folder.
pub type RunTrial<'a> = dyn FnMut(&Trial) -> Result<Measurements> + 'a;

/// More trials than this are not rehearsed: the others get the results of the last one.
const MOST_REHEARSED: usize = 8;

pub struct TrialSweep<'a> {
    pub grid: Grid,
    /// What the results depend on, beside the point: a trial that finished with other settings is run again.
    pub settings: &'a dyn Fn(&Point) -> Result<Value>,
    /// Written to each trial's folder as `origin.json`.
    pub origin: Option<Origin>,
    /// What the sweep decides, where it adds seeds until that is known.
    pub decide: Option<DecideOptions>,
    /// The option that each setting was tuned by, before settings were compared.
    pub tuned: Option<String>,
    /// The number of the round, from 0, in a sweep whose trials depend on results.
    pub round: Option<usize>,
    /// Share the sweep with other processes that run it.
    pub is_shared: bool,
}

/// Trials run one after the other.
fn first<'a>(free: &[&'a Trial]) -> Result<Vec<&'a Trial>> {
    Ok(free.first().copied().into_iter().collect())
}

impl TrialSweep<'_> {
    /// Plans the trials in the folder `out`.
    ///
    /// # Errors
    /// An empty `out`, or axes with the names of columns.
    pub fn plan(&self, out: &Path) -> Result<Plan> {
        let identity = json!({ "trials": "of a function" });
        let mut plan = Plan::new(out, self.grid.clone(), identity, |point| (self.settings)(point))?;
        plan.set_origin(self.origin.as_ref());
        plan.goes_on_in_place = true;
        plan.decide = self.decide.clone();
        plan.tuned = self.tuned.clone();
        plan.round = self.round;
        plan.place = Some(Place::here(None));
        Ok(plan)
    }

    /// Runs the trials that are not finished in `folder`, which is `out` unless files are redirected. A rehearsal reads
    /// `out` and writes to `folder`.
    ///
    /// # Errors
    /// A folder that cannot be used, or a stop.
    pub fn run(
        &self,
        out: &Path,
        folder: &Path,
        pace: Pace,
        progress: SweepProgress,
        run_trial: &mut RunTrial,
        note: &mut dyn FnMut(&str),
    ) -> Result<SweepReport> {
        let mut plan = self.plan(if pace.is_full() { folder } else { out })?;
        self.note_changed_script(&plan, note);
        if self.is_shared && pace.is_full() {
            plan.share(WorkerId::new());
        }
        let is_rehearsal = !pace.is_full();
        let plan = if is_rehearsal {
            folder::ensure_claimable(&plan)?;
            let moved = moved(&plan, folder);
            folder::copy_records(&plan, &moved, &|_| false)?;
            moved
        } else {
            plan
        };
        let (mut count, mut last) = (0, None);
        let mut run_one = |trial: &Trial| match &last {
            Some(known) if is_rehearsal && count >= MOST_REHEARSED => Ok(Measurements::clone(known)),
            _ => {
                count += 1;
                let measured = run_trial(trial)?;
                last = Some(measured.clone());
                Ok(measured)
            }
        };
        let mut run_group =
            |group: &[&Trial]| -> Vec<Result<Measurements>> { group.iter().map(|trial| run_one(trial)).collect() };
        let mut on_event = |event: &Event| progress.event(event);
        if plan.shared.is_some() {
            let mut train = |group: &[&Trial]| run_group(group).into_iter().map(|one| one.map(Trained::from)).collect();
            let result = run_shared(&plan, &mut on_event, &mut first, &mut train)?;
            return Ok(SweepReport { result, deviations: Vec::new(), forecast: None });
        }
        let result = run(&plan, &mut on_event, &mut |_| Ok(1), &mut run_group)?;
        Ok(SweepReport { result, deviations: Vec::new(), forecast: None })
    }

    /// The function is in the script, so a finished trial may be one of an earlier function.
    fn note_changed_script(&self, plan: &Plan, note: &mut dyn FnMut(&str)) {
        let text = |origin: &Origin| origin.script.as_ref().map(|script| script.text.clone());
        let Some(now) = self.origin.as_ref().and_then(text) else { return };
        let is_finished = |trial: &Trial| matches!(SweepFolder::state(trial), Ok(TrialState::Finished(_)));
        let is_changed =
            |trial: &Trial| Origin::read(&trial.dir).is_ok_and(|origin| text(&origin) != Some(now.clone()));
        let count = plan.trials.iter().filter(|trial| is_finished(trial) && is_changed(trial)).count();
        if count > 0 {
            let trials =
                if count == 1 { "1 finished trial was".to_owned() } else { format!("{count} finished trials were") };
            note(&format!(
                "{trials} run by another text of this script and will not be run again; a change of `settings`, or another \
                 `out`, runs them"
            ));
        }
    }
}
