//! Documents run: every `rhai` and `sh` block of the documents below runs from top to bottom, in a folder that holds the
//! shipped model and nothing else. A `text` block right behind one is what it prints, stdout and stderr together.
//!
//! HTML comments before a block say what is special about it:
//!
//! | comment | effect |
//! |---|---|
//! | `<!-- not run: REASON -->` | the block does not run |
//! | `<!-- file: NAME -->` | the block is saved as this file, for the `sh` blocks that follow |
//! | `<!-- continues -->` | the block runs behind the previous one of its language, in one script |
//! | `<!-- without a GPU -->` | the block runs on machines without an NVIDIA driver |
//! | `<!-- fails -->` | the block ends with exit code 1 |
//! | `<!-- in tests: A -> B -->` | every A in the block is replaced by B before it runs |
//! | `<!-- variable: NAME=VALUE -->` | the block runs with this environment variable; several are separated by spaces |
//!
//! Blocks between a line `<!-- provoked by` and a line `-->` are not shown to readers: they provoke the messages that a
//! document quotes behind them. There a comment is a line of its own, without its brackets.
//!
//! In expected output a line `…` stands for any number of lines, and `…` within a line for any text.
//! `LORHAI_UPDATE=1 cargo quick-test --test documents` writes the output that differs into the documents,
//! except where a line is `…`: read what it wrote. `LORHAI_KEEP=folder` keeps the files of each document there.
//! `python` blocks run in the test that is ignored: it needs `PEER_PYTHON`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Separates the output of a block from that of the blocks that it continues.
const MARK: &str = "-- block --";

/// Opens a part of a document that readers do not see.
const HIDDEN: &str = "<!-- provoked by";

#[derive(Debug, Clone, Default)]
struct Block {
    language: String,
    /// The line of the opening fence, from 1.
    line: usize,
    source: String,
    notes: Vec<(String, String)>,
    /// Its text, and the lines between its fences, from 0.
    expected: Option<(String, std::ops::Range<usize>)>,
}

