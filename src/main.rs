//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

use std::io::Write;

const OUT_OF_MEMORY: &[u8] = b"error: out of memory: this machine, or the limit on this process, has none left
  = hint: use a smaller batch or max_length, or fewer rows; `lorhai run --dry-run` estimates what a run needs
";

/// An abort after a failed allocation is the user's to mend, with a line that says how.
extern "C" fn on_abort(_: libc::c_int) {
    if lorhai::heap::was_refused() {
        // SAFETY: both may be called in a handler. What cannot be written is lost.
        unsafe {
            libc::write(libc::STDERR_FILENO, OUT_OF_MEMORY.as_ptr().cast(), OUT_OF_MEMORY.len());
            libc::_exit(1);
        }
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
