//! The heartbeat of a worker: `workers/ID.json`, which a thread writes again and again with a counter that grows. Nobody
//! reads a clock in it: who watches the counter sees whether the worker lives ([`watch`](super::watch)).

use super::exclusive;
use super::identity::{ProcessIdentity, WorkerId};
use super::WORKERS;
use crate::error::{Error, Result};
use crate::files;
use crate::stderr;
use crate::sweep::place::{host, Place};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const FORMAT: &str = "lorhai worker 1";
/// Heartbeats within the time after which a worker counts as dead.
const BEATS: u32 = 12;
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// The content of a worker's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    pub format: String,
    pub id: String,
    pub host: String,
    pub process: ProcessIdentity,
    /// Where it trains.
    pub place: Place,
    /// Grows with each heartbeat.
    pub counter: u64,
    /// Seconds between two heartbeats.
    pub every_seconds: f64,
    /// The trials that it trains now.
    pub trials: Vec<String>,
}

/// The heartbeat of this process as a worker of a sweep. When it is dropped, its file goes: its leases are free then.
pub struct Heartbeat {
    path: PathBuf,
    beat: Arc<Mutex<Beat>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Starts the heartbeat of `id` in the sweep in `out`.
    ///
    /// # Errors
    /// A file that cannot be written: the worker must not take leases then.
    pub fn start(out: &Path, id: &WorkerId, place: &Place, stale_after: Duration) -> Result<Self> {
        let folder = out.join(WORKERS);
        files::create_folder(&folder)?;
        let every = (stale_after / BEATS).clamp(SHORTEST, LONGEST);
        let beat = Beat {
            format: FORMAT.to_owned(),
            id: id.to_string(),
            host: host(),
            process: ProcessIdentity::of_this_process(),
            place: place.clone(),
            counter: 0,
            every_seconds: every.as_secs_f64(),
            trials: Vec::new(),
        };
        let path = folder.join(format!("{id}.json"));
        write(&path, &beat)?;
        let beat = Arc::new(Mutex::new(beat));
        let (stop, stopped) = mpsc::channel::<()>();
        let (of_thread, to) = (beat.clone(), path.clone());
        let work = move || {
            let mut is_noted = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                // A disk that is full now may have room for the next one.
                if let (Err(error), false) = (beat_once(&of_thread, &to, |_| ()), is_noted) {
                    is_noted = true;
                    stderr::note(&format!("warning: other workers will take this one for dead: {error}"));
                }
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::file("start the heartbeat of", &path, &error))?;
        Ok(Heartbeat { path, beat, stop: Some(stop), thread: Some(thread) })
    }

    /// Says which trials this worker trains from now on.
    pub fn set_trials(&self, trials: Vec<String>) {
        // What cannot be written now is with the next heartbeat.
        let _ = beat_once(&self.beat, &self.path, |beat| beat.trials = trials);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Waited for, so that it does not write the file again.
        self.thread.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.path);
    }
}

/// The heartbeat of a worker; `None` if it has none, or its file cannot be read.
pub fn read(out: &Path, id: &str) -> Option<Beat> {
    serde_json::from_slice(&fs::read(out.join(WORKERS).join(format!("{id}.json"))).ok()?).ok()
}

/// The ids of all workers with a file.
pub fn ids(out: &Path) -> Vec<String> {
    let entries = fs::read_dir(out.join(WORKERS)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ids = names.filter(|name| !exclusive::is_temporary(name));
    let mut ids: Vec<String> = ids.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    ids.sort();
    ids
}

/// Writes the next heartbeat, with a change. Under the lock: an older one must not replace it.
fn beat_once(beat: &Mutex<Beat>, path: &Path, change: impl FnOnce(&mut Beat)) -> Result<()> {
    let mut beat = lock(beat);
    beat.counter += 1;
    change(&mut beat);
    write(path, &beat)
}

fn write(path: &Path, beat: &Beat) -> Result<()> {
    exclusive::replace(path, files::json_text(beat)?.as_bytes(), &beat.id)
}

fn lock(beat: &Mutex<Beat>) -> MutexGuard<'_, Beat> {
    // A thread that panicked here left whole values.
    beat.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_grows_until_the_worker_ends() {
        let (out, id) = (tempfile::tempdir().unwrap(), WorkerId::new());
        let heartbeat = Heartbeat::start(out.path(), &id, &Place::default(), Duration::from_millis(100)).unwrap();
        heartbeat.set_trials(vec!["rank-4".to_owned()]);
        let counter = || read(out.path(), id.as_str()).unwrap().counter;
        let before = counter();
        while counter() < before + 3 {
            std::thread::yield_now();
        }
        let beat = read(out.path(), id.as_str()).unwrap();
        assert_eq!((beat.trials.as_slice(), beat.process.pid), (&["rank-4".to_owned()][..], std::process::id()));
        assert_eq!(ids(out.path()), [id.to_string()]);
        drop(heartbeat);
        assert!(ids(out.path()).is_empty());
    }
}
