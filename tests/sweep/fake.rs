//! Trials that train nothing but write all that a real one writes.

use lorhai::random::Key;
use lorhai::sweep::pruning::rungs::Rung;
use lorhai::sweep::pruning::{Entrant, PruneOptions, Pruner};
use lorhai::sweep::run::run_in_groups;
use lorhai::sweep::{Event, Grid, Measurements, Plan, SweepObserver, SweepResult, Trained, Trial};
use lorhai::train::metrics::{MetricsLog, MetricsRow};
use lorhai::train::tensorboard::{EventWriter, HParam};
use lorhai::Result;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A plan over `rank` and the like; `changed` gives settings by the trial's name.
pub fn plan(out: &Path, grid: Value, changed: Value) -> Plan {
    let grid = Grid::from_json(grid.as_object().unwrap(), &["rank", "lr"]).unwrap();
    let settings = |point: &lorhai::sweep::Point| {
        let mut settings = json!({"lora": point.values, "train": {"lr": 2e-4, "steps": 10}, "data": "sha256:00"});
        if let Some(Value::Object(new)) = changed.get(point.folder_name()) {
            settings.as_object_mut().unwrap().extend(new.clone());
        }
        Ok(settings)
    };
    Plan::new(out, grid, json!({"model": "fake"}), settings).unwrap()
}

/// Keeps what the runner told.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
}

impl SweepObserver for Log {
    fn event(&mut self, event: &Event) {
        self.lines.push(event.to_string());
    }
}

pub fn run_all(plan: &Plan) -> Result<SweepResult> {
    let mut each = |group: &[&Trial]| group.iter().map(|trial| run(trial)).collect();
    lorhai::sweep::run(plan, &mut |_: &Event| {}, &mut |_| Ok(1), &mut each)
}

/// The steps of a trial.
const STEPS: u64 = 5;

/// Runs `plan` with rungs after the first and the third step, where half of the settings go on. `step` is called between
/// the writes.
pub fn run_pruned<'a>(plan: &'a Plan, step: &mut dyn FnMut()) -> Result<SweepResult> {
    let rungs = [(-2, 1), (-1, 3)].map(|(stage, step)| Rung { stage, step });
    let entrant = Entrant { class: 0, rungs: rungs.to_vec(), steps: STEPS, tokens: 100 * STEPS };
    let entrants = vec![entrant; plan.trials.len()];
    let options = PruneOptions { eta: 2, ..PruneOptions::default() };
    let pruner = RefCell::new(Pruner::new(plan, &options, entrants, &|_| false)?);
    let mut next_group = |due: &[&'a Trial]| -> Result<Vec<&'a Trial>> { Ok(due.iter().take(2).copied().collect()) };
    let mut train_group = |group: &[&Trial]| {
        let trained = group.iter().map(|trial| {
            let until = pruner.borrow().until(trial);
            let measurements = run_to(trial, until.unwrap_or(STEPS), step)?;
            Ok(Trained { measurements, is_paused: until.is_some() })
        });
        trained.collect()
    };
    run_in_groups(plan, Some(&pruner), &mut |_: &Event| {}, &mut next_group, &mut train_group)
}

/// Numbers that depend on the point alone, but for the time.
pub fn outcome(trial: &Trial) -> Measurements {
    let noise = Key::new(0).named(&trial.name);
    let loss = 2.0 + 0.1 * noise.normal(0);
    Measurements {
        trainable_params: 64 * trial.index as u64 + 64,
        train_loss: Some(loss),
        eval_loss: Some(loss + 0.05 * noise.uniform(1)),
        tokens: 12_345,
        seconds: 0.5 + f64::from(std::process::id()) / 1e6,
        metrics: BTreeMap::from([("adapter_mb".to_string(), 0.1 + 0.2)]),
        measured: BTreeSet::new(),
    }
}

pub fn run(trial: &Trial) -> Result<Measurements> {
    run_with_steps(trial, &mut || {})
}

/// Calls `step` between the writes.
pub fn run_with_steps(trial: &Trial, step: &mut dyn FnMut()) -> Result<Measurements> {
    run_to(trial, STEPS, step)
}

/// Trains to the step `until`; an adapter is written at the end alone.
fn run_to(trial: &Trial, until: u64, step: &mut dyn FnMut()) -> Result<Measurements> {
    let outcome = Measurements { tokens: 100 * until, ..outcome(trial) };
    let mut log = MetricsLog::create(&trial.metrics_path())?;
    let mut events = EventWriter::create(&trial.dir)?;
    events.hparams(&[("name".into(), HParam::Text(trial.name.clone()))])?;
    for number in 1..=until {
        step();
        let row = MetricsRow { step: number, loss: outcome.train_loss, ..Default::default() };
        log.append(&row)?;
        events.row(&row)?;
    }
    step();
    log.finish()?;
    events.finish()?;
    if until < STEPS {
        return Ok(outcome);
    }
    lorhai::files::write_atomic(&trial.adapter_dir().join("adapter_model.safetensors"), &[7; 5000])?;
    step();
    Ok(outcome)
}

/// Every file below `folder` with its bytes, by its path; the lock apart.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else if !path.ends_with(".lorhai.lock") {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}
