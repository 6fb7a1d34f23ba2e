//! Forked processes that are killed, or denied a system call, at a chosen one.
//!
//! A fork starts in a millisecond where a new process loads libtorch first. Forking wants
//! a process with one thread: [`alone`] gives a test one.

use std::io;
use std::process::Command;

const ALONE: &str = "LORHAI_TEST_ALONE";

/// Runs `test`, named `name`, in a process that runs nothing else.
pub fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text.lines().filter(|line| line.starts_with("not traced") || line.contains("points")).for_each(|l| println!("{l}"));
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

pub struct Process(libc::pid_t);

impl Process {
    /// Forks; the child runs `body` and exits with what it gives, 101 if it panics.
    pub fn fork(body: impl FnOnce() -> i32) -> Self {
        // SAFETY: `alone` made this process single-threaded, so the child's memory is consistent.
        match unsafe { libc::fork() } {
            0 => {
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
                // SAFETY: ends the child without the parent's exit handlers.
                unsafe { libc::_exit(code) }
            }
            child => {
                assert!(child > 0, "fork: {}", io::Error::last_os_error());
                Process(child)
            }
        }
    }

    pub fn kill(&self) {
        // SAFETY: a child of ours that was not waited for: its number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }

    pub fn wait(self) -> End {
        end_of(self.status()).expect("the process ended")
    }

    fn status(&self) -> i32 {
        let mut status = 0;
        // SAFETY: waits for a child of ours and writes to a local.
        let found = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!(found, self.0, "waitpid: {}", io::Error::last_os_error());
        status
    }
}

fn end_of(status: i32) -> Option<End> {
    if libc::WIFEXITED(status) {
        return Some(End::Exit(libc::WEXITSTATUS(status)));
    }
    libc::WIFSIGNALED(status).then(|| End::Signal(libc::WTERMSIG(status)))
}

/// What happens to the chosen system call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The process is killed before the call.
    Kill,
    /// The call does nothing and fails with this error number.
    Deny(i32),
}

/// Whether a system call changes what is on disk, by its number.
#[cfg(target_arch = "x86_64")]
fn changes_disk(registers: &libc::user_regs_struct) -> bool {
    let creates = |flags: u64| flags as i32 & (libc::O_CREAT | libc::O_TRUNC) != 0;
    match registers.orig_rax as i64 {
        libc::SYS_open => creates(registers.rsi),
        libc::SYS_openat => creates(registers.rdx),
        libc::SYS_write => registers.rdi > 2,
        libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_ftruncate => true,
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_link | libc::SYS_linkat => true,
        libc::SYS_mkdir | libc::SYS_mkdirat | libc::SYS_fchmod => true,
        libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => true,
        _ => false,
    }
}

/// Runs `body` in a fork and lets `fault` strike the `n`-th call that changes the disk,
/// from 1. Gives the process's end and whether the fault struck; `None` where processes
/// cannot be traced.
#[cfg(target_arch = "x86_64")]
pub fn with_fault(n: usize, fault: Fault, body: impl FnOnce() -> i32) -> Option<(End, bool)> {
    let process = Process::fork(|| {
        // SAFETY: makes this process the parent's to trace, and waits for it.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(102);
            }
            libc::raise(libc::SIGSTOP);
        }
        body()
    });
    if end_of(process.status()) == Some(End::Exit(102)) {
        return None;
    }
    let child = process.0;
    // SAFETY: requests on a stopped child of ours; the pointer is to a local of the right type.
    let registers = || unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        assert_eq!(libc::ptrace(libc::PTRACE_GETREGS, child, 0, &mut registers), 0);
        registers
    };
    let set_registers = |registers: &libc::user_regs_struct| unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_SETREGS, child, 0, registers), 0);
    };
    unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child, 0, libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL) };
    let (mut seen, mut entering, mut denied, mut signal) = (0, true, false, 0);
    loop {
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child, 0, signal) };
        let status = process.status();
        if let Some(end) = end_of(status) {
            return Some((end, seen >= n));
        }
        signal = libc::WSTOPSIG(status);
        if signal != libc::SIGTRAP | 0x80 {
            continue;
        }
        signal = 0;
        let mut now = registers();
        if entering && changes_disk(&now) {
            seen += 1;
            match fault {
                Fault::Kill if seen == n => process.kill(),
                Fault::Deny(_) if seen == n => {
                    // No call has this number: the system does nothing.
                    (now.orig_rax, denied) = (u64::MAX, true);
                    set_registers(&now);
                }
                _ => {}
            }
        } else if let (false, true, Fault::Deny(error)) = (entering, denied, fault) {
            now.rax = -i64::from(error) as u64;
            set_registers(&now);
            denied = false;
        }
        entering = !entering;
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn with_fault(_: usize, _: Fault, _: impl FnOnce() -> i32) -> Option<(End, bool)> {
    None
}
