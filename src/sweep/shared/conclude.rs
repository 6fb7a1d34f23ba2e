//! The end of a trial: one rename of its whole folder, which only one worker can do.
//!
//! A worker first checks that its lease is still the highest. That check can be out of date a moment later, as for a process
//! that was paused behind it. So the rename decides: it fails where another worker's folder is.

use super::identity::WorkerId;
use super::leases::Leases;
use super::WORK;
use crate::error::{Error, Result};
use crate::files;
use crate::sweep::folder::{remove, sync_folder_tree};
use crate::sweep::record::{self, Record};
use crate::sweep::trial::Trial;
use rustix::fs::{openat, renameat, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

/// More than once it is cleared only while others write there.
const TRIES: u32 = 8;

/// What came of concluding a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Conclusion {
    /// The record as it can be read back.
    Published(Box<Record>),
    /// Another worker took the trial over.
    Lost,
}

/// The folder of a sweep, in which a worker concludes trials.
pub struct Publisher<'a> {
    pub out: &'a Path,
    pub me: &'a WorkerId,
    pub leases: &'a Leases,
}

impl Publisher<'_> {
    /// Concludes the trial that was trained in `trial.dir` under the lease of `generation`. `is_over` says whether a record
    /// ends the trial; a folder with another one is replaced.
    ///
    /// # Errors
    /// Files that cannot be written: the trial is not over then.
    pub fn conclude(
        &self,
        trial: &Trial,
        generation: u64,
        record: &Record,
        is_over: &dyn Fn(&Record) -> bool,
    ) -> Result<Conclusion> {
        if !self.leases.holds(&trial.name, generation)? {
            return Ok(Conclusion::Lost);
        }
        match complete(trial, record) {
            Ok(()) => self.publish(trial, record, is_over),
            // Whoever took the trial over may have removed the folder since.
            Err(_) if !self.leases.holds(&trial.name, generation)? => Ok(Conclusion::Lost),
            Err(error) => Err(error),
        }
    }

    /// Gives the folder of the trial its name, unless another worker did so.
    pub fn publish(&self, trial: &Trial, record: &Record, is_over: &dyn Fn(&Record) -> bool) -> Result<Conclusion> {
        let target = self.out.join(&trial.name);
        let is_mine = |other: &Record| other.place.is_some() && other.place == record.place;
        for _ in 0..TRIES {
            match Record::read(&target) {
                // A server may have renamed it, and its answer got lost.
                Some(other) if is_mine(&other) => return Ok(Conclusion::Published(Box::new(other))),
                Some(other) if is_over(&other) => return Ok(Conclusion::Lost),
                _ => {}
            }
            match fs::rename(&trial.dir, &target) {
                Ok(()) => {
                    files::sync_folder(self.out)?;
                    let written = Record::read(&target).unwrap_or_else(|| record.clone());
                    return Ok(Conclusion::Published(Box::new(written)));
                }
                Err(error) if is_occupied(&error) => self.clear(&target, &trial.name, is_over)?,
                Err(error) => return Err(Error::file("write the folder", &target, &error)),
            }
        }
        Err(Error::new(
            crate::Kind::File,
            format!("cannot write the folder `{}`: another program writes there", target.display()),
        ))
    }

    /// Empties a folder that does not end the trial, such as that of an earlier failure: a rename replaces an empty one.
    /// Works on the folder that is open, not on its name: another worker may publish its own under that name meanwhile.
    fn clear(&self, target: &Path, name: &str, is_over: &dyn Fn(&Record) -> bool) -> Result<()> {
        let failed = |error: io::Error| Error::file("move aside the old folder", target, &error);
        let folder = match File::open(target) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if record_in(&folder).is_some_and(|other| is_over(&other)) {
            return Ok(());
        }
        let aside = self.out.join(WORK).join(self.me.as_str()).join(".cleared").join(name);
        if aside.exists() {
            remove(&aside)?;
        }
        files::create_folder(&aside)?;
        let to = File::open(&aside).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).map_err(|error| failed(error.into()))? {
            names.push(entry.map_err(|error| failed(error.into()))?.file_name().to_owned());
        }
        names.retain(|name| !matches!(name.to_bytes(), b"." | b".."));
        // Its configuration last: without it, the folder of a worker that was killed here would be no trial's.
        names.sort_by_key(|name| name.to_bytes() == record::CONFIG.as_bytes());
        for name in &names {
            match renameat(&folder, name, &to, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        remove(&aside)
    }
}

