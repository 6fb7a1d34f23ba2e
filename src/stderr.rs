//! What goes to stderr while a script runs: notes and progress bars for people, or one JSON
//! object a line for programs.
//!
//! A process has one stderr, so the state here is global. Leaves to others: the progress of a
//! training (`train/progress.rs`) and of a sweep (`sweep/progress.rs`). docs/progress.md lists
//! every object.

use crate::foreign;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static MACHINE: AtomicBool = AtomicBool::new(false);
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::<Terminal>::default())));

/// The size of a terminal that does not report one.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// Columns left free after every bar: the terminal writes "^C" there. Without them it would begin
/// a new line, and the bars would be removed one line too low.
const FREE: usize = 3;
/// The least time between two changes of the text beside a bar.
pub const REDRAW: Duration = Duration::from_millis(100);

/// From here on only JSON goes to stderr.
pub fn use_json() {
    MACHINE.store(true, Ordering::Relaxed);
}

pub fn is_json() -> bool {
    MACHINE.load(Ordering::Relaxed)
}

/// How progress is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Quiet,
    Json,
    Bars,
    Lines,
}

pub fn mode(quiet: bool) -> Mode {
    if quiet {
        Mode::Quiet
    } else if is_json() {
        Mode::Json
    } else if io::stderr().is_terminal() {
        Mode::Bars
    } else {
        Mode::Lines
    }
}

/// Writes a line, above the bars if there are any.
pub fn note(text: &str) {
    match mode(false) {
        Mode::Json => object("note", [("text", text.into())]),
        Mode::Bars => BARS.suspend(|| line(text)),
        Mode::Lines | Mode::Quiet => line(text),
    }
}

/// Writes a line. Training goes on where stderr cannot be written: a full disk, a closed terminal.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", foreign::lines(text));
}

/// Writes one object on its own line: its kind, the time in seconds since 1970, then `fields`.
pub fn object<'a>(kind: &str, fields: impl IntoIterator<Item = (&'a str, Value)>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("time".into(), now.into());
    object.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let line = format!("{}\n", foreign::json(&Value::Object(object).to_string()));
    // Training goes on if nobody reads any more.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Adds a bar below the others. Before it stands a name of at most `longest` columns, after it the
/// message, cut off at the edge of the terminal.
pub fn bar(name: &str, longest: usize, length: u64) -> ProgressBar {
    let columns = columns();
    let (name_width, bar_width) = (longest.min(columns / 3), (columns / 4).clamp(6, 30));
    let before = if name_width == 0 { String::new() } else { format!("{{prefix:{name_width}!}} ") };
    let rest = columns.saturating_sub(name_width + 1 + bar_width + 1 + FREE).max(1);
    let style = ProgressStyle::with_template(&format!("{before}{{bar:{bar_width}}} {{msg:{rest}!}}"));
    let bar = ProgressBar::new(length).with_prefix(foreign::line(name).into_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    BARS.add(bar)
}

/// Takes a bar off the screen.
pub fn remove(bar: &ProgressBar) {
    bar.finish_and_clear();
    BARS.remove(bar);
}

/// The time left, if `done` of `all` took `seconds`.
pub fn time_left(seconds: f64, done: u64, all: u64) -> String {
    if done == 0 {
        return "? left".to_owned();
    }
    let left = seconds / done as f64 * all.saturating_sub(done) as f64;
    let seconds = left.round() as u64;
    match seconds {
        0..=99 => format!("{seconds} s left"),
        100..=5999 => format!("{} min left", (left / 60.0).round()),
        _ => format!("{:.1} h left", left / 3600.0),
    }
}

/// Writes each frame of the bars in one piece, without the spaces at its end.
#[derive(Debug, Default)]
struct Terminal(Mutex<String>);

impl Terminal {
    fn move_by(&self, steps: usize, direction: char) -> io::Result<()> {
        if steps == 0 {
            return Ok(());
        }
        self.write_str(&format!("\x1b[{steps}{direction}"))
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        size().1
    }
    fn height(&self) -> u16 {
        size().0
    }
    fn move_cursor_up(&self, by: usize) -> io::Result<()> {
        self.move_by(by, 'A')
    }
    fn move_cursor_down(&self, by: usize) -> io::Result<()> {
        self.move_by(by, 'B')
    }
    fn move_cursor_right(&self, by: usize) -> io::Result<()> {
        self.move_by(by, 'C')
    }
    fn move_cursor_left(&self, by: usize) -> io::Result<()> {
        self.move_by(by, 'D')
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\r\n")
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }
    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let short = frame.trim_end_matches(' ');
        // Clears what the spaces would have covered.
        let rest = if short.len() < frame.len() { "\x1b[K" } else { "" };
        io::stderr().lock().write_all(format!("{short}{rest}").as_bytes())
    }
}

fn columns() -> usize {
    size().1.into()
}

/// Rows and columns of the terminal.
fn size() -> (u16, u16) {
    Term::stderr().size_checked().unwrap_or((ROWS, COLUMNS))
}

#[cfg(test)]
mod tests {
    use super::time_left;

    #[test]
    fn the_time_left_has_a_fitting_unit() {
        let cases = [(10.0, 1, 2), (1.0, 1, 1), (60.0, 1, 11), (3600.0, 1, 4), (0.0, 0, 5)];
        let texts = cases.map(|(seconds, done, all)| time_left(seconds, done, all));
        assert_eq!(texts, ["10 s left", "0 s left", "10 min left", "3.0 h left", "? left"]);
    }
}
