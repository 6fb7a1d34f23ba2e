//! `lorhai replay`: a run repeated from its record, and whether its losses come out the same.
//!
//! What a run keeps of its origin is `train::origin`'s, how losses are compared `train::trace`'s. Nothing
//! of the first run is touched: the script writes into a folder of its own (`overlay`).

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::overlay::{normalized, Overlay};
use crate::script::{on_large_stack, Failure, Session};
use crate::sweep::changes::{self, Change};
use crate::sweep::past::{Past, What};
use crate::train::folder::{RunRecord, Standing, METRICS, RUN};
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::origin::{Origin, Program, Script};
use crate::train::trace;
use crate::{files, lora};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// Holds the script that is run again, in the folder of the replay.
const SCRIPT: &str = ".replay";

/// A run, or a trial of a sweep, that is to come out as it did.
struct Wanted {
    /// As the user knows it.
    name: String,
    folder: PathBuf,
    /// What the first run made of it.
    record: RunRecord,
}

/// Runs that one call of a script made.
struct Call {
    origin: Origin,
    wanted: Vec<Wanted>,
}

/// Repeats the run, trial or sweep whose folder is `run`, tells what it finds, and gives whether every
/// loss was the same but for rounding. What the scripts write stays in `keep`, or goes when this is over.
///
/// # Errors
/// A folder without all that is needed to repeat it; a `keep` that holds something; a stop by the user.
pub fn replay(run: &Path, keep: Option<&Path>, quiet: bool, tell: &mut dyn FnMut(&str)) -> Result<bool, Failure> {
    let calls = calls(run)?;
    // What is relative from here on is so from the folder that the script was started in.
    let (run, keep) = (absolute(run), keep.map(absolute));
    keep.as_deref().map_or(Ok(()), must_be_empty)?;
    let failed = |error: std::io::Error| Error::file("make a folder in", &std::env::temp_dir(), &error);
    let temporary = tempfile::tempdir().map_err(failed)?;
    let into = keep.as_deref().unwrap_or(temporary.path());
    let mut same = true;
    for (at, call) in calls.iter().enumerate() {
        let own = if calls.len() > 1 { into.join(format!("call-{}", at + 1)) } else { into.to_path_buf() };
        same &= call.replay(&run, &own, quiet, tell)?;
    }
    if keep.is_some() {
        tell(&format!("written below {}\n", into.display()));
    }
    Ok(same)
}

/// What is asked for, by the calls that made it: a sweep that was continued has several.
fn calls(run: &Path) -> Result<Vec<Call>> {
    let past = Past::open(run)?;
    let wanted = match past.what {
        What::Run(record) => vec![Wanted { name: run.display().to_string(), folder: absolute(run), record }],
        What::Sweep(result) => {
            result.rows().iter().map(|row| trial(&run.join(&row.dir))).collect::<Result<Vec<_>>>()?
        }
    };
    if wanted.is_empty() {
        bail!(Kind::Input, "`{}`: no trial of this sweep has ended: there is nothing to compare with", run.display();
            hint: "run its script again: it goes on with what is missing");
    }
    let mut calls: Vec<Call> = Vec::new();
    for one in wanted {
        let origin = Origin::read(&one.folder)?;
        match calls.iter_mut().find(|call| call.origin == origin) {
            Some(call) => call.wanted.push(one),
            None => calls.push(Call { origin, wanted: vec![one] }),
        }
    }
    Ok(calls)
}

fn trial(folder: &Path) -> Result<Wanted> {
    match Past::open(folder)?.what {
        What::Run(record) => Ok(Wanted { name: folder.display().to_string(), folder: absolute(folder), record }),
        What::Sweep(_) => bail!(Kind::File, "`{}` is a sweep in a sweep: expected a trial", folder.display()),
    }
}

fn must_be_empty(folder: &Path) -> Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(Kind::Input, "--out: `{}` is not empty: a replay writes into a folder of its own", folder.display();
            hint: "choose a new or empty folder");
    }
    Ok(())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