/// The record in an open folder.
fn record_in(folder: &File) -> Option<Record> {
    let file = openat(folder, record::RESULT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    serde_json::from_reader(BufReader::new(File::from(file))).ok()
}

/// Writes the record, after everything else in the folder is on disk.
fn complete(trial: &Trial, record: &Record) -> Result<()> {
    // A trial that failed at its begin may have no folder.
    files::create_folder(&trial.dir)?;
    if record::read_settings(&trial.dir).is_none() {
        record::write_config(trial)?;
    }
    sync_folder_tree(&trial.dir)?;
    record.write(&trial.dir).map(drop)
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::place::Place;
    use crate::sweep::record::{Failure, Measurements};
    use crate::sweep::{Point, TrialResult};
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Barrier;

    fn trial(out: &Path, id: &WorkerId) -> Trial {
        let dir = out.join(WORK).join(id.as_str()).join("t");
        let (name, settings) = ("t".to_owned(), json!({"steps": 3}));
        Trial { index: 0, name, point: Point::default(), settings, dir, origin: None }
    }

    fn record(trial: &Trial, id: &WorkerId, result: TrialResult) -> Record {
        let place = Place { worker: Some(id.to_string()), ..Place::default() };
        Record { fingerprint: trial.fingerprint(), result, place: Some(place) }
    }

    fn finished(loss: f64) -> TrialResult {
        TrialResult::Finished(Measurements::of(BTreeMap::from([("eval_loss".to_owned(), loss)]), 1.0))
    }

    fn failed() -> TrialResult {
        TrialResult::Failed(Failure { kind: "io".into(), message: "before".into(), hint: None })
    }

    fn is_finished(record: &Record) -> bool {
        matches!(record.result, TrialResult::Finished(_))
    }

    /// Also workers whose check of their lease is out of date: here all of them are.
    #[test]
    fn of_many_workers_one_publishes_whatever_was_there() {
        for round in 0..200 {
            let out = tempfile::tempdir().unwrap();
            let ids: Vec<WorkerId> = (0..6).map(|_| WorkerId::new()).collect();
            if round % 2 == 1 {
                // An earlier failure, which all of them want to replace.
                let old = Trial { dir: out.path().join("t"), ..trial(out.path(), &ids[0]) };
                complete(&old, &record(&old, &WorkerId::new(), failed())).unwrap();
            }
            let barrier = Barrier::new(ids.len());
            let conclusions: Vec<(String, Conclusion)> = std::thread::scope(|scope| {
                let threads: Vec<_> = ids
                    .iter()
                    .enumerate()
                    .map(|(number, id)| {
                        let (out, barrier) = (out.path(), &barrier);
                        scope.spawn(move || {
                            let leases = Leases::open(out, id).unwrap();
                            let (trial, publisher) = (trial(out, id), Publisher { out, me: id, leases: &leases });
                            let record = record(&trial, id, finished(number as f64));
                            complete(&trial, &record).unwrap();
                            barrier.wait();
                            (id.to_string(), publisher.publish(&trial, &record, &is_finished).unwrap())
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let winners: Vec<&String> =
                conclusions.iter().filter(|(_, end)| *end != Conclusion::Lost).map(|(id, _)| id).collect();
            assert_eq!(winners.len(), 1, "round {round}");
            let record = Record::read(&out.path().join("t")).unwrap();
            assert_eq!(record.place.unwrap().worker.as_ref(), Some(winners[0]));
        }
    }

    #[test]
    fn a_worker_that_lost_its_lease_concludes_nothing() {
        let out = tempfile::tempdir().unwrap();
        let (a, b) = (WorkerId::new(), WorkerId::new());
        let (of_a, of_b) = (Leases::open(out.path(), &a).unwrap(), Leases::open(out.path(), &b).unwrap());
        of_a.take("t", 1).unwrap();
        of_b.take("t", 2).unwrap();
        let conclude = |id: &WorkerId, leases: &Leases, generation| {
            let (trial, publisher) = (trial(out.path(), id), Publisher { out: out.path(), me: id, leases });
            let record = record(&trial, id, finished(1.0));
            publisher.conclude(&trial, generation, &record, &is_finished).unwrap()
        };
        assert_eq!(conclude(&a, &of_a, 1), Conclusion::Lost);
        assert!(!out.path().join("t").exists());
        assert!(matches!(conclude(&b, &of_b, 2), Conclusion::Published(_)));
        // Once it is over, also a later owner finds that.
        of_a.take("t", 3).unwrap();
        assert_eq!(conclude(&a, &of_a, 3), Conclusion::Lost);
        assert_eq!(Record::read(&out.path().join("t")).unwrap().place.unwrap().worker, Some(b.to_string()));
    }

    #[test]
    fn nothing_of_an_old_folder_stays() {
        let (out, id) = (tempfile::tempdir().unwrap(), WorkerId::new());
        let old = Trial { dir: out.path().join("t"), ..trial(out.path(), &id) };
        complete(&old, &record(&old, &WorkerId::new(), failed())).unwrap();
        fs::create_dir(old.dir.join("adapter")).unwrap();
        fs::write(old.dir.join("adapter/old"), "old").unwrap();
        // What another attempt left aside is no obstacle.
        let work = out.path().join(WORK).join(id.as_str());
        fs::create_dir_all(work.join(".cleared/t/adapter/x")).unwrap();
        let leases = Leases::open(out.path(), &id).unwrap();
        let (trial, publisher) = (trial(out.path(), &id), Publisher { out: out.path(), me: &id, leases: &leases });
        let record = record(&trial, &id, finished(1.0));
        complete(&trial, &record).unwrap();
        assert!(matches!(publisher.publish(&trial, &record, &is_finished).unwrap(), Conclusion::Published(_)));
        assert!(is_finished(&Record::read(&old.dir).unwrap()) && !old.dir.join("adapter").exists());
        assert!(!work.join(".cleared/t").exists());
    }
}
