//! Speed and memory, each figure as a ratio against the Python peer in the same run.
//!
//! `make bench` runs all cases on the CPU, `make bench-gpu` those for a GPU, `make bench-growth` shows how
//! the cost of a step grows, `make bench-busy` what a step takes beside other programs; `cargo run --release --example bench -- NAME…` runs chosen cases.
//! With `--tiny` the cases for a GPU have few numbers. `--out=FILE` writes the rows to that file.
//! If `PEER_PYTHON` names a Python that has torch, transformers and peft, rounds of lorhai and of
//! the peer alternate, and medians are compared; without it only lorhai is measured.
//! The rows also go to `bench/results.json`.

mod busy;
mod cases;
mod ours;
mod peer;
mod table;

use cases::{busy_cases, cases, gpu_cases, growth_cases, tiny, Case};
use lorhai::train::memory::process;
use lorhai::Result;
use ours::{LastModel, Loop};
use peer::Peer;
use std::path::Path;
use table::Timing;

type Measure = fn() -> Result<Timing>;

/// Rounds of each side, and steps per round.
const ROUNDS: usize = 5;

fn main() {
    process::leave_no_large_holes();
    if let Err(error) = lorhai::threads::start(None) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let (flags, chosen): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    // A name in quotes must match as a whole.
    let fits = |name: &str, word: &str| match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(only) => name == only,
        None => name.contains(word),
    };
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| fits(name, word));
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let (mut rows, mut failed) = (Vec::new(), 0);
    let mut take = |name: &str, measured: Result<Vec<Timing>>| match measured {
        Ok(measured) => {
            measured.iter().for_each(|row| println!("{row}"));
            rows.extend(measured);
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            failed += 1;
        }
    };
    if flag("--busy") {
        for case in busy_cases().iter().filter(|case| wanted(case.name)) {
            take(case.name, busy::measured(case));
        }
    }
    let (is_tiny, mut last) = (flag("--tiny"), LastModel::default());
    let cases = match (flag("--gpu"), flag("--growth"), flag("--busy")) {
        (true, ..) if is_tiny => tiny(gpu_cases()),
        (true, ..) => gpu_cases(),
        (_, true, _) => growth_cases(),
        (.., true) => Vec::new(),
        _ => cases(),
    };
    let size = if is_tiny { 128 } else { 8192 };
    let rate = flag("--gpu").then(|| ours::matrix_rate(size)).transpose().unwrap_or_else(|error| {
        eprintln!("no GPU: {error}");
        std::process::exit(1);
    });
    if let Some(rate) = rate {
        take(
            "matrix rate",
            Ok(vec![Timing::new("bf16 matrix rate".into(), rate / 1e12, None, "TFLOP/s", String::new())]),
        );
    }
    for case in cases.iter().filter(|case| wanted(case.name)) {
        take(case.name, measured(case, rate, &mut last));
    }
    if flags.is_empty() {
        let others: [(&str, Measure); 4] = [
            ("load", load),
            ("map and tokenize", map_and_tokenize),
            ("start-up", start_up),
            ("checkpoint", checkpoint),
        ];
        for (name, measure) in others.into_iter().filter(|(name, _)| wanted(name)) {
            take(name, measure().map(|row| vec![row]));
        }
    }
    let file = flags.iter().find_map(|flag| flag.strip_prefix("--out=")).map(Path::new);
    if let Err(error) = table::write(&rows, file) {
        eprintln!("{error}");
        failed += 1;
    }
    if failed > 0 {
        std::process::exit(1);
    }
}

/// The time of a step and the peak memory of one case; with the GPU's `rate`, the fraction of it
/// that the base's matrices reach. On a CPU rounds of both sides alternate, since its speed
/// varies; on a GPU one runs after the other, since both may not fit into its memory.
fn measured(case: &Case, rate: Option<f64>, last: &mut LastModel) -> Result<Vec<Timing>> {
    let mut ours = Loop::new(case, last)?;
    ours.steps(case.steps_per_round)?;
    let (mut our_seconds, mut peer_seconds, mut peer_peak) = (Vec::new(), Vec::new(), None);
    let mut peer = if rate.is_none() { Peer::prepared(case)? } else { None };
    for _ in 0..ROUNDS {
        our_seconds.push(ours.steps(case.steps_per_round)?);
        if let Some(peer) = &mut peer {
            let (seconds, peak) = peer.steps(case.steps_per_round)?;
            peer_seconds.push(seconds);
            peer_peak = Some(peak);
        }
    }
    let our_peak = ours.peak_bytes()?;
    let settings = case.settings() + if ours.is_packed() { ", weights packed" } else { "" };
    if rate.is_some() {
        drop(ours);
        if Peer::is_there() {
            // Both models may not fit.
            *last = LastModel::default();
            lorhai::native::gpu::empty_cache()?;
        }
        match gpu_peer(case) {
            Ok(Some((seconds, peak))) => (peer_seconds, peer_peak) = (seconds, Some(peak)),
            Ok(None) => {}
            Err(error) => eprintln!("{}: {error}", case.name),
        }
    }
    let (our_time, peer_time) = (median(our_seconds), (!peer_seconds.is_empty()).then(|| median(peer_seconds)));
    let row = |what: &str, ours: f64, peer: Option<f64>, unit| {
        Timing::new(format!("{}: {what}", case.name), ours, peer, unit, settings.clone())
    };
    let mut rows = vec![
        row("step", our_time * 1e3, peer_time.map(|time| time * 1e3), "ms"),
        row("peak memory", our_peak / 1e6, peer_peak.map(|bytes| bytes / 1e6), "MB"),
    ];
    if let Some(rate) = rate {
        let percent = |time: f64| -> Result<f64> { Ok(100.0 * case.matrix_flops()? / time / rate) };
        rows.push(row("share of the matrix rate", percent(our_time)?, peer_time.map(percent).transpose()?, "%"));
        rows.push(row("tokens a second", case.tokens() as f64 / our_time, None, "1/s"));
    }
    Ok(rows)
}

