//! `lorhai repl`: inputs through a pipe, and a session at a terminal, which tmux stands in for.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::program::Finished;
use common::terminal::Terminal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    program.current_dir(env!("CARGO_MANIFEST_DIR"));
    program
}

/// What the program says to inputs through a pipe.
fn piped(arguments: &[&str], input: &str) -> Finished {
    let mut program = program();
    program.arg("repl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    // A program that ends early closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_pipe_shows_prints_and_values_alone() {
    let told = piped(&[], "print(1 + 1)");
    assert_eq!((told.code, told.output.as_str(), told.errors.as_str()), (Some(0), "2\n", ""));
    let told = piped(&[], "let x = 20;\nfn twice(x) {\n\n  x * 2\n}\ntwice(x)\ntwice(x);\n");
    assert_eq!((told.code, told.output.as_str(), told.errors.as_str()), (Some(0), "40\n", ""));
    let told = piped(&[], "");
    assert_eq!((told.code, told.output.as_str()), (Some(0), ""));
}

#[test]
fn an_error_costs_its_input_alone_and_shows_its_place() {
    let told = piped(&[], "let x = 1;\nfn f(y) {\n  y.nope\n}\nf(x)\nx += 1; bad(); x += 100;\nx\n");
    assert_eq!((told.code, told.output.as_str()), (Some(1), "2\n"));
    let place = "error: unknown property `nope` of int\n --> input 2:2:5\n  |\n2 |   y.nope\n  |     ^\n";
    assert!(told.errors.starts_with(place), "{}", told.errors);
    assert!(told.errors.contains("  = `f` called from input 3:1:1\n"), "{}", told.errors);
    assert!(told.errors.contains("error: unknown function `bad()`\n --> input 4:1:9\n"), "{}", told.errors);
}

#[test]
fn what_ends_too_early_is_told_at_the_end() {
    let told = piped(&[], "let x = 2;\nprint(x\n");
    assert_eq!((told.code, told.output.as_str()), (Some(1), ""));
    assert!(told.errors.contains("input 2:"), "{}", told.errors);
}

#[test]
fn functions_and_closures_of_earlier_inputs_keep_working() {
    let inputs = "fn one() { 1 }\nlet f = |x| one() + x;\nlet g = |x| f.call(x) * 10;\ng.call(4)\n\
                  fn one() { 2 }\ng.call(4)\nlet n = 0;\nlet count = || { n += 1; n };\ncount.call();\ncount.call()\nn\n";
    let told = piped(&[], inputs);
    assert_eq!((told.code, told.output.as_str(), told.errors.as_str()), (Some(0), "50\n60\n2\n2\n", ""));
}

#[test]
fn files_are_loaded_and_reloaded_with_their_imports() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("common.rhai", "fn factor() { 2 }");
    write("start.rhai", "// Start.\nimport \"common\" as c;\nlet cfg = args(#{ x: 1 });\nfn scaled(v) {\n    v.nope()\n}\ncfg.x * c::factor()\n");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let saved = path("saved.rhai");
    let inputs = format!("cfg.x\nscaled(1)\n:save {saved}\n:save {saved}\n:reload\n");
    let told = piped(&[&path("start.rhai"), "--set", "x=21"], &inputs);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.output, format!("42\n21\n2 inputs saved to {saved}\nloading {0}\n42\n", path("start.rhai")));
    assert!(told.errors.contains(&format!(" --> {}:5:7\n", path("start.rhai"))), "{}", told.errors);
    assert!(told.errors.contains("already exists: nothing was written"), "{}", told.errors);
    let script = std::fs::read_to_string(&saved).unwrap();
    assert!(script.contains("fn scaled(v)") && script.ends_with("\ncfg.x;\n"), "{script}");
    // A module is there for later inputs too.
    let inputs = "import \"common\" as c;\nc::factor()\nlet f = || c::factor() + 1;\nf.call()\n";
    let mut program = program();
    let mut child =
        program.current_dir(folder.path()).arg("repl").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(inputs.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), "2\n3\n");
}

