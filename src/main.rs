//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

fn main() {
    // A reader that goes away (`lorhai … | head`) ends the program quietly, as it does others.
    // Too large a file is an error of the write that says so, not the end of the program.
    // SAFETY: sets the actions of two signals, before any thread is started.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    std::process::exit(lorhai::cli::main());
}
