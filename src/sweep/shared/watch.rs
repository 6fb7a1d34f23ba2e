//! Which workers live, by their heartbeats and by this process's own monotonic clock. The clocks of other machines do not
//! matter: none is read.

use super::heartbeat;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is known of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    /// Its heartbeat stands still, or its process has ended.
    Dead,
    /// It ended in order, or never began.
    Absent,
}

/// The heartbeats of workers, as this process saw them.
#[derive(Debug)]
pub struct Watch {
    out: PathBuf,
    stale_after: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    counter: u64,
    /// When the counter was first seen to have this value.
    since: Instant,
    has_ended: bool,
}

impl Watch {
    pub fn new(out: &Path, stale_after: Duration) -> Self {
        Watch { out: out.to_owned(), stale_after, seen: BTreeMap::new() }
    }

    /// Looks at all workers.
    pub fn look(&mut self) {
        self.look_at(Instant::now());
    }

    fn look_at(&mut self, now: Instant) {
        let mut seen = BTreeMap::new();
        for id in heartbeat::ids(&self.out) {
            let Some(beat) = heartbeat::read(&self.out, &id) else { continue };
            let before = self.seen.get(&id).filter(|before| before.counter == beat.counter);
            let since = before.map_or(now, |before| before.since);
            seen.insert(id, Seen { counter: beat.counter, since, has_ended: beat.process.has_ended() });
        }
        self.seen = seen;
    }

    /// Does the worker live, as far as is known by the last look? One that was not seen is looked for again, by its name.
    pub fn life(&self, id: &str) -> Life {
        self.life_at(id, Instant::now())
    }

    fn life_at(&self, id: &str, now: Instant) -> Life {
        match self.seen.get(id) {
            Some(seen) if seen.has_ended || now.duration_since(seen.since) >= self.stale_after => Life::Dead,
            Some(_) => Life::Alive,
            // It may have begun since.
            None if heartbeat::read(&self.out, id).is_some() => Life::Alive,
            None => Life::Absent,
        }
    }

    /// The workers that live.
    pub fn alive(&self) -> Vec<&str> {
        let now = Instant::now();
        self.seen.keys().map(String::as_str).filter(|id| self.life_at(id, now) == Life::Alive).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::place::Place;
    use crate::sweep::shared::heartbeat::{Beat, Heartbeat};
    use crate::sweep::shared::WorkerId;
    use serde_json::json;
    use std::fs;

    /// The file of a worker of another machine, whose clock and process numbers say nothing here.
    fn write(out: &Path, id: &str, counter: u64) {
        let process = json!({ "pid": 1, "started": 1, "boot": "other", "namespace": "other" });
        let beat = json!({ "format": "lorhai worker 1", "id": id, "host": "h", "process": process,
            "place": Place::default(), "counter": counter, "every_seconds": 5.0, "trials": [] });
        serde_json::from_value::<Beat>(beat.clone()).unwrap();
        fs::create_dir_all(out.join("workers")).unwrap();
        fs::write(out.join(format!("workers/{id}.json")), beat.to_string()).unwrap();
    }

    #[test]
    fn a_worker_is_dead_once_its_counter_stood_still_for_long_enough() {
        let out = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(out.path(), Duration::from_secs(60));
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        write(out.path(), "a", 7);
        assert_eq!((watch.life_at("a", at(0)), watch.life_at("b", at(0))), (Life::Alive, Life::Absent));
        watch.look_at(at(0));
        watch.look_at(at(59));
        assert_eq!(watch.life_at("a", at(59)), Life::Alive);
        watch.look_at(at(60));
        assert_eq!(watch.life_at("a", at(60)), Life::Dead);
        // It was paused, and goes on. Of the counter only the change matters: a restored file may count less.
        write(out.path(), "a", 3);
        watch.look_at(at(61));
        assert_eq!(watch.life_at("a", at(120)), Life::Alive);
        // A look that comes late sees a change since the last one.
        write(out.path(), "a", 4);
        watch.look_at(at(1000));
        assert_eq!(watch.life_at("a", at(1000)), Life::Alive);
        fs::remove_file(out.path().join("workers/a.json")).unwrap();
        watch.look_at(at(1001));
        assert_eq!(watch.life_at("a", at(1001)), Life::Absent);
    }

    /// A clock that is five minutes off changes the times of files, and nothing else that a worker leaves.
    #[test]
    fn times_of_files_do_not_matter() {
        let out = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(out.path(), Duration::from_secs(60));
        for skew in [-300_i64, 300] {
            write(out.path(), "a", 1);
            let path = out.path().join("workers/a.json");
            let now = std::time::SystemTime::now();
            let time = if skew < 0 { now - Duration::from_secs(300) } else { now + Duration::from_secs(300) };
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            watch.look();
            assert_eq!(watch.life("a"), Life::Alive);
        }
    }

    #[test]
    fn a_worker_of_this_machine_that_was_killed_is_dead_at_once() {
        let (out, id) = (tempfile::tempdir().unwrap(), WorkerId::new());
        let heartbeat = Heartbeat::start(out.path(), &id, &Place::default(), Duration::from_secs(60)).unwrap();
        let mut watch = Watch::new(out.path(), Duration::from_secs(60));
        watch.look();
        assert_eq!(watch.alive(), [id.as_str()]);
        drop(heartbeat);
        let mut beat = serde_json::to_value(Beat {
            format: String::new(),
            id: id.to_string(),
            host: String::new(),
            process: crate::sweep::shared::identity::ProcessIdentity::of_this_process(),
            place: Place::default(),
            counter: 1,
            every_seconds: 1.0,
            trials: Vec::new(),
        })
        .unwrap();
        // This process, had it started at another moment: its number was used again.
        beat["process"]["started"] = json!(1);
        fs::write(out.path().join(format!("workers/{id}.json")), beat.to_string()).unwrap();
        watch.look();
        assert_eq!(watch.life(id.as_str()), Life::Dead);
        assert!(watch.alive().is_empty());
    }
}
