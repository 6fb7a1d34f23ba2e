//! The stop flag that a signal sets and every long loop polls.
//!
//! The first signal sets the flag: work stops at the next micro-batch or row, saves what it can and leaves no
//! partial files. A second Ctrl-C or SIGTERM ends the program at once, unless a scheduler sends them
//! ([`expect_repetitions`]). Either way the exit code is 128 and the number of the signal.

use crate::error::{Error, Kind, Result};
use libc::{c_int, SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1};
use signal_hook::low_level::{exit, register};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::OnceLock;

/// The signal that requested a stop; 0 if none did.
static STOP: AtomicI32 = AtomicI32::new(0);
/// When it came, in milliseconds of the monotonic clock.
static SINCE: AtomicU64 = AtomicU64::new(0);

/// Is an input awaited, so that no work is under way?
static IDLE: AtomicBool = AtomicBool::new(false);
/// Is a second SIGTERM nothing new?
static REPEATED: AtomicBool = AtomicBool::new(false);
/// The settings of the terminal before a line editor changed them.
static TERMINAL: OnceLock<libc::termios> = OnceLock::new();

/// Signals that stop work. `SIGHUP` is a closed terminal, `SIGUSR1` what schedulers send ahead of a time limit.
const SIGNALS: [c_int; 4] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
/// A repetition within so many milliseconds belongs to the first signal: `timeout` sends its signal to the process and
/// to its group.
const ONE_SIGNAL: u64 = 100;

/// Installs the handlers of the signals that stop work. A SIGHUP that is ignored at the start, as below `nohup`,
/// stays ignored.
pub fn install() -> std::io::Result<()> {
    for signal in SIGNALS {
        if signal == SIGHUP && is_ignored(signal) {
            continue;
        }
        // SAFETY: the handler uses atomics, the clock and `_exit`, which may be called in a handler.
        unsafe { register(signal, move || arrived(signal))? };
    }
    Ok(())
}

/// Makes a write to a pipe that nobody reads an error, instead of the end of the program: work that is under way
/// is saved first. [`output_closed`] then stops it.
pub fn survive_closed_pipes() {
    // SAFETY: sets the action of one signal.
    unsafe { libc::signal(SIGPIPE, libc::SIG_IGN) };
}

/// Nobody reads stdout any more, as behind `| head`: stops as SIGPIPE would, but at the next micro-batch or row.
pub fn output_closed() {
    // A signal that came first, such as the Ctrl-C that ended the reader too, decides.
    let _ = STOP.compare_exchange(0, SIGPIPE, Ordering::SeqCst, Ordering::SeqCst);
}

/// Says whether the program waits for an input. Every signal but Ctrl-C, which a line editor reads as a key, ends it
/// at once then.
pub fn set_idle(idle: bool) {
    if idle && TERMINAL.get().is_none() {
        // SAFETY: writes the settings to `settings`, which may be all zeros.
        unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(libc::STDIN_FILENO, &mut settings) == 0 {
                let _ = TERMINAL.set(settings);
            }
        }
    }
    IDLE.store(idle, Ordering::SeqCst);
}

/// A SIGTERM behind another signal no longer ends the program: schedulers send one to each process of a job, the job's
/// script passes its own on, and a second one may follow while the program still saves. SIGKILL ends it in any case.
pub fn expect_repetitions() {
    REPEATED.store(true, Ordering::SeqCst);
}

fn arrived(signal: c_int) {
    if signal != SIGINT && IDLE.load(Ordering::SeqCst) {
        if let Some(settings) = TERMINAL.get() {
            // SAFETY: may be called in a handler.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, settings) };
        }
        exit(128 + signal);
    }
    let now = milliseconds();
    match STOP.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => SINCE.store(now, Ordering::SeqCst),
        // A closed terminal sends SIGHUP by the system and by the shell, a scheduler USR1 to several processes.
        Err(_) if signal == SIGHUP || signal == SIGUSR1 => {}
        Err(_) if signal == SIGTERM && REPEATED.load(Ordering::SeqCst) => {}
        Err(first) if now.saturating_sub(SINCE.load(Ordering::SeqCst)) >= ONE_SIGNAL => exit(128 + first),
        Err(_) => {}
    }
}

fn milliseconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to `now`, and may be called in a handler.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a null action changes nothing, and the present one is written to `present`, which may be all zeros.
    unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut present) == 0 && present.sa_sigaction == libc::SIG_IGN
    }
}

pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed) != 0
}

/// Is the program to end, rather than only what runs now? Ctrl-C at a prompt stops the input alone.
pub fn must_quit() -> bool {
    !matches!(STOP.load(Ordering::Relaxed), 0 | SIGINT)
}

/// Requests a stop, as Ctrl-C does: for programs that embed lorhai, and tests.
pub fn request() {
    let _ = STOP.compare_exchange(0, SIGINT, Ordering::SeqCst, Ordering::SeqCst);
}

/// Clears the flag. The REPL does so before each line.
pub fn clear() {
    STOP.store(0, Ordering::Relaxed);
}

/// The exit code after a stop: 128 and the signal's number, as shells have it; that of Ctrl-C if no signal came.
pub fn exit_code() -> i32 {
    128 + match STOP.load(Ordering::Relaxed) {
        0 => SIGINT,
        signal => signal,
    }
}

/// Is a stop silent? Nobody reads the output any more, and other programs end without a word then too.
pub fn is_silent() -> bool {
    STOP.load(Ordering::Relaxed) == SIGPIPE
}

/// Fails with [`Kind::Stopped`] once a stop was requested.
pub fn check() -> Result<()> {
    if requested() {
        Err(stopped())
    } else {
        Ok(())
    }
}

/// The error of work that was stopped, with the signal that did.
pub fn stopped() -> Error {
    let cause = match STOP.load(Ordering::Relaxed) {
        SIGTERM => "stopped by SIGTERM",
        SIGHUP => "stopped by SIGHUP (the terminal was closed)",
        SIGUSR1 => "stopped by SIGUSR1",
        SIGPIPE => "stopped: nobody reads the output any more",
        _ => return Error::stopped(),
    };
    Error::new(Kind::Stopped, cause)
}

/// Waits, but not beyond a stop.
pub fn sleep(time: std::time::Duration) -> Result<()> {
    const SLICE: std::time::Duration = std::time::Duration::from_millis(20);
    let begun = std::time::Instant::now();
    loop {
        check()?;
        match time.saturating_sub(begun.elapsed()) {
            std::time::Duration::ZERO => return Ok(()),
            left => std::thread::sleep(left.min(SLICE)),
        }
    }
}
