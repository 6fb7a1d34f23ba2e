//! What a native function can learn of the script that calls it: its file and text, the
//! `--set` values, the settings it resolved, and whether progress is wanted.

use crate::data::Pace;
use crate::error::{Error, Result};
use crate::overlay::Overlay;
use crate::script::engine::running;
use crate::script::engine::summary::Rehearsal;
use crate::script::language::names;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json;
use crate::script::values::objects::ScriptRun;
use crate::stderr;
use crate::train::processes::Processes;
use rhai::{Map, NativeCallContext};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Shared by the session and, as the engine's tag, by every native call.
#[derive(Clone, Default)]
pub struct State(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    script: String,
    folder: Option<PathBuf>,
    sources: HashMap<String, String>,
    /// The variables that `catch` binds anywhere in them.
    caught: HashSet<String>,
    /// The inputs of a conversation, whose lines are numbered on from one to the next.
    chunks: Vec<Chunk>,
    /// By `--set key=value`.
    set_values: Vec<(String, String)>,
    settings: Option<Map>,
    /// Whether any input has called `args`.
    has_read_args: bool,
    /// The defaults that the script gave to `args`, and the line it did so in.
    declared: Option<(Map, usize)>,
    describing: bool,
    quiet: bool,
    /// Does this process share its sweeps with others?
    shared: bool,
    /// Those that train its runs together.
    processes: Option<Rc<Processes>>,
    prints_elsewhere: bool,
    redirect: Redirect,
    rehearsal: Option<Rehearsal>,
    /// How many trials of the sweep in each folder failed, and how many there are.
    trials: HashMap<PathBuf, (usize, usize)>,
    /// Loops of the script's own, to record the error that ends it.
    runs: Vec<Handle<ScriptRun>>,
    /// What [`State::note_once`] has written.
    noted: HashSet<&'static str>,
}

/// Where files go, and which were used; see `redirect`.
#[derive(Default)]
pub(in crate::script) struct Redirect {
    pub overlay: Option<Overlay>,
    pub written: BTreeSet<PathBuf>,
    pub read: BTreeSet<PathBuf>,
}

/// One input of a conversation.
struct Chunk {
    name: String,
    text: String,
    /// The number of its first line among the lines of all inputs.
    first: usize,
}

impl Chunk {
    fn next(&self) -> usize {
        // Errors at the end of a text are placed one line behind it.
        self.first + self.text.lines().count() + 1
    }
}

impl State {
    /// The state of the session that made this call.
    pub fn of(context: &NativeCallContext) -> RhaiResultOf<State> {
        let state = context.tag().and_then(|tag| tag.clone().try_cast::<State>());
        Ok(state.ok_or_else(|| Error::bug("this engine was not made by a lorhai session"))?)
    }

    /// Has the run fail where the script ends in an error.
    pub fn watch_run(&self, run: &Handle<ScriptRun>) {
        let mut inner = self.0.borrow_mut();
        let folder = run.read().map(|run| run.run.folder().to_owned()).unwrap_or_default();
        // A run that begins again in a folder takes the place of the one before.
        let stays = |run: &ScriptRun| run.run.is_going() && run.run.folder() != folder;
        inner.runs.retain(|run| run.read().is_ok_and(|run| stays(&run)));
        inner.runs.push(run.clone());
    }

    /// Records the error that ended the script in the loops that it began and did not finish. At a prompt an input that
    /// fails ends no loop.
    pub fn end_runs(&self, error: Option<&Error>) {
        let runs = std::mem::take(&mut self.0.borrow_mut().runs);
        let Some(error) = error.filter(|_| !self.in_conversation()) else { return };
        for run in runs {
            // The error of the script is the one to report.
            let _ = run.write().and_then(|mut run| run.run.fail(error));
        }
    }

    /// The name of the running script: its path, or what `run_source` was given.
    pub fn script(&self) -> String {
        self.0.borrow().script.clone()
    }

    /// The text of the running script, for records of a run; in a conversation, all of it.
    pub fn source(&self) -> String {
        let inner = self.0.borrow();
        if !inner.chunks.is_empty() {
            return inner.chunks.iter().map(|chunk| format!("{}\n", chunk.text.trim_end())).collect();
        }
        inner.sources.get(&inner.script).cloned().unwrap_or_default()
    }

    /// The settings that `args` resolved, as JSON; null before it was called.
    pub fn settings(&self) -> Result<serde_json::Value> {
        match &self.0.borrow().settings {
            Some(settings) => json::to_json(&rhai::Dynamic::from_map(settings.clone())),
            None => Ok(serde_json::Value::Null),
        }
    }

