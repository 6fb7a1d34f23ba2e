//! `lorhai replay`: repeats a run from its record and compares the losses.
//!
//! The script writes into a separate folder (`overlay`), so that the first run is not touched. Leaves
//! to others: the record (`train::origin`) and the comparison of losses (`train::trace`).

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::model::device;
use crate::overlay::{normalized, Overlay};
use crate::script::{on_large_stack, Failure, Session};
use crate::sweep::history::{PastKind, PastRun};
use crate::sweep::settings_diff::{self, Change};
use crate::train::folder::{RunRecord, RunStatus, METRICS, RUN};
use crate::train::metrics::{read_metrics, MetricsRow};
use crate::train::origin::{Origin, Program, Script};
use crate::train::trace;
use crate::{files, lora, stderr, threads};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// The subfolder of the replay that holds the script.
const SCRIPT: &str = ".replay";

/// The device in the record of a run that began without a model.
const NO_DEVICE: &str = "none";

/// A run, or a trial of a sweep, that is repeated.
struct Target {
    /// The path that the user gave.
    name: String,
    folder: PathBuf,
    /// The record of the first run.
    record: RunRecord,
}

/// The runs that one execution of a script made.
struct Execution {
    origin: Origin,
    targets: Vec<Target>,
}

/// How a run is repeated.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplayOptions<'a> {
    /// Where the files that the script writes are kept.
    pub keep: Option<&'a Path>,
    pub quiet: bool,
    /// Without it, as many as in the first run.
    pub threads: Option<usize>,
    /// For models whose device the script leaves open. Without it that of the first run, if this machine has it.
    pub device: Option<&'a str>,
}

/// Repeats the run, trial or sweep in the folder `run`, reports the comparison, and returns whether all
/// losses are the same except for rounding.
///
/// # Errors
/// If the record is incomplete, the folder to keep files in is not empty, or the user stops it.
pub fn replay(run: &Path, options: &ReplayOptions, report: &mut dyn FnMut(&str)) -> Result<bool, Failure> {
    let executions = executions(run)?;
    // From here on relative paths start from the folder that the script was started in.
    let (run, keep) = (absolute(run), options.keep.map(absolute));
    keep.as_deref().map_or(Ok(()), ensure_empty)?;
    let failed = |error: std::io::Error| Error::file("make a folder in", &std::env::temp_dir(), &error);
    let temporary = tempfile::tempdir().map_err(failed)?;
    let into = keep.as_deref().unwrap_or(temporary.path());
    let mut same = true;
    for (at, execution) in executions.iter().enumerate() {
        let folder = if executions.len() > 1 { into.join(format!("call-{}", at + 1)) } else { into.to_path_buf() };
        same &= execution.replay(&run, &folder, options, report)?;
    }
    if keep.is_some() {
        report(&format!("written below {}\n", into.display()));
    }
    Ok(same)
}

/// The targets, grouped by the executions that made them: a sweep that was resumed has several.
fn executions(run: &Path) -> Result<Vec<Execution>> {
    let past = PastRun::open(run)?;
    let targets = match past.kind {
        PastKind::Run(record) => vec![Target { name: run.display().to_string(), folder: absolute(run), record }],
        PastKind::Sweep(result) => {
            result.rows().iter().map(|row| trial(&run.join(&row.dir))).collect::<Result<Vec<_>>>()?
        }
    };
    if targets.is_empty() {
        bail!(Kind::Input, "`{}`: no trial of this sweep has finished: there is nothing to compare with", run.display();
            hint: "run its script again: it trains the missing trials");
    }
    let mut executions: Vec<Execution> = Vec::new();
    for target in targets {
        let origin = Origin::read(&target.folder)?;
        match executions.iter_mut().find(|execution| execution.origin == origin) {
            Some(execution) => execution.targets.push(target),
            None => executions.push(Execution { origin, targets: vec![target] }),
        }
    }
    Ok(executions)
}

fn trial(folder: &Path) -> Result<Target> {
    match PastRun::open(folder)?.kind {
        PastKind::Run(record) => Ok(Target { name: folder.display().to_string(), folder: absolute(folder), record }),
        PastKind::Sweep(_) => bail!(Kind::File, "`{}` is a sweep in a sweep: expected a trial", folder.display()),
    }
}

fn ensure_empty(folder: &Path) -> Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(Kind::Input, "--out: `{}` is not empty: a replay needs a folder for its own files", folder.display();
            hint: "choose a new or empty folder");
    }
    Ok(())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

