//! A session: one engine with lorhai's functions, that runs script files and texts.
//!
//! Defines the engine's limits and settings. Leaves to others: reports of errors (`language/report.rs`), the stack that it
//! should run on (`stack`), the functions (`api`).

use crate::error::Error;
use crate::overlay::Overlay;
use crate::script::api;
use crate::script::catalogue::docs::Catalog;
use crate::script::catalogue::help;
use crate::script::engine::args;
use crate::script::engine::budget;
use crate::script::engine::guard;
use crate::script::engine::modules::BesideTheScript;
use crate::script::engine::sizes;
use crate::script::engine::slices;
use crate::script::engine::state::State;
use crate::script::engine::summary::Rehearsal;
use crate::script::language::check;
use crate::script::language::render::Failure;
use crate::script::language::report;
use crate::script::values::{caught, convert};
use crate::train::processes::Processes;
use crate::{files, heap, interrupt, stderr, stdout};
use rhai::{Dynamic, Engine, OptimizationLevel, Position, Scope, AST};
use std::cell::{LazyCell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Deep enough for any honest recursion, and far from the end of the large stack.
const CALL_LEVELS: usize = 256;
const EXPRESSION_DEPTH: usize = 256;

/// Runs scripts; variables stay from one run to the next. Open it inside
/// [`on_large_stack`](super::on_large_stack).
pub struct Session {
    pub(in crate::script) engine: Engine,
    pub(in crate::script) scope: Scope<'static>,
    pub(in crate::script) state: State,
    pub(in crate::script) modules: BesideTheScript,
    /// Those of earlier lines, where a session is used line by line.
    pub(in crate::script) functions: AST,
    /// Has the user a variable that is called as the value of the last input is?
    pub(in crate::script) it_is_taken: bool,
    printed: Rc<RefCell<String>>,
    /// What the values of a script may take; by default a part of what is free.
    max_memory: Option<u64>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    pub fn new() -> Self {
        let state = State::default();
        let mut engine = Engine::new();
        let modules = BesideTheScript::new(state.clone());
        configure(&mut engine, &state, &modules);
        engine.on_print(stdout::printed_line);
        engine.on_debug(|text, source, position| stdout::printed_line(&debug_line(text, source, position)));
        api::register(&mut engine);
        Session {
            engine,
            scope: Scope::new(),
            state,
            modules,
            functions: AST::empty(),
            it_is_taken: false,
            printed: Rc::default(),
            max_memory: None,
        }
    }

    /// The engine, to register functions of your own. A panic in one ends the script with an
    /// error, but its `try` does not see it.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Where `print` and `debug` write; the standard output if this is not called.
    pub fn on_print(&mut self, print: impl Fn(&str) + 'static) {
        self.state.print_elsewhere();
        self.print_with(print);
    }

    fn print_with(&mut self, print: impl Fn(&str) + 'static) {
        let (print, state) = (Rc::new(print), self.state.clone());
        let (debug, debugged) = (print.clone(), state.clone());
        self.engine.on_print(move |text| print(&state.in_true_words(text)));
        self.engine.on_debug(move |text, _, _| debug(&debugged.in_true_words(text)));
    }

    /// Rehearses from now on: trainings take two tiny steps, files go where they vanish with the session.
    ///
    /// # Errors
    /// Where no temporary folder can be made.
    pub fn begin_rehearsal(&mut self) -> crate::Result<()> {
        self.state.redirect(Overlay::new()?);
        self.state.begin_rehearsal(Rehearsal::default());
        if !self.state.prints_elsewhere() {
            self.print_with(stdout::printed_line);
        }
        Ok(())
    }

    /// What the rehearsal found, and how many trials would fail; `None` where there was none.
    pub fn rehearsed(&self) -> Option<(String, usize)> {
        let script = self.state.script();
        self.state.after_rehearsal(|rehearsal, overlay| (rehearsal.summary(&script, overlay), rehearsal.failed()))
    }

    /// How many trials of the sweeps that scripts ran failed, and how many trials there were.
    pub fn failed_trials(&self) -> (usize, usize) {
        self.state.failed_trials()
    }

    /// Collects what scripts print, for [`printed`](Session::printed).
    pub fn capture_prints(&mut self) {
        let printed = self.printed.clone();
        self.on_print(move |text| {
            let mut printed = printed.borrow_mut();
            printed.push_str(text);
            printed.push('\n');
        });
    }

    /// What was printed since the last call.
    pub fn printed(&self) -> String {
        self.printed.take()
    }

    /// Gives a setting for `args`, as `--set key=value` does.
    pub fn set(&mut self, key: &str, value: &str) {
        self.state.set_value(key, value);
    }

    /// Keeps progress off the terminal; what the script prints still shows.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.state.set_quiet(quiet);
    }

    /// Shares the sweeps of scripts with other processes that run the same scripts with the same settings.
    pub fn share_sweeps(&mut self) {
        self.state.share_sweeps();
    }

    /// Trains the runs of scripts together with other processes that run the same scripts. The first writes files and
    /// reports progress; the files of the others vanish with their sessions.
    ///
    /// # Errors
    /// Where no temporary folder can be made.
    pub fn train_together(&mut self, processes: Rc<Processes>) -> crate::Result<()> {
        if !processes.is_first() {
            self.state.redirect(Overlay::new()?);
            self.state.set_quiet(true);
        }
        self.state.train_together(processes);
        Ok(())
    }

    /// Lets the values of scripts take `bytes` of memory, instead of a third of what is free. Rows and tokens of data
    /// sets do not count. A program that does not install [`Counting`](crate::heap::Counting) counts nothing.
    pub fn set_max_memory(&mut self, bytes: u64) {
        self.max_memory = Some(bytes);
    }

    /// Lets scripts write everything below the folder `into`, and read it from there.
    ///
    /// # Errors
    /// Where that folder cannot be made.
    pub fn redirect_outputs(&mut self, into: &Path) -> crate::Result<()> {
        self.state.redirect(Overlay::within(into)?);
        Ok(())
    }

    /// Runs a file and gives the value of its last expression.
    pub fn run_file(&mut self, path: &Path) -> Result<Dynamic, Failure> {
        let ast = self.compile_file(path)?;
        self.warn(&self.state.source());
        self.run(&ast)
    }

    /// Shows what is likely a slip in a text that was compiled, which may begin behind empty lines.
    pub(in crate::script) fn warn(&mut self, text: &str) {
        if self.state.quiet() {
            return;
        }
        // The optimiser takes the places of constants away.
        self.engine.set_optimization_level(OptimizationLevel::None);
        let ast = self.engine.compile_with_scope(&self.scope, text);
        self.engine.set_optimization_level(OptimizationLevel::Simple);
        let warnings =
            ast.map(|ast| check::warnings(&ast, &Catalog::of(&self.engine), text, &self.state)).unwrap_or_default();
        for warning in warnings {
            if stderr::is_json() {
                stderr::object("warning", [("warning", warning.to_json())]);
            } else {
                stderr::note(&format!("{warning}\n"));
            }
        }
    }

    /// Runs a text; `name` is what errors call it. It can import nothing.
    pub fn run_source(&mut self, name: &str, text: &str) -> Result<Dynamic, Failure> {
        let ast = self.compile(name, text, None)?;
        self.run(&ast)
    }

    /// The help text of a script: its opening comment and its settings. Runs the script up
    /// to its call of `args` and no further.
    pub fn help_of_file(&mut self, path: &Path) -> Result<String, Failure> {
        let ast = self.declare_settings(path)?;
        let source = self.state.source();
        let file = path.display().to_string();
        Ok(help::text(&file, &source, self.state.declared().as_ref(), &help::written(&ast, &source)))
    }

    /// Runs a script up to its call of `args`, whose defaults [`State::declared`] has then. Returns the script as written.
    pub(in crate::script) fn declare_settings(&mut self, path: &Path) -> Result<AST, Failure> {
        self.engine.set_optimization_level(OptimizationLevel::None);
        let ast = self.compile_file(path);
        self.engine.set_optimization_level(OptimizationLevel::Simple);
        let ast = ast?;
        if let Some(opening) = help::up_to_args(&ast) {
            self.state.describe_only(true);
            let outcome = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &opening);
            self.state.describe_only(false);
            match outcome {
                Err(error) if self.state.declared().is_none() => return Err(self.failure(&error)),
                _ => {}
            }
        }
        Ok(ast)
    }

    /// Everything that is wrong with a script, as far as it can be told without running it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn check_file(&mut self, path: &Path) -> Result<Vec<Failure>, Failure> {
        let text = script_text(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        self.state.begin(&path.display().to_string(), text, path.parent().map(Path::to_path_buf));
        self.engine.set_optimization_level(OptimizationLevel::None);
        let catalog = Catalog::of(&self.engine);
        let problems = check::problems(&mut self.engine, &catalog, &self.state, text);
        self.engine.set_optimization_level(OptimizationLevel::Simple);
        Ok(problems)
    }

    fn compile_file(&mut self, path: &Path) -> Result<AST, Failure> {
        let text = script_text(path)?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        self.compile(&path.display().to_string(), &text, Some(folder))
    }

    fn compile(&mut self, name: &str, text: &str, folder: Option<PathBuf>) -> Result<AST, Failure> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.state.begin(name, text, folder);
        match self.engine.compile_with_scope(&self.scope, text) {
            Ok(mut ast) => {
                ast.set_source(name);
                Ok(ast)
            }
            Err(error) => Err(self.failure(&error.into())),
        }
    }

    fn run(&mut self, ast: &AST) -> Result<Dynamic, Failure> {
        if let Some((key, _)) = self.state.set_values().first().filter(|_| help::up_to_args(ast).is_none()) {
            return Err(args::takes_none(key).into());
        }
        self.eval(ast)
    }

    pub(in crate::script) fn eval(&mut self, ast: &AST) -> Result<Dynamic, Failure> {
        budget::begin(self.max_memory);
        let Session { engine, scope, .. } = self;
        let outcome = guard::catch("script", || engine.eval_ast_with_scope::<Dynamic>(scope, ast));
        // The last operation has no check behind it.
        let outcome = outcome.and_then(|value| budget::check().map_or(Ok(value), |error| Err(error.into())));
        let outcome = outcome.map_err(|error| self.failure(&error));
        self.state.end_runs(outcome.as_ref().err().map(|failure| &failure.error));
        outcome
    }

    pub(in crate::script) fn failure(&self, error: &rhai::EvalAltResult) -> Failure {
        let catalog = LazyCell::new(|| Catalog::of(&self.engine));
        let mut failure = report::failure(error, &self.engine, &catalog, &self.scope, &self.state);
        let error = &mut failure.error;
        error.message = self.state.in_true_words(&error.message);
        error.hint = error.hint.take().map(|hint| self.state.in_true_words(&hint));
        failure
    }
}