impl Call {
    fn replay(&self, run: &Path, into: &Path, quiet: bool, tell: &mut dyn FnMut(&str)) -> Result<bool, Failure> {
        let origin = &self.origin;
        let Some(script) = &origin.script else { return Err(scriptless(run).into()) };
        enter(&base(run, origin))?;
        tell(&format!("{}{}\n", script.path.display(), given(&origin.set)));
        tell(&differences(origin, script)?);
        let failure = self.run(script, into, quiet)?;
        let out = Overlay::within(into)?.redirected(&origin.out);
        let mut same = 0;
        for one in &self.wanted {
            let verdict = compare(one, origin, &out)?;
            same += usize::from(verdict.same);
            tell(&format!("{}: {}\n", one.name, verdict.text));
            verdict.changes.iter().for_each(|change| tell(&format!("  {}\n", shortened(change))));
        }
        if self.wanted.len() > 1 {
            tell(&format!("{same} of {} trials came out the same\n", self.wanted.len()));
        }
        if let Some(failure) = failure {
            tell(&format!("the script ended with an error:\n  {}\n", failure.to_string().replace('\n', "\n  ")));
        }
        Ok(same == self.wanted.len())
    }

    /// Runs the recorded script; gives the error that it ended with, if it did.
    fn run(&self, script: &Script, into: &Path, quiet: bool) -> Result<Option<Failure>, Failure> {
        let name = script.path.file_name().map(Path::new).unwrap_or(Path::new("script.rhai"));
        let folder = into.join(SCRIPT);
        let path = folder.join(name);
        files::write_whole(&path, script.text.as_bytes())?;
        for (module, text) in &script.modules {
            // A record that was tampered with reaches nothing outside.
            let place = normalized(&folder.join(module));
            if place.starts_with(normalized(&folder)) {
                files::write_whole(&place, text.as_bytes())?;
            }
        }
        let run = || -> Result<Option<Failure>> {
            tch::set_num_threads(self.origin.machine.threads.max(1));
            let mut session = Session::new();
            session.set_quiet(quiet);
            session.on_print(move |text| {
                if !quiet {
                    eprintln!("{text}");
                }
            });
            session.redirect_outputs(into)?;
            self.origin.set.iter().for_each(|(key, value)| session.set(key, value));
            Ok(session.run_file(&path).err())
        };
        match on_large_stack(run)?? {
            Some(failure) if failure.stopped() => Err(failure),
            other => Ok(other),
        }
    }
}

fn scriptless(run: &Path) -> Error {
    Error::input(format!("`{}` was made at a prompt or by another program: it has no script to repeat", run.display()))
        .with_hint("`:save FILE` in `lorhai repl` writes its inputs as a script, whose runs can be repeated")
}

/// The folder that the recorded paths lead from: where the run lies now, if it was moved with its
/// folder, else where the script was started.
fn base(run: &Path, origin: &Origin) -> PathBuf {
    let out = origin.out.strip_prefix(".").unwrap_or(&origin.out);
    let above = |folder: &Path| {
        let is_plain = out.components().all(|part| matches!(part, Component::Normal(_)));
        let base = folder.ancestors().nth(out.components().count())?;
        (is_plain && folder.ends_with(out)).then(|| base.to_path_buf())
    };
    // A trial lies one below the `out` of its sweep.
    above(run).or_else(|| above(run.parent()?)).unwrap_or_else(|| origin.folder.clone())
}

fn enter(folder: &Path) -> Result<()> {
    std::env::set_current_dir(folder).map_err(|error| {
        Error::file("go to the folder that the script was started in,", folder, &error)
            .with_hint("move the run back to where it was made, with the files that its script reads")
    })
}

fn given(set: &[(String, String)]) -> String {
    set.iter().map(|(key, value)| format!(" --set {key}={value}")).collect()
}

/// What is no longer as it was when the run began, as far as that can be told before it runs again.
fn differences(origin: &Origin, script: &Script) -> Result<String> {
    let mut found = Vec::new();
    let now = Program::current()?;
    for (what, then, now) in [
        ("version of lorhai", &origin.program.version, &now.version),
        ("version of libtorch", &origin.program.libtorch, &now.libtorch),
        ("program", &origin.program.sha256, &now.sha256),
    ] {
        if then != now {
            found.push(format!("the {what} is another: {} then, {} now", short(then), short(now)));
        }
    }
    let texts = std::iter::once((script.path.clone(), &script.text));
    let folder = script.path.parent().unwrap_or(Path::new(""));
    for (path, text) in texts.chain(script.modules.iter().map(|(name, text)| (folder.join(name), text))) {
        match files::read_text(&path) {
            Ok(now) if now.trim_start_matches('\u{feff}') == text.trim_start_matches('\u{feff}') => {}
            Ok(_) => found.push(format!("`{}` was changed: the text of then is run", path.display())),
            Err(_) => found.push(format!("`{}` cannot be read any more: the text of then is run", path.display())),
        }
    }
    let model = &origin.model;
    let fingerprint = lora::model::fingerprint_of(&model.folder);
    found.extend(changed("the files of the model", &model.folder, &model.fingerprint, fingerprint));
    if let Some(then) = &model.tokenizer {
        let now = Tokenizer::from_folder(&model.folder).map(|found| found.fingerprint().to_owned());
        found.extend(changed("the tokenizer", &model.folder, then, now));
    }
    for (path, then) in &origin.files {
        found.extend(changed("the file", Path::new(path), then, files::sha256(Path::new(path))));
    }
    let threads = tch::get_num_threads();
    if threads != origin.machine.threads {
        found.push(format!("threads: {} as then, though {threads} would be used now", origin.machine.threads));
    }
    Ok(match found.is_empty() {
        true => "program, script, model, tokenizer and data are as they were\n".to_owned(),
        false => found.iter().map(|line| format!("  {line}\n")).collect(),
    })
}

