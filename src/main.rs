//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

use std::io::Write;

fn main() {
    // If the reader of a pipe goes away (`lorhai … | head`), the program ends quietly, as others do.
    // A file that grows too large fails in the write, instead of ending the program.
    // SAFETY: sets the actions of two signals, before any thread is started.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let code = lorhai::cli::main();
    let _ = std::io::stdout().flush();
    // Without exit handlers: only libtorch has any, which would free its tables for a tenth of a second.
    // SAFETY: nothing of ours runs at exit.
    unsafe { libc::_exit(code) }
}
