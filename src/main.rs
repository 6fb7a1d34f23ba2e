//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

use std::io::Write;

fn main() {
    // A reader that goes away (`lorhai … | head`) ends the program quietly, as it does others.
    // Too large a file is an error of the write that says so, not the end of the program.
    // SAFETY: sets the actions of two signals, before any thread is started.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let code = lorhai::cli::main();
    let _ = std::io::stdout().flush();
    // SAFETY: ends the process without the exit handlers, of which only libtorch has any: it
    // would take its tables apart for a tenth of a second.
    unsafe { libc::_exit(code) }
}
