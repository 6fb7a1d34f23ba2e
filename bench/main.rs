//! Speed and memory, each figure as a ratio against the Python peer in the same run.
//!
//! `make bench` runs all of it; `cargo run --release --example bench -- NAME…` some of it.
//! With `PEER_PYTHON` naming a Python that has torch, transformers and peft, rounds of ours
//! and of the peer's alternate, and medians are compared; without it only ours are shown.
//! The rows go to `bench/results.json` as well.

mod cases;
mod ours;
mod peer;
mod table;

use cases::{cases, Case};
use lorhai::Result;
use peer::Peer;
use table::Row;

/// Rounds of each side, and steps in a round.
const ROUNDS: usize = 5;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut rows = Vec::new();
    for case in cases().iter().filter(|case| chosen.is_empty() || chosen.iter().any(|name| case.name.contains(name))) {
        match measured(case) {
            Ok(found) => {
                found.iter().for_each(|row| println!("{row}"));
                rows.extend(found);
            }
            Err(error) => eprintln!("{}: {error}", case.name),
        }
    }
    if chosen.is_empty() || chosen.iter().any(|name| "start-up".contains(name.as_str())) {
        rows.extend(
            start_up().inspect_err(|error| eprintln!("start-up: {error}")).into_iter().inspect(|row| println!("{row}")),
        );
    }
    if let Err(error) = table::write(&rows) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// The time of a step and the peak memory of one case.
fn measured(case: &Case) -> Result<Vec<Row>> {
    ours::forget_peak();
    let mut ours = ours::Loop::new(case)?;
    ours.steps(case.steps_per_round)?;
    let mut peer = Peer::prepared(case)?;
    let (mut our_seconds, mut peer_seconds, mut peer_peak) = (Vec::new(), Vec::new(), None);
    for _ in 0..ROUNDS {
        our_seconds.push(ours.steps(case.steps_per_round)?);
        if let Some(peer) = &mut peer {
            let (seconds, peak) = peer.steps(case.steps_per_round)?;
            peer_seconds.push(seconds);
            peer_peak = Some(peak);
        }
    }
    let (our_time, peer_time) = (median(our_seconds), (!peer_seconds.is_empty()).then(|| median(peer_seconds)));
    Ok(vec![
        Row::new(
            format!("{}: step", case.name),
            our_time * 1e3,
            peer_time.map(|time| time * 1e3),
            "ms",
            case.settings(),
        ),
        Row::new(
            format!("{}: peak memory", case.name),
            ours::peak_bytes() / 1e6,
            peer_peak.map(|bytes| bytes / 1e6),
            "MB",
            case.settings(),
        ),
    ])
}

/// An empty script against Python's imports.
fn start_up() -> Result<Row> {
    let ours = ours::start_up(9)?;
    let peer = match Peer::start()? {
        Some(mut peer) => Some(median((0..3).map(|_| peer.import_seconds()).collect::<Result<Vec<_>>>()?)),
        None => None,
    };
    Ok(Row::new("start-up".to_owned(), median(ours) * 1e3, peer.map(|seconds| seconds * 1e3), "ms", String::new()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