impl Execution {
    fn replay(
        &self,
        run: &Path,
        into: &Path,
        options: &ReplayOptions,
        report: &mut dyn FnMut(&str),
    ) -> Result<bool, Failure> {
        let origin = &self.origin;
        let Some(script) = &origin.script else { return Err(no_script(run).into()) };
        enter(&base(run, origin))?;
        report(&format!("{}{}\n", script.path.display(), set_options(&origin.set)));
        // A record whose script names the device, or that this machine cannot follow, changes nothing here.
        let has_device = device::set_default(options.device.unwrap_or(&origin.machine.device)).is_ok();
        report(&differences(origin, script, options, has_device)?);
        let recorded = usize::try_from(origin.machine.threads).unwrap_or(1).max(1);
        let failure = self.run(script, into, options.quiet, options.threads.unwrap_or(recorded))?;
        let out = Overlay::within(into)?.redirected(&origin.out);
        let mut same = 0;
        for target in &self.targets {
            let comparison = compare(target, origin, &out)?;
            same += usize::from(comparison.same);
            report(&format!("{}: {}\n", target.name, comparison.text));
            comparison.changes.iter().for_each(|change| report(&format!("  {}\n", shortened(change))));
        }
        if self.targets.len() > 1 {
            report(&format!("{same} of {} trials are the same\n", self.targets.len()));
        }
        if let Some(failure) = failure {
            report(&format!("the script ended with an error:\n  {}\n", failure.to_string().replace('\n', "\n  ")));
        }
        Ok(same == self.targets.len())
    }