#[test]
fn wrong_commands_say_what_to_write() {
    for (input, expected) in [
        (":laod x.rhai", "error: unknown command `:laod`\n  = hint: did you mean `:load`?\n"),
        (":load", "error: :load: expected FILE, found nothing\n  = hint: :load FILE: run a script; its variables and functions stay\n"),
        (":load nope.rhai", "error: cannot read `nope.rhai`: there is no such file\n"),
        (":vars all", "error: :vars: expected no argument, found `all`\n"),
        (":reload", "error: no file has been loaded yet\n  = hint: load one first: :load FILE\n"),
        (":save x.rhai", "error: there is nothing to save: no input has run without an error yet\n"),
        ("?trian", "error: there is no function, method or variable called `trian`\n  = hint: did you mean `train`?\n"),
        ("train", "error: unknown variable `train`\n --> input 1:1:1\n  |\n1 | train\n  | ^\n  = hint: `train` is a function: write train(…)\n"),
        (":type nope", "error: unknown variable `nope`\n --> input 1:1:9\n"),
    ] {
        let told = piped(&[], input);
        assert_eq!(told.code, Some(1), "{input}");
        assert!(told.errors.starts_with(expected), "{input}:\n{}", told.errors);
    }
}

#[test]
fn commands_answer() {
    let told = piped(
        &[],
        "let t = tensor([1.0, 3.0]);\n:type t.sum()\n:vars\n?lr_schedule\n:time t.sum().item()\n:quit\nnever(",
    );
    assert_eq!((told.code, told.errors.as_str()), (Some(0), ""));
    assert!(told.output.starts_with("Tensor\nname  type    value\n"), "{}", told.output);
    for part in [
        "\nt     Tensor  Tensor [2] f32 cpu\n",
        "lr_schedule(name: string, options: map) -> Schedule\n",
        "\n4.0\ntook 0.",
    ] {
        assert!(told.output.contains(part), "{part}:\n{}", told.output);
    }
}

#[test]
fn the_last_value_is_it_unless_that_name_is_taken() {
    let told = piped(&[], "1 + 1\nit * 10;\nit + 1\nlet x = 3;\nit\n:type \"a\"\nit\n");
    assert_eq!((told.code, told.output.as_str(), told.errors.as_str()), (Some(0), "2\n21\n21\nstring\n21\n", ""));
    let told = piped(&[], "7\nlet it = it + 1;\n\"other\"\nit\n");
    assert_eq!((told.code, told.output.as_str()), (Some(0), "7\n\"other\"\n8\n"), "{}", told.errors);
    let told = piped(&[], "it\n");
    assert!(told.errors.starts_with("error: unknown variable `it`\n"), "{}", told.errors);
}

#[test]
fn settings_that_nothing_asks_for_are_told() {
    let told = piped(&["--set", "steps=4"], "1 + 1\n");
    let note = "note: --set steps: not used; a script reads settings by args(#{ steps: default })\n";
    assert_eq!((told.code, told.errors.as_str()), (Some(0), note));
    let told = piped(&["--set", "steps=4"], "args(#{ steps: 1 }).steps\n");
    assert_eq!((told.output.as_str(), told.errors.as_str()), ("4\n", ""));
}

/// A prompt at a terminal, with a cache in a folder that stays when it starts again.
struct Prompt {
    terminal: Terminal,
    folder: tempfile::TempDir,
}