    /// Should progress be kept off the terminal?
    pub fn quiet(&self) -> bool {
        self.0.borrow().quiet
    }

    /// Does this process share its sweeps with others that run the same script?
    pub fn is_shared(&self) -> bool {
        self.0.borrow().shared
    }

    /// The processes that train the runs of this script together, if it is one of several.
    pub fn processes(&self) -> Option<Rc<Processes>> {
        self.0.borrow().processes.clone()
    }

    /// Fails in one of several processes: `what` is nothing that they do together.
    ///
    /// # Errors
    /// A script that several processes run.
    pub fn ensure_alone(&self, what: &str) -> Result<()> {
        let Some(processes) = self.processes() else { return Ok(()) };
        Err(Error::input(format!("{what}: {} processes share the work of `train` only", processes.size()))
            .with_hint("run the script in one process; `--workers N` shares the trials of a sweep among several"))
    }

    /// Does `print` write to anything but the standard output?
    pub fn prints_elsewhere(&self) -> bool {
        self.0.borrow().prints_elsewhere
    }

    /// Writes a note for the user to stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet() {
            stderr::note(&self.in_true_words(text));
        }
    }

    /// As [`note`](Self::note), the first time only.
    pub fn note_once(&self, text: &'static str) {
        if self.0.borrow_mut().noted.insert(text) {
            self.note(text);
        }
    }

    /// Notes how many trials of the sweep in `out` failed, in place of what an earlier call noted of that folder.
    pub fn count_trials(&self, out: &Path, failed: usize, all: usize) {
        self.0.borrow_mut().trials.insert(out.to_owned(), (failed, all));
    }

    /// How many trials of all sweeps failed, and how many there are.
    pub(in crate::script) fn failed_trials(&self) -> (usize, usize) {
        let inner = self.0.borrow();
        inner.trials.values().fold((0, 0), |(failed, all), sweep| (failed + sweep.0, all + sweep.1))
    }

    /// Is the script rehearsed: are tiny pieces of its work done, and its files written where they vanish?
    pub fn rehearsing(&self) -> bool {
        self.0.borrow().rehearsal.is_some()
    }

    /// How much of their work the functions of this session do.
    pub fn pace(&self) -> Pace {
        if self.rehearsing() {
            Pace::Rehearsal
        } else {
            Pace::Full
        }
    }

    pub(in crate::script) fn begin_rehearsal(&self, rehearsal: Rehearsal) {
        self.0.borrow_mut().rehearsal = Some(rehearsal);
    }

    /// Calls `look` with what the rehearsal found and wrote, if this was one.
    pub(in crate::script) fn after_rehearsal<T>(&self, look: impl FnOnce(&Rehearsal, &Overlay) -> T) -> Option<T> {
        let inner = self.0.borrow();
        inner
            .rehearsal
            .as_ref()
            .zip(inner.redirect.overlay.as_ref())
            .map(|(rehearsal, overlay)| look(rehearsal, overlay))
    }

    /// Does something with the rehearsal, if this is one.
    pub(in crate::script) fn in_rehearsal<T>(&self, work: impl FnOnce(&mut Rehearsal) -> T) -> Option<T> {
        self.0.borrow_mut().rehearsal.as_mut().map(work)
    }

    pub(in crate::script) fn begin(&self, script: &str, source: &str, folder: Option<PathBuf>) {
        let mut inner = self.0.borrow_mut();
        inner.script = script.to_string();
        inner.folder = folder;
        inner.sources.insert(script.to_string(), source.to_string());
        inner.caught.extend(names::caught(source));
        inner.settings = None;
        inner.declared = None;
    }

    /// Begins an input of a conversation; gives the number of its first line.
    pub(in crate::script) fn add_chunk(&self, name: &str, text: &str, folder: &Path) -> usize {
        running::leave_out_lines();
        let mut inner = self.0.borrow_mut();
        inner.script = name.to_string();
        inner.folder = Some(folder.to_path_buf());
        inner.sources.insert(name.to_string(), text.to_string());
        inner.caught.extend(names::caught(text));
        inner.declared = None;
        let first = inner.chunks.last().map_or(1, Chunk::next);
        inner.chunks.push(Chunk { name: name.to_string(), text: text.to_string(), first });
        first
    }

    /// The file and line that a line of `file` stands for: in a conversation, `file` is the
    /// input that runs, and the line that of the input it was written in.
    pub(in crate::script) fn locate(&self, file: &str, line: usize) -> (String, usize) {
        let inner = self.0.borrow();
        let chunk = inner.chunks.iter().rev().find(|chunk| chunk.first <= line);
        match chunk.filter(|_| inner.chunks.iter().any(|chunk| chunk.name == file)) {
            Some(chunk) => (chunk.name.clone(), line - chunk.first + 1),
            None => (file.to_string(), line),
        }
    }

    /// Is this session used line by line?
    pub(in crate::script) fn in_conversation(&self) -> bool {
        !self.0.borrow().chunks.is_empty()
    }

    pub(in crate::script) fn redirect_mut(&self) -> RefMut<'_, Redirect> {
        RefMut::map(self.0.borrow_mut(), |inner| &mut inner.redirect)
    }

    pub(in crate::script) fn set_quiet(&self, quiet: bool) {
        self.0.borrow_mut().quiet = quiet;
    }

    pub(in crate::script) fn share_sweeps(&self) {
        self.0.borrow_mut().shared = true;
    }

    pub(in crate::script) fn train_together(&self, processes: Rc<Processes>) {
        self.0.borrow_mut().processes = Some(processes);
    }

    pub(in crate::script) fn print_elsewhere(&self) {
        self.0.borrow_mut().prints_elsewhere = true;
    }

    /// The folder that imports may come from.
    pub(in crate::script) fn folder(&self) -> Option<PathBuf> {
        self.0.borrow().folder.clone()
    }

    pub(in crate::script) fn remember_source(&self, name: &Path, text: &str) {
        let mut inner = self.0.borrow_mut();
        inner.sources.insert(name.display().to_string(), text.to_string());
        inner.caught.extend(names::caught(text));
    }

    /// Does `catch` bind a variable of this name anywhere?
    pub(in crate::script) fn catches(&self, name: &str) -> bool {
        let inner = self.0.borrow();
        !inner.caught.is_empty() && inner.caught.contains(name)
    }

    /// The whole text of a script or module that was run.
    pub(in crate::script) fn text(&self, file: &str) -> Option<String> {
        self.0.borrow().sources.get(file).cloned()
    }

    /// One line (from 1) of a script or module that was run.
    pub(in crate::script) fn line(&self, file: &str, line: usize) -> Option<String> {
        let inner = self.0.borrow();
        inner.sources.get(file)?.lines().nth(line.checked_sub(1)?).map(str::to_string)
    }

    /// What the script imported: files and texts.
    pub(in crate::script) fn modules(&self) -> Vec<(String, String)> {
        let inner = self.0.borrow();
        let others = inner.sources.iter().filter(|(name, _)| **name != inner.script);
        others.map(|(name, text)| (name.clone(), text.clone())).collect()
    }

    /// The paths of the script and of what it imported; a name that is no path for an input that was typed.
    pub(in crate::script) fn source_names(&self) -> Vec<String> {
        self.0.borrow().sources.keys().cloned().collect()
    }

    /// The texts of the script and of what it imported.
    pub(in crate::script) fn sources(&self) -> Vec<String> {
        self.0.borrow().sources.values().cloned().collect()
    }

    /// The last line that is not blank, with its number: where a script ends for its reader.
    pub(in crate::script) fn last_line(&self, file: &str) -> Option<(usize, String)> {
        let inner = self.0.borrow();
        let lines = inner.sources.get(file)?.lines().enumerate();
        let (at, text) = lines.filter(|(_, text)| !text.trim().is_empty()).last()?;
        Some((at + 1, text.to_string()))
    }

    pub(in crate::script) fn set_value(&self, key: &str, value: &str) {
        self.0.borrow_mut().set_values.push((key.to_string(), value.to_string()));
    }

    pub(in crate::script) fn set_values(&self) -> Vec<(String, String)> {
        self.0.borrow().set_values.clone()
    }

    pub(in crate::script) fn describe_only(&self, describing: bool) {
        self.0.borrow_mut().describing = describing;
    }

    pub(in crate::script) fn describing(&self) -> bool {
        self.0.borrow().describing
    }

    pub(in crate::script) fn declare(&self, defaults: &Map, line: usize) -> Result<()> {
        let mut inner = self.0.borrow_mut();
        if let Some((_, earlier)) = &inner.declared {
            return Err(Error::input(format!("args was already called in line {earlier}"))
                .with_hint("keep all settings in one call: args(#{ … })"));
        }
        inner.declared = Some((defaults.clone(), line));
        Ok(())
    }

    pub(in crate::script) fn declared(&self) -> Option<Map> {
        self.0.borrow().declared.as_ref().map(|(defaults, _)| defaults.clone())
    }

    pub(in crate::script) fn resolve(&self, settings: &Map) {
        let mut inner = self.0.borrow_mut();
        inner.settings = Some(settings.clone());
        inner.has_read_args = true;
    }

    /// Has a script read its settings?
    pub(in crate::script) fn has_read_args(&self) -> bool {
        self.0.borrow().has_read_args
    }
}