/// The text of a script; what by its name is something else is not read as one.
fn script_text(path: &Path) -> Result<String, Failure> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let (what, hint) = match ending {
        _ if path.is_dir() => ("a folder", "name a file in it, as in lorhai run scripts/rank_sweep.rhai"),
        "py" | "ipynb" => ("Python", "the README says what peft's and transformers' calls are here"),
        "json" | "yaml" | "yml" | "toml" => ("settings", "a script takes settings from outside by --set name=value"),
        _ => return files::read_text(path).map_err(Failure::from),
    };
    let message = format!("expected a script (.rhai), found {what}: `{}`", path.display());
    Err(Error::input(message).with_hint(hint).into())
}

/// As the engine itself writes it.
fn debug_line(text: &str, source: Option<&str>, position: Position) -> String {
    match source {
        Some(source) => format!("{source} @ {position:?} | {text}"),
        None if position.is_none() => text.to_owned(),
        None => format!("{position:?} | {text}"),
    }
}

fn configure(engine: &mut Engine, state: &State, modules: &BesideTheScript) {
    engine.set_default_tag(Dynamic::from(state.clone()));
    engine.set_module_resolver(modules.clone());
    caught::shape_errors(engine, state);
    engine.set_strict_variables(true).set_fail_on_invalid_map_property(true);
    engine.set_max_call_levels(CALL_LEVELS).set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    // No limits of the engine on the sizes of values: with one set, every `push` measures the whole array.
    sizes::register(engine);
    slices::register(engine);
    engine.disable_symbol("eval");
    engine.on_progress(|_| if interrupt::requested() || heap::is_outside() { reason_to_end() } else { None });
}

/// Apart from the closure above, which runs after each operation: a loop of little else is a tenth slower with both.
#[cold]
fn reason_to_end() -> Option<Dynamic> {
    if interrupt::requested() {
        return Some(Dynamic::UNIT);
    }
    budget::check().map(|error| Dynamic::from_map(convert::to_map(error)))
}

/// What a script prints, or its error with the hint. For the tests of what a script alone can do.
#[cfg(test)]
pub(in crate::script) fn printed_by(script: &str) -> Result<String, String> {
    printed_within(4 << 30, script)
}

/// The same, where the values of the script may take `bytes`.
#[cfg(test)]
pub(in crate::script) fn printed_within(bytes: u64, script: &str) -> Result<String, String> {
    crate::script::on_large_stack(|| {
        let mut session = Session::new();
        session.set_max_memory(bytes);
        session.set_quiet(true);
        session.capture_prints();
        let outcome = session.run_source("test", script);
        outcome.map(|_| session.printed()).map_err(|failure| failure.to_string())
    })
    .map_err(|error| error.to_string())?
}