impl Prompt {
    fn open(name: &str) -> Prompt {
        let prompt = Prompt { terminal: Terminal::new(name), folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(prompt.folder.path().join("hub/models--someone--small-model")).unwrap();
        prompt.start();
        prompt
    }

    fn start(&self) {
        let cache = self.folder.path().display();
        let command = format!(
            "env -u TMUX TERM=screen LORHAI_CACHE={cache} HF_HUB_CACHE={cache}/hub {} repl; echo ended with $?; sleep 600",
            env!("CARGO_BIN_EXE_lorhai")
        );
        self.terminal.start((90, 60), &command);
        self.terminal.wait_for("1>");
    }
}

#[test]
#[ignore = "needs tmux"]
fn lines_completion_and_history_at_a_terminal() {
    let prompt = Prompt::open("lines");
    let terminal = &prompt.terminal;
    // A function over several lines.
    terminal.enter("fn twice(x) {");
    terminal.enter("x * 2");
    terminal.enter("}");
    terminal.wait_for("2>");
    terminal.enter("twice(21)");
    terminal.wait_for("\n42\n3>");
    // Tab completes functions, paths in texts, members by type, keys of options.
    terminal.write("let m = load_m");
    terminal.key("Tab");
    terminal.wait_for("load_model(");
    terminal.write("\"scripts/ti");
    terminal.key("Tab");
    terminal.wait_for("scripts/tiny/");
    terminal.enter("\");");
    terminal.wait_for("\n4>");
    terminal.write("m.add_l");
    terminal.key("Tab");
    terminal.wait_for("m.add_lora(");
    terminal.write("#{ target");
    terminal.key("Tab");
    terminal.wait_for("#{ target_modules: ");
    terminal.enter("\"all-linear\" });");
    terminal.wait_for("\n5>");
    terminal.enter("m");
    terminal.wait_for("trainable params: ");
    // Names of the hub's cache, too. Ctrl-C drops the line.
    terminal.write("load_model(\"some");
    terminal.key("Tab");
    terminal.wait_for("load_model(\"someone/small-model");
    // What is typed while a prompt gives way to the next is the terminal's, which drops it at a Ctrl-C.
    let is_empty = |screen: &str| screen.trim_end().ends_with("\n6>");
    terminal.key("C-c");
    terminal.wait("an empty line", is_empty);
    terminal.write("nonsense(");
    terminal.wait_for("6> nonsense(");
    terminal.key("C-c");
    terminal.wait("an empty line", is_empty);
    terminal.enter("1 + 2");
    terminal.wait_for("\n3\n7>");
    terminal.key("C-d");
    terminal.wait_for("ended with 0");
    // The next conversation knows the inputs of this one.
    terminal.tmux(&["kill-session"]);
    std::thread::sleep(Duration::from_millis(500));
    prompt.start();
    terminal.key("C-r");
    terminal.write("twice(2");
    terminal.wait_for("twice(21)");
    terminal.key("C-g");
    terminal.key("Up");
    terminal.wait_for("1> 1 + 2");
    terminal.key("Enter");
    terminal.wait_for("\n3\n2>");
    terminal.enter(":history load_m");
    terminal.wait_for("let m = load_model(\"scripts/tiny/\");");
}

#[test]
#[ignore = "needs tmux"]
fn a_stopped_training_leaves_everything_usable() {
    let prompt = Prompt::open("stop");
    let terminal = &prompt.terminal;
    terminal.enter("let m = load_model(\"scripts/tiny\", #{ dtype: \"f32\", device: \"cpu\" });");
    terminal.enter("m.add_lora(#{ r: 4 });");
    terminal.enter("let d = load_dataset(\"scripts/tiny/train.jsonl\").tokenize(m, #{});");
    terminal.wait_for("4>");
    terminal.enter("let before = evaluate(m, d, #{}).loss;");
    terminal.wait_for("5>");
    terminal.enter("train(m, d, #{ steps: 1000000, batch: 4, lr: 1e-3 })");
    terminal.wait_for("loss ");
    std::thread::sleep(Duration::from_secs(2));
    let stopped = Instant::now();
    terminal.key("C-c");
    let screen = terminal.wait_for("stopped: ");
    assert!(stopped.elapsed() < Duration::from_secs(5), "stopping took {:?}", stopped.elapsed());
    terminal.wait_for("6>");
    assert!(screen.contains("--> input 5:1:1"), "{screen}");
    // What was trained so far is there, and training goes on from it.
    terminal.enter("evaluate(m, d, #{}).loss < before");
    terminal.wait_for("\ntrue\n7>");
    terminal.enter("train(m, d, #{ steps: 3, batch: 4 }).steps");
    terminal.wait_for("\n3\n8>");
    // A loop of one's own is stopped the same way; the optimizer stays.
    terminal.enter("let opt = adamw(m, #{}); let n = 0;");
    terminal.wait_for("9>");
    terminal.enter("loop { for b in d.batches(#{ size: 2 }) { m.forward(b).loss.backward(); opt.step(); opt.zero_grad(); n += 1; } }");
    std::thread::sleep(Duration::from_secs(2));
    terminal.key("C-c");
    terminal.wait_for("10>");
    // The stop may fall between clearing the gradients and the next ones.
    terminal.enter("for b in d.batches(#{ size: 2 }) { m.forward(b).loss.backward(); opt.step(); break; } n > 0");
    terminal.wait_for("\ntrue\n11>");
    terminal.enter(":quit");
    terminal.wait_for("ended with 0");
}

/// A prompt at a pseudoterminal of our own, whose settings are seen from outside.
struct BarePrompt {
    child: Child,
    /// Our side; the terminal ends when it is closed.
    keyboard: Option<File>,
    /// The program's side.
    terminal: OwnedFd,
    modes_before: Modes,
    screen: String,
}

/// Flags of input, output, control, and of what the terminal itself does with lines.
type Modes = [libc::tcflag_t; 4];

impl BarePrompt {
    /// Starts the program as a shell starts it: it controls the terminal, whose end then sends it SIGHUP.
    fn open(folder: &Path) -> BarePrompt {
        let (mut keyboard, mut terminal) = (-1, -1);
        // SAFETY: writes two numbers; name, settings and size may be null.
        let opened = unsafe { libc::openpty(&mut keyboard, &mut terminal, null_mut(), null(), null()) };
        assert_eq!(opened, 0);
        // SAFETY: files that were just opened and belong to nobody else.
        let (keyboard, terminal) = unsafe { (OwnedFd::from_raw_fd(keyboard), OwnedFd::from_raw_fd(terminal)) };
        // SAFETY: the program must not keep our side open, nor shall we wait for it.
        unsafe {
            libc::fcntl(keyboard.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(keyboard.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK);
        }
        let side = || Stdio::from(terminal.try_clone().unwrap());
        let mut program = program();
        program.arg("repl").env("LORHAI_CACHE", folder).env("TERM", "xterm").env_remove("NO_COLOR");
        program.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: between fork and exec two calls that are allowed there.
        unsafe {
            program.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let modes_before = modes(&terminal);
        let child = program.spawn().unwrap();
        let keyboard = Some(File::from(keyboard));
        let mut prompt = BarePrompt { child, keyboard, terminal, modes_before, screen: String::new() };
        prompt.wait("1> ", |prompt| prompt.screen.contains("1> "));
        prompt
    }

    fn enter(&mut self, text: &str) {
        self.keyboard.as_mut().unwrap().write_all(format!("{text}\r").as_bytes()).unwrap();
    }

    /// Waits until `is_there`, and reads meanwhile what the program writes: it stands still while nobody does.
    fn wait(&mut self, what: &str, is_there: impl Fn(&mut BarePrompt) -> bool) {
        let start = Instant::now();
        while !is_there(self) {
            let mut bytes = [0; 4096];
            while let Some(Ok(count @ 1..)) = self.keyboard.as_mut().map(|keyboard| keyboard.read(&mut bytes)) {
                self.screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}, found:\n{}", self.screen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: a child of ours that was not waited for: its number is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    fn ends_with(&mut self, code: i32) {
        self.wait("its end", |prompt| prompt.child.try_wait().unwrap().is_some());
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{}", self.screen);
    }
}

impl Drop for BarePrompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes(terminal: &OwnedFd) -> Modes {
    // SAFETY: writes the settings, which may be all zeros.
    let settings = unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut settings), 0);
        settings
    };
    [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag]
}

fn history(cache: &Path) -> String {
    std::fs::read_to_string(cache.join("repl_history.jsonl")).unwrap()
}

#[test]
fn a_signal_at_the_prompt_restores_the_terminal() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGUSR1, 138)] {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt = BarePrompt::open(folder.path());
        prompt.enter("let answer = 40 + 2;");
        // The editor reads key by key.
        prompt.wait("2> ", |prompt| prompt.screen.contains("2> ") && modes(&prompt.terminal) != prompt.modes_before);
        prompt.send(signal);
        prompt.ends_with(code);
        assert_eq!(modes(&prompt.terminal), prompt.modes_before, "signal {signal}");
        assert_eq!(history(folder.path()), "\"let answer = 40 + 2;\"\n");
    }
}