impl Block {
    fn note(&self, name: &str) -> Option<&str> {
        self.notes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The source with the replacements of the tests.
    fn source(&self) -> String {
        let replacements = self.notes.iter().filter(|(key, _)| key == "in tests");
        replacements.fold(self.source.clone(), |source, (_, value)| {
            let (from, to) = value.split_once(" -> ").expect("`in tests: A -> B`");
            assert!(source.contains(from), "line {}: nothing to replace: `{from}`", self.line);
            source.replace(from, to)
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn note(comment: &str) -> (String, String) {
    let (name, value) = comment.split_once(": ").unwrap_or((comment, ""));
    let known = ["not run", "file", "continues", "without a GPU", "fails", "in tests", "variable"];
    assert!(known.contains(&name), "unknown comment `{comment}`: expected one of {known:?}");
    (name.to_owned(), value.to_owned())
}

/// The fenced blocks of a document, with the comments before them and the output behind them.
fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks: Vec<Block> = Vec::new();
    let (mut notes, mut at, mut is_behind_block, mut is_hidden) = (Vec::new(), 0, false, false);
    while at < lines.len() {
        let line = lines[at];
        if let Some(language) = line.strip_prefix("```") {
            let end = at + 1 + lines[at + 1..].iter().position(|line| *line == "```").expect("a closing fence");
            let source: String = lines[at + 1..end].iter().map(|line| format!("{line}\n")).collect();
            if language == "text" && is_behind_block {
                blocks.last_mut().unwrap().expected = Some((source, at + 1..end));
            } else {
                let notes = std::mem::take(&mut notes);
                blocks.push(Block { language: language.into(), line: at + 1, source, notes, expected: None });
            }
            is_behind_block = ["rhai", "sh", "python"].contains(&language);
            at = end;
        } else if line == HIDDEN || (is_hidden && line == "-->") {
            is_hidden = line == HIDDEN;
        } else if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            notes.push(note(comment));
        } else if is_hidden && !line.is_empty() {
            notes.push(note(line));
        } else if !line.is_empty() {
            is_behind_block = false;
            notes.clear();
        }
        at += 1;
    }
    blocks
}

/// Whether the output is what was expected; `…` stands for anything.
fn matches(expected: &[&str], output: &[&str]) -> bool {
    match (expected.split_first(), output.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=output.len()).any(|skipped| matches(rest, &output[skipped..])),
        (Some((line, rest)), Some((other, others))) => line_matches(line, other) && matches(rest, others),
        _ => false,
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// One document, the folder that its blocks run in, and what they are run by.
struct Document {
    name: &'static str,
    text: String,
    folder: tempfile::TempDir,
}

impl Document {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        let scripts = folder.path().join("work/scripts");
        std::os::unix::fs::symlink(root().join("scripts"), scripts).unwrap();
        Document { name, text: fs::read_to_string(root().join(name)).unwrap(), folder }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("work")
    }

    /// Runs the blocks of these languages, and says what is wrong.
    fn run(&self, languages: &[&str]) -> Vec<String> {
        let mut previous: HashMap<String, String> = HashMap::new();
        let (mut wrong, mut updates, mut ran) = (Vec::new(), Vec::new(), 0);
        for block in blocks(&self.text) {
            if let Some(file) = block.note("file") {
                fs::write(self.work().join(file), block.source()).unwrap();
                continue;
            }
            let needs_no_gpu = block.note("without a GPU").is_some();
            let is_skipped = block.note("not run").is_some() || (needs_no_gpu && has_gpu());
            if is_skipped || !languages.contains(&block.language.as_str()) {
                continue;
            }
            let mut source = block.source();
            if block.note("continues").is_some() {
                let before = previous.get(&block.language).expect("a block to continue");
                let end = if block.language == "rhai" { ";" } else { "" };
                source = format!("{before}print(\"{MARK}\"){end}\n{source}");
            }
            previous.insert(block.language.clone(), source.clone());
            let place = format!("{}:{}", self.name, block.line);
            let (exit_code, output) = self.output(&block, &source);
            ran += 1;
            if exit_code != i32::from(block.note("fails").is_some()) {
                wrong.push(format!("{place}: exit code {exit_code}\n{}{output}", block.source));
            } else if let Some((expected, lines)) = block.expected {
                let output = output.split(&format!("{MARK}\n")).last().unwrap().to_owned();
                let [expected_lines, output_lines] = [&expected, &output].map(|text| text.lines().collect::<Vec<_>>());
                if matches(&expected_lines, &output_lines) {
                    continue;
                }
                if std::env::var_os("LORHAI_UPDATE").is_some() && !expected_lines.contains(&"…") {
                    updates.push((lines, output));
                } else {
                    wrong.push(format!("{place}: expected\n{expected}--- found\n{output}"));
                }
            }
        }
        assert!(ran > 0, "{}: no block ran", self.name);
        self.update(updates);
        self.keep();
        wrong
    }

    fn output(&self, block: &Block, source: &str) -> (i32, String) {
        let program = Path::new(env!("CARGO_BIN_EXE_lorhai"));
        let mut command = match block.language.as_str() {
            "rhai" => {
                fs::write(self.work().join("my.rhai"), source).unwrap();
                let mut command = Command::new(program);
                command.args(["run", "my.rhai"]);
                command
            }
            "sh" => {
                let mut command = Command::new("sh");
                let path = std::env::var("PATH").unwrap_or_default();
                let path = format!("{}:{path}", program.parent().unwrap().display());
                command.args(["-e", "-c", source]).env("PATH", path);
                command
            }
            _ => {
                let mut command = Command::new(std::env::var_os("PEER_PYTHON").expect("PEER_PYTHON"));
                command.args(["-W", "ignore", "-c", source]).env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
                command.env("TRANSFORMERS_VERBOSITY", "error").env("TQDM_DISABLE", "1").env("CUDA_VISIBLE_DEVICES", "");
                command
            }
        };
        let path = self.folder.path().join("output");
        let file = File::create(&path).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::null()).current_dir(self.work());
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.folder.path().join("hub"));
        command.env("LORHAI_CACHE", self.folder.path().join("cache")).env("HOME", self.folder.path());
        command.env_remove("HF_TOKEN");
        for variable in block.note("variable").unwrap_or_default().split_whitespace() {
            let (name, value) = variable.split_once('=').expect("NAME=VALUE");
            command.env(name, value);
        }
        let status = command.status().unwrap();
        let output = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let work = self.work().display().to_string();
        let home = self.folder.path().canonicalize().unwrap().display().to_string();
        let output = output.replace(&format!("{work}/"), "").replace(&work, ".").replace(&home, "~");
        let output: String = output.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        (status.code().unwrap_or(-1), output)
    }

    /// Puts the output of blocks in the place of what the document says.
    fn update(&self, updates: Vec<(std::ops::Range<usize>, String)>) {
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        let is_changed = !updates.is_empty();
        for (range, output) in updates.into_iter().rev() {
            lines.splice(range, output.lines().map(str::to_owned));
        }
        if is_changed {
            fs::write(root().join(self.name), lines.join("\n") + "\n").unwrap();
        }
    }

    fn keep(&self) {
        if let Some(folder) = std::env::var_os("LORHAI_KEEP") {
            fs::create_dir_all(&folder).unwrap();
            let to = Path::new(&folder).join(self.name.replace('/', "-"));
            let _ = fs::remove_dir_all(&to);
            Command::new("cp").arg("-r").arg(self.work()).arg(&to).status().unwrap();
        }
    }
}

fn has_gpu() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
}

