//! How much longer a step takes while other programs want the processors too: `make bench-busy`.
//!
//! Four loops that never sleep run beside it. On two processors, two threads then get a third of them.

use crate::cases::Case;
use crate::ours::{LastModel, Loop};
use crate::peer::Peer;
use crate::table::Timing;
use crate::{median, ROUNDS};
use lorhai::{Error, Result};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

const OTHERS: usize = 4;

/// Programs that use all the time that they get, until they are dropped.
struct Others(Vec<Child>);

impl Others {
    fn start() -> Result<Self> {
        let mut others = Others(Vec::new());
        for _ in 0..OTHERS {
            let started = Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
            others.0.push(started.map_err(|error| Error::file("run", "sh".as_ref(), &error))?);
        }
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Seconds per step without others and beside them. What is counted begins a second after they do.
fn both(case: &Case, mut steps: impl FnMut(usize) -> Result<f64>) -> Result<(f64, f64)> {
    let mut rounds = || (0..ROUNDS).map(|_| steps(case.steps_per_round)).collect::<Result<Vec<f64>>>();
    rounds()?;
    let quiet = median(rounds()?);
    let others = Others::start()?;
    sleep(Duration::from_secs(1));
    let busy = median(rounds()?);
    drop(others);
    Ok((quiet, busy))
}

pub fn measured(case: &Case) -> Result<Vec<Timing>> {
    let mut ours = Loop::new(case, &mut LastModel::default())?;
    let (our_quiet, our_busy) = both(case, |count| ours.steps(count))?;
    drop(ours);
    let peer = match Peer::prepared(case)? {
        Some(mut peer) => Some(both(case, |count| peer.steps(count).map(|(seconds, _)| seconds))?),
        None => None,
    };
    let row = |what: &str, ours: f64, peer: Option<f64>, unit| {
        Timing::new(format!("{}: {what}", case.name), ours, peer, unit, case.settings())
    };
    Ok(vec![
        row("quiet", our_quiet * 1e3, peer.map(|(quiet, _)| quiet * 1e3), "ms"),
        row("beside four loops", our_busy * 1e3, peer.map(|(_, busy)| busy * 1e3), "ms"),
        row("times as long", our_busy / our_quiet, peer.map(|(quiet, busy)| busy / quiet), "×"),
    ])
}
