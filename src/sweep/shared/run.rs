//! The runner of a shared sweep: takes trials by leases, trains them, concludes them, and collects what other workers
//! conclude, until all trials are over.

use super::agree::ensure_same_settings;
use super::cleanup::remove_leftovers;
use super::conclude::{Conclusion, Publisher};
use super::earlier::earlier_failures;
use super::heartbeat::Heartbeat;
use super::identity::WorkerId;
use super::inherit::prepare;
use super::leases::{ensure_leasable, Lease, Leases};
use super::share::Supply;
use super::watch::{Life, Watch};
use super::{settings, WORK, WORKERS};
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::sweep::checkpoints::Begun;
use crate::sweep::columns::ensure_no_metric_is_a_column;
use crate::sweep::event::{Event, SweepObserver};
use crate::sweep::folder::SweepFolder;
use crate::sweep::place::Place;
use crate::sweep::record::{Failure, Measurements, Record, Trained, TrialResult};
use crate::sweep::results::{SweepResult, TrialRow};
use crate::sweep::run::{NextGroup, TrainGroup};
use crate::sweep::throughput::Throughput;
use crate::sweep::trial::{Plan, Trial};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// The lease of writing the report.
const REPORT: &str = "@report";
/// Between two looks at what others do.
const POLL: Duration = Duration::from_secs(1);
/// Looking takes at most this part of the time, and waiting at most so long: a folder on a slow server has many trials.
const LOOKING: u32 = 20;
const LONGEST_POLL: Duration = Duration::from_secs(15);
/// Between two tables on disk while trials end.
const TABLE: Duration = Duration::from_secs(2);

/// Runs the trials of a plan that are not over, beside other workers. Returns once all trials are, with all of their
/// results. `next_group` and `train_group` are those of [`run_in_groups`](crate::sweep::run::run_in_groups).
///
/// # Errors
/// A folder that cannot be used, or a stop. What this worker held is free then.
pub fn run_shared<'a>(
    plan: &'a Plan,
    observer: &mut dyn SweepObserver,
    next_group: &mut NextGroup<'_, 'a>,
    train_group: &mut TrainGroup,
) -> Result<SweepResult> {
    let mut worker = SharedSweep::join(plan, observer)?;
    loop {
        interrupt::check()?;
        worker.collect();
        let open = worker.open();
        if open.is_empty() {
            return worker.finish();
        }
        let free = worker.free(&open)?;
        if free.is_empty() {
            worker.wait(open.len())?;
            continue;
        }
        let trials: Vec<&Trial> = free.iter().map(|(trial, _)| *trial).collect();
        let share = worker.share(free.len());
        let group = next_group(&trials)?;
        let group = free.into_iter().filter(|(trial, _)| group.iter().any(|one| one.index == trial.index));
        let group = worker.lease(group.collect(), share)?;
        if !group.is_empty() {
            worker.train(&group, train_group)?;
        }
    }
}

/// A trial that nobody trains, with its last lease.
type Free<'a> = (&'a Trial, Option<Lease>);

/// A trial that this worker holds.
#[derive(Clone, Copy)]
struct Held<'a> {
    trial: &'a Trial,
    generation: u64,
}

/// This worker in a shared sweep.
struct SharedSweep<'a, 'o> {
    plan: &'a Plan,
    me: &'a WorkerId,
    /// Held while the worker works, where the file system has locks: a sweep that is not shared is refused meanwhile.
    _folder: SweepFolder,
    heartbeat: Heartbeat,
    watch: Watch,
    leases: Leases,
    place: Place,
    observer: &'o mut dyn SweepObserver,
    result: SweepResult,
    /// The trials that are over.
    over: BTreeSet<usize>,
    fingerprints: Vec<String>,
    /// Trials that had failed before this run began, and are tried again.
    earlier_failures: BTreeMap<String, Record>,
    expected: usize,
    poll: Duration,
    /// How long the last look took.
    look: Duration,
    /// The generation of the lease of the report before this run.
    report: u64,
    table: Option<Instant>,
    is_table_behind: bool,
    is_waiting: bool,
}