fn gpu_peer(case: &Case) -> Result<Option<(Vec<f64>, f64)>> {
    let Some(mut peer) = Peer::prepared(case)? else { return Ok(None) };
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| peer.steps(case.steps_per_round)).collect::<Result<_>>()?;
    let peak = rounds.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    Ok(Some((rounds.into_iter().map(|(seconds, _)| seconds).collect(), peak)))
}

/// From safetensors files in the page cache to the first logits.
fn load() -> Result<Timing> {
    let folder = scratch()?;
    let config = cases().pop().map(|case| case.model).unwrap_or_default();
    let bytes = ours::write_checkpoint(&config, folder.path())?;
    let mut peer = Peer::start()?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let seconds = ours::load_seconds(folder.path())?;
        let theirs = peer.as_mut().map(|peer| peer.load_seconds(folder.path())).transpose()?;
        // The first round warms up the page cache and Python's modules.
        if round > 0 {
            ours.push(seconds);
            peers.extend(theirs);
        }
    }
    Ok(in_ms(
        "load",
        ours,
        peers,
        format!("0.5B's shape, {:.2} GB of bf16 files, to the logits of a token", bytes as f64 / 1e9),
    ))
}

/// Rows from a file through a closure to ids and labels.
fn map_and_tokenize() -> Result<Timing> {
    const COPIES: usize = 4;
    let folder = scratch()?;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tiny");
    let text = lorhai::files::read_text(&tiny.join("pretrain.jsonl"))?.repeat(COPIES);
    let rows = folder.path().join("rows.jsonl");
    lorhai::files::write_atomic(&rows, text.as_bytes())?;
    let mut peer = Peer::start()?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let seconds = ours::tokenize_seconds(&rows, &tiny)?;
        let theirs = peer.as_mut().map(|peer| peer.tokenize_seconds(&rows, &tiny)).transpose()?;
        if round > 0 {
            ours.push(seconds);
            peers.extend(theirs);
        }
    }
    Ok(in_ms("map and tokenize", ours, peers, format!("{} rows", text.lines().count())))
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| lorhai::Error::bug(format!("no temporary folder: {error}")))
}

fn in_ms(name: &str, ours: Vec<f64>, peers: Vec<f64>, settings: String) -> Timing {
    let peer = (!peers.is_empty()).then(|| median(peers) * 1e3);
    Timing::new(name.to_owned(), median(ours) * 1e3, peer, "ms", settings)
}

/// Start-up: an empty script against Python's imports.
fn start_up() -> Result<Timing> {
    let ours = ours::start_up(9)?;
    let peer = match Peer::start()? {
        Some(mut peer) => Some(median((0..3).map(|_| peer.import_seconds()).collect::<Result<Vec<_>>>()?)),
        None => None,
    };
    Ok(Timing::new("start-up".to_owned(), median(ours) * 1e3, peer.map(|seconds| seconds * 1e3), "ms", String::new()))
}

/// Writing one checkpoint of an adapter, to the disk that the build is on.
fn checkpoint() -> Result<Timing> {
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let folder = folder.map_err(|error| lorhai::Error::bug(format!("no temporary folder: {error}")))?;
    let config = cases().pop().map(|case| case.model).unwrap_or_default();
    let (bytes, seconds) = ours::checkpoint_seconds(&config, folder.path(), ROUNDS)?;
    // Where time alone decides: one in five minutes.
    let share = 100.0 * median(seconds.clone()) / 300.0;
    let settings =
        format!("0.5B's shape, r 16 on all linear layers, {:.0} MB: {share:.2} % of five minutes", bytes / 1e6);
    Ok(in_ms("checkpoint", seconds, Vec::new(), settings))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