    /// Runs the recorded script, and returns the error that it ended with, if any.
    fn run(&self, script: &Script, into: &Path, quiet: bool, threads: usize) -> Result<Option<Failure>, Failure> {
        let name = script.path.file_name().map(Path::new).unwrap_or(Path::new("script.rhai"));
        let folder = into.join(SCRIPT);
        let path = folder.join(name);
        files::write_atomic(&path, script.text.as_bytes())?;
        for (module, text) in &script.modules {
            // A manipulated record must not write outside of the folder.
            let path = normalized(&folder.join(module));
            if path.starts_with(normalized(&folder)) {
                files::write_atomic(&path, text.as_bytes())?;
            }
        }
        let run = || -> Result<Option<Failure>> {
            threads::use_threads(threads);
            let mut session = Session::new();
            session.set_quiet(quiet);
            session.on_print(move |text| {
                if !quiet {
                    stderr::line(text);
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

fn no_script(run: &Path) -> Error {
    Error::input(format!(
        "`{}` was made in the REPL or by another program: there is no script to repeat",
        run.display()
    ))
    .with_hint("`:save FILE` in `lorhai repl` saves inputs as a script, whose runs can be repeated")
}

/// The folder that recorded paths are relative to: if the run was moved together with its files, the
/// folder it was moved to, else the one that the script was started in.
fn base(run: &Path, origin: &Origin) -> PathBuf {
    let out = origin.out.strip_prefix(".").unwrap_or(&origin.out);
    let above = |folder: &Path| {
        let only_names = out.components().all(|part| matches!(part, Component::Normal(_)));
        let base = folder.ancestors().nth(out.components().count())?;
        (only_names && folder.ends_with(out)).then(|| base.to_path_buf())
    };
    // A trial is a subfolder of its sweep's `out`.
    above(run).or_else(|| above(run.parent()?)).unwrap_or_else(|| origin.folder.clone())
}

fn enter(folder: &Path) -> Result<()> {
    std::env::set_current_dir(folder).map_err(|error| {
        Error::file("enter the folder that the script was started in,", folder, &error)
            .with_hint("move the run back there, with the files that its script reads")
    })
}

/// The `--set` options of a run.
fn set_options(set: &[(String, String)]) -> String {
    set.iter().map(|(key, value)| format!(" --set {key}={value}")).collect()
}

/// What has changed since the first run, as far as it shows before the replay.
fn differences(origin: &Origin, script: &Script, options: &ReplayOptions, has_device: bool) -> Result<String> {
    let mut lines = Vec::new();
    let now = Program::current()?;
    for (what, then, now) in [
        ("version of lorhai", &origin.program.version, &now.version),
        ("version of libtorch", &origin.program.libtorch, &now.libtorch),
        ("program", &origin.program.sha256, &now.sha256),
    ] {
        if then != now {
            lines.push(format!("the {what} changed: {} then, {} now", short(then), short(now)));
        }
    }
    let texts = std::iter::once((script.path.clone(), &script.text));
    let folder = script.path.parent().unwrap_or(Path::new(""));
    for (path, text) in texts.chain(script.modules.iter().map(|(name, text)| (folder.join(name), text))) {
        match files::read_text(&path) {
            Ok(now) if now.trim_start_matches('\u{feff}') == text.trim_start_matches('\u{feff}') => {}
            Ok(_) => lines.push(format!("`{}` changed: the recorded text is run", path.display())),
            Err(_) => lines.push(format!("`{}` cannot be read: the recorded text is run", path.display())),
        }
    }
    if let Some(model) = &origin.model {
        let fingerprint = lora::model::fingerprint_of(&model.folder);
        lines.extend(changed("the files of the model", &model.folder, &model.fingerprint, fingerprint));
        if let Some(then) = &model.tokenizer {
            let now = Tokenizer::from_folder(&model.folder).map(|tokenizer| tokenizer.fingerprint().to_owned());
            lines.extend(changed("the tokenizer", &model.folder, then, now));
        }
    }
    for (path, then) in &origin.files {
        lines.extend(changed("the file", Path::new(path), then, files::sha256(Path::new(path))));
    }
    let (recorded, usual) = (origin.machine.threads, threads::count());
    let differs = |count: usize| i64::from(recorded) != count as i64;
    match options.threads {
        Some(count) if differs(count) => {
            lines.push(format!("threads: {count}, as --threads asks; {recorded} in the first run"));
        }
        None if differs(usual) => {
            lines.push(format!("threads: {recorded} as in the first run, though {usual} would be used now"));
        }
        _ => {}
    }
    let recorded = &origin.machine.device;
    match options.device {
        Some(device) if device != recorded => {
            lines.push(format!("device: {device}, as --device asks; {recorded} in the first run"));
        }
        None if !has_device && recorded != NO_DEVICE => {
            lines.push(format!("device: {recorded} in the first run, which cannot be used now"));
        }
        _ => {}
    }
    if lines.is_empty() {
        return Ok("program, script, model, tokenizer and data are unchanged\n".to_owned());
    }
    Ok(lines.iter().map(|line| format!("  {line}\n")).collect())
}

fn changed(what: &str, path: &Path, then: &str, now: Result<String>) -> Option<String> {
    match now {
        Ok(now) if now == then => None,
        Ok(now) => Some(format!("{what} `{}` changed: {} then, {} now", path.display(), short(then), short(&now))),
        Err(error) => Some(format!("{what} `{}`: {}", path.display(), error.message)),
    }
}

/// The beginning of a hash is enough to recognise it.
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

/// How a repeated run compares with the first.
struct Comparison {
    same: bool,
    text: String,
    changes: Vec<Change>,
}

/// Compares the run in `out` with the first run.
fn compare(target: &Target, origin: &Origin, out: &Path) -> Result<Comparison> {
    let again = counterpart(target, out);
    let made = PastRun::open(&again).ok().map(|past| past.kind);
    let Some(PastKind::Run(record)) = made else {
        return Ok(Comparison {
            same: false,
            text: "was not made by the script this time".to_owned(),
            changes: Vec::new(),
        });
    };
    let mut changes = settings_diff::between(&target.record.settings, &record.settings);
    changes.extend(machine_changes(origin, &again));
    let is_cut_off = target.record.status == RunStatus::Unfinished;
    let agreement = trace::compare(&log(&target.folder)?, &log(&again)?, is_cut_off);
    let (same, text) = match (&target.record.status, &record.status) {
        (RunStatus::Failed { error: then }, RunStatus::Failed { error: now }) if then == now => {
            (agreement.is_equal(), format!("{agreement}; failed as before: {now}"))
        }
        (RunStatus::Failed { error }, _) => (false, format!("{agreement}; did not fail as before: {error}")),
        (_, RunStatus::Failed { error }) => (false, format!("{agreement}; failed this time: {error}")),
        // Without logged losses nothing was compared.
        (RunStatus::Unfinished, _) => (agreement.has_losses(), format!("{agreement}, as far as the first run got")),
        _ => (agreement.has_losses(), agreement.to_string()),
    };
    Ok(Comparison { same, text, changes })
}

/// The folder of the repeated run; a trial is a subfolder of `out`.
fn counterpart(target: &Target, out: &Path) -> PathBuf {
    match target.folder.file_name().filter(|_| !target.folder.join(RUN).is_file()) {
        Some(trial) => out.join(trial),
        None => out.to_path_buf(),
    }
}

/// The log of a run; empty if it failed before the first step.
fn log(folder: &Path) -> Result<Vec<MetricsRow>> {
    let path = folder.join(METRICS);
    if path.is_file() {
        read_metrics(&path)
    } else {
        Ok(Vec::new())
    }
}

/// Changes of the device and dtype that "auto" chose.
fn machine_changes(origin: &Origin, again: &Path) -> Vec<Change> {
    let json = |origin: &Origin| serde_json::json!({ "device": origin.machine.device, "dtype": origin.machine.dtype });
    Origin::read(again).map(|now| settings_diff::between(&json(origin), &json(&now))).unwrap_or_default()
}