impl<'a, 'o> SharedSweep<'a, 'o> {
    fn join(plan: &'a Plan, observer: &'o mut dyn SweepObserver) -> Result<Self> {
        let Some(me) = &plan.shared else { return Err(Error::bug("a plan that is not shared")) };
        plan.trials.iter().try_for_each(|trial| ensure_leasable(&trial.name))?;
        let stale_after = settings::stale_after()?;
        ensure_same_settings(plan)?;
        let folder = SweepFolder::claim(plan)?;
        let fingerprints: Vec<String> = plan.trials.iter().map(Trial::fingerprint).collect();
        let run = settings::run();
        let earlier_failures = earlier_failures(plan, run.as_deref(), observer)?;
        Throughput::forget(&plan.out);
        let place = Place { worker: Some(me.to_string()), run, ..plan.place.clone().unwrap_or_default() };
        let heartbeat = Heartbeat::start(&plan.out, me, &place, stale_after)?;
        let mut leases = Leases::open(&plan.out, me)?;
        let report = leases.read()?.get(REPORT).map_or(0, |lease| lease.generation);
        observer.event(&Event::Joined { worker: me.as_str(), out: &plan.out });
        let mut result = SweepResult::new(&plan.out, &plan.grid);
        result.decide = plan.decide.clone();
        result.tuned = plan.tuned.clone();
        let mut worker = SharedSweep {
            plan,
            me,
            _folder: folder,
            heartbeat,
            watch: Watch::new(&plan.out, stale_after),
            leases,
            place,
            observer,
            result,
            over: BTreeSet::new(),
            fingerprints,
            earlier_failures,
            expected: settings::expected()?,
            poll: POLL.min(stale_after / 5),
            look: Duration::ZERO,
            report,
            table: None,
            is_table_behind: false,
            is_waiting: false,
        };
        worker.add_earlier();
        Ok(worker)
    }

    /// Adds the trials that were over before.
    fn add_earlier(&mut self) {
        for trial in &self.plan.trials {
            if let Some(record) = self.record_of(trial) {
                self.add(trial, record);
            }
        }
        self.result.skipped = self.over.len();
        let (finished, to_run) = (self.result.skipped, self.plan.trials.len() - self.over.len());
        if to_run > 0 || self.plan.round.is_none_or(|round| round == 0) {
            self.observer.event(&Event::Planned { finished, to_run });
        }
    }

    /// The record of a trial that is over.
    fn record_of(&self, trial: &Trial) -> Option<Record> {
        Record::read(&self.plan.out.join(&trial.name)).filter(|record| self.is_over(trial, record))
    }

    /// Does the record end the trial? An earlier failure does not, nor a trial that a sweep with `prune` stopped early.
    fn is_over(&self, trial: &Trial, record: &Record) -> bool {
        let is_current =
            self.fingerprints.get(trial.index).is_some_and(|fingerprint| *fingerprint == record.fingerprint);
        is_current
            && match &record.result {
                TrialResult::Finished(_) => true,
                TrialResult::Failed(_) => self.earlier_failures.get(&trial.name) != Some(record),
                TrialResult::Pruned(_) => false,
            }
    }

