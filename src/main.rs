//! The program `lorhai`. Everything is in the library; see `lorhai::cli`.

fn main() {
    // A reader that goes away (`lorhai … | head`) ends the program quietly, as it does others.
    // SAFETY: sets the default action of one signal, before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    std::process::exit(lorhai::cli::main());
}
