//! What goes to the standard error while a script runs: notes and progress bars for a person,
//! or one JSON object a line for a machine.
//!
//! There is one standard error, so what is kept here belongs to the whole process. What is said
//! of training is `train/progress.rs`'s, of a sweep `sweep/progress.rs`'s; docs/progress.md
//! lists every object.

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

/// Where the terminal does not tell its size.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// Columns behind every bar: the terminal writes "^C" there, which would else begin a new line,
/// and the bars would be looked for one line too low when they are removed.
const FREE: usize = 3;
/// Between two changes of what stands beside a bar: more is not seen.
pub const REDRAW: Duration = Duration::from_millis(100);

/// From here on nothing but JSON goes to the standard error.
pub fn use_json() {
    MACHINE.store(true, Ordering::Relaxed);
}

pub fn is_json() -> bool {
    MACHINE.load(Ordering::Relaxed)
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Quiet,
    Json,
    Bars,
    Lines,
}

pub fn mode(quiet: bool) -> Mode {
    match () {
        _ if quiet => Mode::Quiet,
        _ if is_json() => Mode::Json,
        _ if std::io::stderr().is_terminal() => Mode::Bars,
        _ => Mode::Lines,
    }
}

/// A line beside the results, above the bars if there are any.
pub fn note(text: &str) {
    match mode(false) {
        Mode::Json => object("note", [("text", text.into())]),
        Mode::Bars => BARS.suspend(|| line(text)),
        Mode::Lines | Mode::Quiet => line(text),
    }
}

/// A full disk, or a terminal that is gone, is no reason to stop training.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One object on a line of its own: its kind, the time in seconds since 1970, then `fields`.
pub fn object<'a>(kind: &str, fields: impl IntoIterator<Item = (&'a str, Value)>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("time".into(), now.into());
    object.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let line = format!("{}\n", Value::Object(object));
    // A machine that listens no more is no reason to stop training.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A bar below those that are shown: a name of at most `longest` letters before it, and the
/// message behind it, cut off at the edge of the terminal.
pub fn bar(name: &str, longest: usize, length: u64) -> ProgressBar {
    let columns = columns();
    let (name_width, bar_width) = (longest.min(columns / 3), (columns / 4).clamp(6, 30));
    let before = if name_width == 0 { String::new() } else { format!("{{prefix:{name_width}!}} ") };
    let rest = columns.saturating_sub(name_width + 1 + bar_width + 1 + FREE).max(1);
    let style = ProgressStyle::with_template(&format!("{before}{{bar:{bar_width}}} {{msg:{rest}!}}"));
    let bar = ProgressBar::new(length).with_prefix(name.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    BARS.add(bar)
}

/// Takes a bar off the screen.
pub fn remove(bar: &ProgressBar) {
    bar.finish_and_clear();
    BARS.remove(bar);
}

/// The time that is left, of one that `done` of `all` took `seconds` for.
pub fn time_left(seconds: f64, done: u64, all: u64) -> String {
    if done == 0 {
        return "? left".to_owned();
    }
    let left = seconds / done as f64 * all.saturating_sub(done) as f64;
    let whole = left.round() as u64;
    match whole {
        0..=99 => format!("{whole} s left"),
        100..=5999 => format!("{} min left", (left / 60.0).round()),
        _ => format!("{:.1} h left", left / 3600.0),
    }
}

/// A terminal that gets each picture of the bars in one piece, without the spaces at its end.
#[derive(Debug, Default)]
struct Terminal(Mutex<String>);

impl Terminal {
    fn moved(&self, by: usize, direction: char) -> io::Result<()> {
        match by {
            0 => Ok(()),
            by => self.write_str(&format!("\x1b[{by}{direction}")),
        }
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
        self.moved(by, 'A')
    }
    fn move_cursor_down(&self, by: usize) -> io::Result<()> {
        self.moved(by, 'B')
    }
    fn move_cursor_right(&self, by: usize) -> io::Result<()> {
        self.moved(by, 'C')
    }
    fn move_cursor_left(&self, by: usize) -> io::Result<()> {
        self.moved(by, 'D')
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
        let picture = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let short = picture.trim_end_matches(' ');
        // What the spaces would have covered goes too.
        let rest = if short.len() < picture.len() { "\x1b[K" } else { "" };
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
    fn the_time_left_is_told_in_the_unit_that_fits() {
        let told = [(10.0, 1, 2), (1.0, 1, 1), (60.0, 1, 11), (3600.0, 1, 4), (0.0, 0, 5)];
        let told = told.map(|(seconds, done, all)| time_left(seconds, done, all));
        assert_eq!(told, ["10 s left", "0 s left", "10 min left", "3.0 h left", "? left"]);
    }
}