#[test]
fn a_signal_during_a_training_at_the_prompt_loses_no_step() {
    // Without a signal the window is closed, or the connection lost.
    for (signal, code) in [(Some(libc::SIGTERM), 143), (Some(libc::SIGHUP), 129), (None, 129)] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let train = format!(
            "let m = load_model(\"scripts/tiny\", #{{ dtype: \"f32\" }}); m.add_lora(#{{ r: 2 }}); \
             let d = dataset([#{{ prompt: \"a\", completion: \" b\" }}]).tokenize(m, #{{}}); \
             train(m, d, #{{ steps: 1000000, batch: 1, out: \"{}\" }});",
            out.display()
        );
        let mut prompt = BarePrompt::open(folder.path());
        prompt.enter(&train);
        let log = || std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
        prompt.wait("a step", |_| !log().is_empty());
        match signal {
            Some(signal) => prompt.send(signal),
            None => drop(prompt.keyboard.take()),
        }
        prompt.ends_with(code);
        if signal.is_some() {
            assert_eq!(modes(&prompt.terminal), prompt.modes_before);
        }
        let names = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let saved: Vec<u64> =
            names.filter_map(|name| name.strip_prefix("checkpoint-").map(|step| step.parse().unwrap())).collect();
        let last: serde_json::Value = serde_json::from_str(log().lines().last().unwrap()).unwrap();
        assert!(saved.len() == 1 && saved[0] >= last["step"].as_u64().unwrap(), "saved {saved:?}, logged {last}");
        assert_eq!(history(folder.path()), format!("{}\n", serde_json::Value::from(train.as_str())));
    }
}