fn check(name: &'static str, languages: &[&str]) {
    let wrong = Document::new(name).run(languages);
    assert!(wrong.is_empty(), "{} blocks are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

const SCRIPTS: &[&str] = &["rhai", "sh"];

#[test]
fn the_readme_runs() {
    check("README.md", SCRIPTS);
}

#[test]
fn the_tutorial_runs() {
    check("docs/tutorial.md", SCRIPTS);
}

#[test]
fn the_pairs_for_those_who_come_from_python_run() {
    check("docs/from-python.md", SCRIPTS);
}

#[test]
#[ignore = "needs PEER_PYTHON: a Python with torch, transformers, peft, trl and datasets"]
fn python_blocks_run() {
    for document in ["docs/from-python.md", "docs/tutorial.md"] {
        check(document, &["rhai", "sh", "python"]);
    }
}

#[test]
fn the_introduction_to_rhai_runs() {
    check("docs/rhai.md", SCRIPTS);
}

#[test]
fn the_page_on_preferences_shows_what_it_prints() {
    check("docs/preferences.md", SCRIPTS);
}

#[test]
fn the_page_on_experiments_runs() {
    check("docs/experiments.md", SCRIPTS);
}

/// The pictures of the gallery are those that its code draws. `LORHAI_UPDATE=1` writes them.
#[test]
fn the_gallery_draws_its_pictures() {
    let document = Document::new("docs/gallery.md");
    let wrong = document.run(SCRIPTS);
    assert!(wrong.is_empty(), "{} blocks are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
    let names: Vec<&str> = document.text.split("](charts/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let drawn = fs::read_to_string(document.work().join("charts").join(name)).unwrap();
        let kept = root().join("docs/charts").join(name);
        if std::env::var_os("LORHAI_UPDATE").is_some() {
            fs::write(&kept, &drawn).unwrap();
        }
        assert!(fs::read_to_string(&kept).is_ok_and(|text| text == drawn), "docs/charts/{name} is another picture");
    }
}

#[test]
fn the_loop_that_goes_on_runs() {
    check("docs/checkpoints.md", SCRIPTS);
}

#[test]
fn the_messages_in_troubleshooting_are_printed() {
    check("docs/troubleshooting.md", SCRIPTS);
}

/// A relative link leads to a file of the repository, and what stands behind `#` to a heading of it.
#[test]
fn links_lead_somewhere() {
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "CHANGELOG.md".to_owned()];
    let entries = fs::read_dir(root().join("docs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    documents.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    let mut broken = Vec::new();
    for document in &documents {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.contains(['\n', ' '])) {
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, name)| (file, Some(name)));
            let to = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let is_broken = !to.exists() || heading.is_some_and(|name| !has_heading(&to, name));
            if is_broken {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Whether a heading of the document has this anchor, as GitHub makes it.
fn has_heading(path: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let mut anchors = headings.map(|heading| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    });
    anchors.any(|known| known == anchor)
}

#[test]
fn ellipses_stand_for_anything() {
    let lines = |text: &'static str| text.lines().collect::<Vec<_>>();
    assert!(matches(&lines("a\n…\nd"), &lines("a\nb\nc\nd")));
    assert!(matches(&lines("a\n…\nd"), &lines("a\nd")));
    assert!(!matches(&lines("a\n…\nd"), &lines("a\nb")));
    assert!(line_matches("loss …, norm …", "loss 2.5, norm 0.1"));
    assert!(!line_matches("loss …", "losses 2.5"));
    assert!(!line_matches("a", "ab"));
}

#[test]
fn blocks_are_found_with_their_comments_and_output() {
    let shown =
        "Text.\n\n<!-- in tests: 200 -> 2 -->\n<!-- fails -->\n```rhai\nsteps(200);\n```\n\n```text\nerror\n```\n";
    let rest = "\n```text\nnot output\n```\n\n<!-- provoked by\nfails\n```rhai\nx\n```\n-->\n\n```text\ny\n```\n";
    let blocks = blocks(&format!("{shown}{rest}"));
    assert_eq!(blocks.len(), 3);
    assert!(blocks[2].note("fails").is_some() && blocks[2].expected.as_ref().is_some_and(|(text, _)| text == "y\n"));
    assert_eq!((blocks[0].source(), blocks[0].line), ("steps(2);\n".to_owned(), 5));
    assert_eq!(blocks[0].expected, Some(("error\n".to_owned(), 9..10)));
    assert!(blocks[0].note("fails").is_some() && blocks[1].notes.is_empty());
}
