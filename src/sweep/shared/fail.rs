//! Records the trials of a worker that died again and again as failed.

use super::conclude::{Conclusion, Publisher};
use super::heartbeat::Heartbeat;
use super::identity::WorkerId;
use super::inherit::{copy_folder, folders_of};
use super::leases::Leases;
use super::{settings, WORK};
use crate::error::Result;
use crate::files;
use crate::sweep::folder::{read_marker, TRIALS};
use crate::sweep::place::Place;
use crate::sweep::record::{self, Failure, Record, TrialResult};
use crate::sweep::{settings_diff, Point, Trial};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Records each trial that the worker `dead` holds in the sweep in `out` and has not concluded as failed in this `run`,
/// with this message. Returns their names.
///
/// # Errors
/// Files that cannot be read or written.
pub fn fail_trials(out: &Path, dead: &str, run: &str, message: &str) -> Result<Vec<String>> {
    let Some(marker) = read_marker(out)? else { return Ok(Vec::new()) };
    let planned = marker.get(TRIALS).and_then(Value::as_object).cloned().unwrap_or_default();
    let me = WorkerId::new();
    let place = Place { worker: Some(me.to_string()), run: Some(run.to_owned()), ..Place::here(None) };
    // Alive while it works, so that nobody takes the trials over meanwhile.
    let _heartbeat = Heartbeat::start(out, &me, &place, settings::stale_after()?)?;
    let mut leases = Leases::open(out, &me)?;
    let held: Vec<(String, u64)> = leases
        .read()?
        .iter()
        .filter(|(name, lease)| lease.owner == dead && planned.contains_key(*name))
        .map(|(name, lease)| (name.clone(), lease.generation + 1))
        .collect();
    let mut failed = Vec::new();
    for (name, generation) in held {
        let fingerprint = planned.get(&name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_over = |record: &Record| {
            let is_of_run = record.place.as_ref().is_some_and(|place| place.run.as_deref() == Some(run));
            let is_ended = matches!(record.result, TrialResult::Finished(_)) || is_of_run;
            record.fingerprint == fingerprint && is_ended
        };
        let work = out.join(WORK).join(dead).join(&name);
        // One that died at once may have left nothing, but others before it.
        let mut folders = std::iter::once(work).chain(folders_of(&name, out));
        let source = folders.find_map(|folder| {
            let settings = record::read_settings(&folder)?;
            (settings_diff::fingerprint(&settings) == fingerprint).then_some((folder, settings))
        });
        let is_concluded = Record::read(&out.join(&name)).is_some_and(|record| is_over(&record));
        let Some((source, settings)) = source.filter(|_| !is_concluded) else { continue };
        if !leases.take(&name, generation)? {
            continue;
        }
        let dir = out.join(WORK).join(me.as_str()).join(&name);
        files::create_folder(&dir)?;
        copy_folder(&source, &dir)?;
        let failure = Failure { kind: "worker".to_owned(), message: message.to_owned(), hint: None };
        let place = Some(Place { generation: Some(generation), ..place.clone() });
        let record = Record { fingerprint: fingerprint.clone(), result: TrialResult::Failed(failure), place };
        let trial = Trial { index: 0, name: name.clone(), point: Point::default(), settings, dir, origin: None };
        let publisher = Publisher { out, me: &me, leases: &leases };
        if let Conclusion::Published(_) = publisher.conclude(&trial, generation, &record, &is_over)? {
            failed.push(name);
        }
    }
    let _ = fs::remove_dir_all(out.join(WORK).join(me.as_str()));
    Ok(failed)
}
