//! Leases: `leases/NAME.G` is the lease of generation G of a trial, or of other work. Each is created once, by one worker,
//! and never changed: whoever created the highest generation owns the work.

use super::exclusive;
use super::identity::WorkerId;
use super::LEASES;
use crate::error::{Error, Kind, Result};
use crate::files;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The highest lease of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub generation: u64,
    /// The id of its worker.
    pub owner: String,
}

/// The leases of a sweep, for one worker.
#[derive(Debug)]
pub struct Leases {
    folder: PathBuf,
    me: WorkerId,
    /// The highest leases that were read: a lease does not change.
    known: BTreeMap<String, Lease>,
}

impl Leases {
    /// The leases of the sweep in `out`.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(out: &Path, me: &WorkerId) -> Result<Self> {
        let folder = out.join(LEASES);
        files::create_folder(&folder)?;
        Ok(Leases { folder, me: me.clone(), known: BTreeMap::new() })
    }

    /// The highest lease of everything that was leased, by name.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub fn read(&mut self) -> Result<&BTreeMap<String, Lease>> {
        let failed = |error: io::Error| Error::file("list the folder", &self.folder, &error);
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if let Some((name, generation)) = parse(&name) {
                let known = highest.entry(name.to_owned()).or_insert(generation);
                *known = generation.max(*known);
            }
        }
        for (name, generation) in highest {
            if self.known.get(&name).is_none_or(|known| known.generation < generation) {
                let owner = self.owner(&name, generation)?.unwrap_or_default();
                self.known.insert(name, Lease { generation, owner });
            }
        }
        Ok(&self.known)
    }

    /// Takes the lease of this generation. Returns false if another worker has it.
    ///
    /// # Errors
    /// A lease that cannot be written: it is not held.
    pub fn take(&self, name: &str, generation: u64) -> Result<bool> {
        let content = files::json_text(&json!({ "worker": self.me.as_str() }))?;
        exclusive::create(&self.path(name, generation), content.as_bytes(), self.me.as_str())
    }

    /// Is this worker's lease still the highest?
    ///
    /// # Errors
    /// A lease that cannot be read.
    pub fn holds(&self, name: &str, generation: u64) -> Result<bool> {
        let is_mine = self.owner(name, generation)?.is_some_and(|owner| owner == self.me.as_str());
        Ok(is_mine && self.owner(name, generation + 1)?.is_none())
    }

    /// The worker that created a lease; `None` if there is no such lease.
    fn owner(&self, name: &str, generation: u64) -> Result<Option<String>> {
        let path = self.path(name, generation);
        match fs::read(&path) {
            // Without links it may be about to be written: nobody's, which is watched as if it were dead.
            Ok(bytes) => {
                let lease: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                Ok(Some(lease["worker"].as_str().unwrap_or_default().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path, &error)),
        }
    }

    fn path(&self, name: &str, generation: u64) -> PathBuf {
        self.folder.join(format!("{name}.{generation}"))
    }
}

/// The name and the generation of a lease, from the name of its file.
fn parse(file: &str) -> Option<(&str, u64)> {
    if exclusive::is_temporary(file) {
        return None;
    }
    let (name, generation) = file.rsplit_once('.')?;
    Some((name, generation.parse().ok()?))
}

/// Fails for a name that cannot be leased: file names are short.
pub fn ensure_leasable(name: &str) -> Result<()> {
    const LONGEST: usize = 230;
    if name.len() > LONGEST {
        let message = format!("the name of the trial `{name}` is too long for a lease");
        return Err(
            Error::new(Kind::Input, message).with_hint("give long values of the grid short names: #{ name: value }")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn the_highest_generation_owns_the_trial() {
        let out = tempfile::tempdir().unwrap();
        let (a, b) = (WorkerId::new(), WorkerId::new());
        let (mut of_a, mut of_b) = (Leases::open(out.path(), &a).unwrap(), Leases::open(out.path(), &b).unwrap());
        assert!(of_a.read().unwrap().is_empty());
        assert!(of_a.take("lr-0.1", 1).unwrap() && !of_b.take("lr-0.1", 1).unwrap());
        assert!(of_a.holds("lr-0.1", 1).unwrap() && !of_b.holds("lr-0.1", 1).unwrap());
        let lease = |generation, owner: &WorkerId| Lease { generation, owner: owner.to_string() };
        assert_eq!(of_b.read().unwrap()["lr-0.1"], lease(1, &a));
        // Taken over: the first owner has lost it, whenever it looks.
        assert!(of_b.take("lr-0.1", 2).unwrap());
        assert!(!of_a.holds("lr-0.1", 1).unwrap() && of_b.holds("lr-0.1", 2).unwrap());
        assert_eq!(of_a.read().unwrap()["lr-0.1"], lease(2, &b));
        // A removed lease is nobody's.
        fs::remove_dir_all(out.path().join(LEASES)).unwrap();
        assert!(!of_b.holds("lr-0.1", 2).unwrap());
    }

    #[test]
    fn of_many_workers_one_takes_over() {
        let out = tempfile::tempdir().unwrap();
        for generation in 1..=20 {
            let barrier = Barrier::new(6);
            let count: usize = std::thread::scope(|scope| {
                let take = || {
                    let leases = Leases::open(out.path(), &WorkerId::new()).unwrap();
                    barrier.wait();
                    let is_taken = leases.take("t", generation).unwrap();
                    assert_eq!(leases.holds("t", generation).unwrap(), is_taken);
                    usize::from(is_taken)
                };
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(take)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(count, 1);
        }
    }

    #[test]
    fn a_lease_that_cannot_be_written_is_not_held() {
        let out = tempfile::tempdir().unwrap();
        let leases = Leases::open(out.path(), &WorkerId::new()).unwrap();
        fs::remove_dir(out.path().join(LEASES)).unwrap();
        assert!(leases.take("t", 1).is_err() && !leases.holds("t", 1).unwrap());
        assert!(ensure_leasable(&"x".repeat(231)).is_err() && ensure_leasable("rank-4").is_ok());
    }
}
