//! What a worker finds of trials when it joins a shared sweep.

use crate::error::Result;
use crate::sweep::event::{Event, SweepObserver};
use crate::sweep::folder::{SweepFolder, TrialState};
use crate::sweep::record::{Record, TrialResult};
use crate::sweep::trial::{Plan, Trial};
use std::collections::BTreeMap;

/// The records of trials that failed before, by their names: they are tried again, unless they failed in the run of this
/// name.
///
/// # Errors
/// A folder that is not a trial's: it must stop the sweep before anything changes.
pub fn earlier_failures(
    plan: &Plan,
    run: Option<&str>,
    observer: &mut dyn SweepObserver,
) -> Result<BTreeMap<String, Record>> {
    let is_of_this_run =
        |record: &Record| run.is_some() && record.place.as_ref().is_some_and(|place| place.run.as_deref() == run);
    let mut failures = BTreeMap::new();
    for trial in &plan.trials {
        let dir = plan.out.join(&trial.name);
        match SweepFolder::state_in(trial, &dir)? {
            TrialState::Failed(failure) => {
                if let Some(record) = Record::read(&dir).filter(|record| !is_of_this_run(record)) {
                    observer.event(&Event::Retrying { trial, failure: &failure });
                    failures.insert(trial.name.clone(), record);
                }
            }
            TrialState::Changed(changes) => observer.event(&Event::Changed { trial, changes: &changes }),
            _ => {}
        }
    }
    Ok(failures)
}

/// The trials of a shared plan that are not finished.
pub fn unfinished(plan: &Plan) -> Vec<&Trial> {
    let is_finished = |trial: &&Trial| {
        let record = Record::read(&plan.out.join(&trial.name));
        record.is_some_and(|record| {
            record.fingerprint == trial.fingerprint() && matches!(record.result, TrialResult::Finished(_))
        })
    };
    plan.trials.iter().filter(|trial| !is_finished(trial)).collect()
}