    fn open(&self) -> Vec<&'a Trial> {
        self.plan.trials.iter().filter(|trial| !self.over.contains(&trial.index)).collect()
    }

    fn add(&mut self, trial: &Trial, record: Record) {
        self.over.insert(trial.index);
        self.result.insert(TrialRow::new(trial, record.result).at(record.place));
    }

    /// Adds what other workers concluded since.
    fn collect(&mut self) {
        for trial in self.open() {
            if let Some(record) = self.record_of(trial) {
                let worker = record.place.as_ref().and_then(|place| place.worker.clone()).unwrap_or_default();
                self.observer.event(&Event::Elsewhere { trial, worker: &worker, result: &record.result });
                self.add(trial, record);
                self.is_waiting = false;
                self.is_table_behind = true;
            }
        }
        if self.is_table_behind && self.table.is_none_or(|table| table.elapsed() >= TABLE) {
            self.write_table();
        }
    }

    /// The trials that nobody trains.
    fn free(&mut self, open: &[&'a Trial]) -> Result<Vec<Free<'a>>> {
        // In this order: a worker writes its heartbeat before its first lease.
        let started = Instant::now();
        let leases = self.leases.read()?.clone();
        self.watch.look();
        self.look = started.elapsed();
        let is_free = |lease: &Lease| lease.owner == self.me.as_str() || self.watch.life(&lease.owner) != Life::Alive;
        let of_trial = |trial: &&'a Trial| {
            let lease = leases.get(&trial.name);
            lease.is_none_or(is_free).then(|| (*trial, lease.cloned()))
        };
        Ok(open.iter().filter_map(of_trial).collect())
    }

    /// How many of the free trials this worker takes.
    fn share(&mut self, free: usize) -> usize {
        let alive: BTreeSet<&str> = self.watch.alive().into_iter().collect();
        let leases = self.leases.read().cloned().unwrap_or_default();
        let is_open =
            |name: &str| self.plan.trials.iter().any(|one| one.name == name && !self.over.contains(&one.index));
        let busy: BTreeSet<&str> = leases
            .iter()
            .filter(|(name, lease)| {
                lease.owner != self.me.as_str() && alive.contains(lease.owner.as_str()) && is_open(name)
            })
            .map(|(_, lease)| lease.owner.as_str())
            .collect();
        let workers = alive.len().max(self.expected);
        Supply { free, workers, busy: busy.len(), has_begun: !self.over.is_empty() }.share()
    }

    /// Takes leases of at most so many trials. Those that another worker took or concluded meanwhile are left out.
    fn lease(&mut self, group: Vec<Free<'a>>, share: usize) -> Result<Vec<(Held<'a>, Option<Lease>)>> {
        let mut held = Vec::new();
        for (trial, before) in group {
            if held.len() == share {
                break;
            }
            let generation = before.as_ref().map_or(1, |lease| lease.generation + 1);
            if !self.leases.take(&trial.name, generation)? {
                continue;
            }
            // Concluded between the look at it and the lease, it is collected next.
            if self.record_of(trial).is_none() {
                held.push((Held { trial, generation }, before));
            }
        }
        Ok(held)
    }

    /// Trains trials side by side and concludes them.
    fn train(&mut self, group: &[(Held<'a>, Option<Lease>)], train_group: &mut TrainGroup) -> Result<()> {
        self.is_waiting = false;
        self.find_checkpoints(group)?;
        for (Held { trial, .. }, before) in group {
            let step = prepare(trial, self.plan)?;
            let is_left = |lease: &&Lease| self.plan.out.join(WORK).join(&lease.owner).join(&trial.name).is_dir();
            match (before.as_ref().filter(is_left), step) {
                (Some(lease), step) => self.observer.event(&Event::TakenOver { trial, worker: &lease.owner, step }),
                (None, Some(step)) => self.observer.event(&Event::Resuming { trial, step }),
                (None, None) => {}
            }
            self.observer.event(&Event::Started { trial, total: self.plan.trials.len() });
        }
        let trials: Vec<&Trial> = group.iter().map(|(held, _)| held.trial).collect();
        // From here on their folders say what they are, should this worker die.
        self.heartbeat.set_trials(trials.iter().map(|trial| trial.name.clone()).collect());
        let results = train_group(&trials);
        if results.len() != group.len() {
            let (expected, found) = (group.len(), results.len());
            return Err(Error::bug(format!("a group of {expected} trials gave {found} results")));
        }
        let mut stopped = None;
        for ((held, _), result) in group.iter().zip(results) {
            match result {
                Err(error) if error.kind == Kind::Stopped => stopped = Some(error),
                result => self.conclude(*held, result)?,
            }
        }
        self.heartbeat.set_trials(Vec::new());
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        if let Some(checkpoints) = &self.plan.checkpoints {
            checkpoints.remove_of_worker(self.me.as_str());
        }
        self.write_table();
        Ok(())
    }

    /// Looks for checkpoints of trials that were begun before.
    fn find_checkpoints(&self, group: &[(Held<'a>, Option<Lease>)]) -> Result<()> {
        let Some(checkpoints) = self.plan.checkpoints.as_ref().filter(|checkpoints| !checkpoints.are_ignored()) else {
            return Ok(());
        };
        let is_begun =
            |held: &Held, before: &Option<Lease>| before.is_some() || self.plan.out.join(&held.trial.name).is_dir();
        let begun = group.iter().filter(|(held, before)| is_begun(held, before));
        let begun: Vec<Begun> = begun.map(|(held, _)| (held.trial.name.as_str(), &held.trial.settings)).collect();
        if begun.is_empty() {
            return Ok(());
        }
        checkpoints.refresh(&begun)
    }

    fn conclude(&mut self, held: Held<'a>, result: Result<Trained>) -> Result<()> {
        let Held { trial, generation } = held;
        let checked = result.and_then(|trained| {
            trained.measurements.check()?;
            ensure_no_metric_is_a_column(&self.plan.grid, trained.measurements.metrics.keys())?;
            Ok(trained.measurements)
        });
        let result = match checked {
            Ok(measurements) => TrialResult::Finished(measurements),
            Err(error) => TrialResult::Failed(Failure::from(&error)),
        };
        let place = Place { generation: Some(generation), ..self.place.clone() };
        let fingerprint = self.fingerprints.get(trial.index).cloned().unwrap_or_default();
        let record = Record { fingerprint, result, place: Some(place) };
        let publisher = Publisher { out: &self.plan.out, me: self.me, leases: &self.leases };
        match publisher.conclude(trial, generation, &record, &|other| self.is_over(trial, other))? {
            Conclusion::Lost => {
                self.observer.event(&Event::LeaseLost { trial });
                let _ = fs::remove_dir_all(&trial.dir);
            }
            Conclusion::Published(record) => {
                match &record.result {
                    TrialResult::Failed(failure) => self.observer.event(&Event::Failed { trial, failure }),
                    result => {
                        self.result.trained += 1;
                        if let Some(outcome) = finished(result) {
                            self.observer.event(&Event::Finished { trial, outcome });
                        }
                    }
                }
                self.add(trial, *record);
            }
        }
        Ok(())
    }

    fn write_table(&mut self) {
        self.table = Some(Instant::now());
        self.is_table_behind = match self.result.write() {
            Ok(()) => false,
            Err(error) => {
                self.observer.event(&Event::Unwritten { error: &error });
                true
            }
        };
    }

    fn wait(&mut self, trials: usize) -> Result<()> {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.observer.event(&Event::Waiting { trials });
        }
        interrupt::sleep(self.poll.max((self.look * LOOKING).min(LONGEST_POLL)))
    }

    /// All trials are over: writes the whole table, and removes what nobody needs any more.
    fn finish(mut self) -> Result<SweepResult> {
        // Another worker may have written one with fewer rows since.
        self.result.write()?;
        let report = self.leases.read()?.get(REPORT).map_or(0, |lease| lease.generation);
        self.result.writes_report = report <= self.report && self.leases.take(REPORT, report + 1)?;
        self.watch.look();
        remove_leftovers(self.plan, self.me, &self.watch);
        // Fails while others work.
        drop(self.heartbeat);
        let _ = fs::remove_dir(self.plan.out.join(WORKERS));
        Ok(self.result)
    }
}

fn finished(result: &TrialResult) -> Option<&Measurements> {
    match result {
        TrialResult::Finished(outcome) => Some(outcome),
        TrialResult::Failed(_) | TrialResult::Pruned(_) => None,
    }
}
