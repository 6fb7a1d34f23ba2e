//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

use std::fmt::{self, Write as _};
use std::io::Write as _;

/// Counts what scripts hold, for their memory budget.
#[global_allocator]
static ALLOCATOR: lorhai::heap::Counting = lorhai::heap::Counting;

/// A line of a message, in a buffer: in the handler of a signal nothing may be allocated.
struct Line {
    text: [u8; 512],
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.text.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// Rust aborts where the system refuses it memory. That is the user's to mend: says what ran, and how.
extern "C" fn on_abort(_: libc::c_int) {
    if !lorhai::heap::was_refused() {
        return;
    }
    let mut line = Line { text: [0; 512], length: 0 };
    // What does not fit is left out.
    let _ = match lorhai::script::running() {
        Some((name, Some(number))) => write!(line, "error: out of memory in `{name}`, called in line {number}"),
        Some((name, None)) => write!(line, "error: out of memory in `{name}`"),
        None => write!(line, "error: out of memory"),
    };
    let _ = line.write_str(
        ": this machine, or the limit on this process, has none left
  = hint: use a smaller batch or max_length, or fewer rows; `lorhai run --dry-run` estimates what a run needs
",
    );
    // SAFETY: both may be called in a handler. What cannot be written is lost.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.text.as_ptr().cast(), line.length);
        libc::_exit(1);
    }
}

fn main() {
    // If the reader of a pipe goes away (`lorhai … | head`), the program ends quietly, as others do. What runs scripts
    // stops in order instead (`interrupt`).
    // A file that grows too large fails in the write, instead of ending the program.
    // SAFETY: sets the actions of signals, before any thread is started.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGABRT, on_abort as extern "C" fn(libc::c_int) as libc::sighandler_t);
    }
    let code = lorhai::cli::main();
    let _ = std::io::stdout().flush();
    // Without exit handlers: only libtorch has any, which would free its tables for a tenth of a second.
    // SAFETY: nothing of ours runs at exit.
    unsafe { libc::_exit(code) }
}