fn changed(what: &str, path: &Path, then: &str, now: Result<String>) -> Option<String> {
    match now {
        Ok(now) if now == then => None,
        Ok(now) => Some(format!("{what} `{}` changed: {} then, {} now", path.display(), short(then), short(&now))),
        Err(error) => Some(format!("{what} `{}`: {}", path.display(), error.message)),
    }
}

/// The beginning of a hash tells it apart.
fn short(text: &str) -> &str {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        text.get(..12).unwrap_or(text)
    } else {
        text
    }
}

fn shortened(change: &Change) -> Change {
    let short = |value: &Option<Value>| {
        value.as_ref().map(|value| value.as_str().map_or(value.clone(), |text| short(text).into()))
    };
    Change { key: change.key.clone(), old: short(&change.old), new: short(&change.new) }
}

/// Whether a run came out as before, in words, and what was set otherwise.
struct Verdict {
    same: bool,
    text: String,
    changes: Vec<Change>,
}

/// Holds what came out in `out` against what the first run left.
fn compare(one: &Wanted, origin: &Origin, out: &Path) -> Result<Verdict> {
    let again = counterpart(one, out);
    let made = Past::open(&again).ok().map(|past| past.what);
    let Some(What::Run(record)) = made else {
        return Ok(Verdict { same: false, text: "was not made again by the script".to_owned(), changes: Vec::new() });
    };
    let mut changes = changes::between(&one.record.settings, &record.settings);
    changes.extend(machine_changes(origin, &again));
    let is_cut_off = one.record.standing == Standing::Unfinished;
    let agreement = trace::compare(&log(&one.folder)?, &log(&again)?, is_cut_off);
    let (same, text) = match (&one.record.standing, &record.standing) {
        (Standing::Failed { error: then }, Standing::Failed { error: now }) if then == now => {
            (agreement.is_equal(), format!("{agreement}; failed as before: {now}"))
        }
        (Standing::Failed { error }, _) => (false, format!("{agreement}; did not fail as before: {error}")),
        (_, Standing::Failed { error }) => (false, format!("{agreement}; failed this time: {error}")),
        // Nothing was compared where nothing was logged.
        (Standing::Unfinished, _) => (agreement.has_losses(), format!("{agreement}, as far as the first run came")),
        _ => (agreement.has_losses(), agreement.to_string()),
    };
    Ok(Verdict { same, text, changes })
}

/// Where the replay, whose `out` is this, wrote what lies in the folder of the first run: of a trial, below that of
/// its sweep.
fn counterpart(one: &Wanted, out: &Path) -> PathBuf {
    match one.folder.file_name().filter(|_| !one.folder.join(RUN).is_file()) {
        Some(trial) => out.join(trial),
        None => out.to_path_buf(),
    }
}

/// A run that failed at once logged nothing.
fn log(folder: &Path) -> Result<Vec<MetricsRow>> {
    let path = folder.join(METRICS);
    match path.is_file() {
        true => read_metrics(&path),
        false => Ok(Vec::new()),
    }
}

/// The device and dtype that "auto" came to may be others.
fn machine_changes(origin: &Origin, again: &Path) -> Vec<Change> {
    let json = |origin: &Origin| serde_json::json!({ "device": origin.machine.device, "dtype": origin.machine.dtype });
    Origin::read(again).map(|now| changes::between(&json(origin), &json(&now))).unwrap_or_default()
}
