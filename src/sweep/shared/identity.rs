//! Who a worker is, and whether a worker of this machine is still there.
//!
//! No crate is used for the id: it must be unique and short, and `std` seeds its hashers randomly.

use crate::sweep::place::host;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::process;
use std::sync::Arc;

/// The most characters of a host's name in an id.
const MOST_OF_HOST: usize = 24;

/// The id of a worker: `HOST-PID-RANDOM`, letters, digits and `-` alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// The id of a new worker in this process.
    pub fn new() -> Self {
        let host: String = host().chars().filter(char::is_ascii_alphanumeric).take(MOST_OF_HOST).collect();
        let host = if host.is_empty() { "host" } else { host.as_str() };
        let random = RandomState::new().build_hasher().finish() as u32;
        WorkerId(format!("{host}-{}-{random:08x}", process::id()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for WorkerId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A process as other processes of the same machine can find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: u32,
    /// When it started, in ticks since the machine did: numbers of processes are used again.
    pub started: Option<u64>,
    /// The start of the machine, and the namespace of process numbers: a number means something only within both.
    pub boot: Option<String>,
    pub namespace: Option<String>,
}

impl ProcessIdentity {
    pub fn of_this_process() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned());
        let namespace = fs::read_link("/proc/self/ns/pid").ok().map(|path| path.to_string_lossy().into_owned());
        ProcessIdentity {
            pid: process::id(),
            started: status(process::id()).map(|(_, started)| started),
            boot,
            namespace,
        }
    }

    /// Is it certain that this process has ended? A process of another machine or container may always live.
    pub fn has_ended(&self) -> bool {
        let here = Self::of_this_process();
        let is_here = here.boot.is_some() && here.namespace.is_some();
        if !is_here || (&self.boot, &self.namespace) != (&here.boot, &here.namespace) {
            return false;
        }
        let Ok(pid) = i32::try_from(self.pid) else { return false };
        // SAFETY: signal 0 only asks whether there is such a process.
        let is_missing =
            unsafe { libc::kill(pid, 0) } != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        if is_missing {
            return true;
        }
        match (status(self.pid), self.started) {
            // Ended, and not waited for yet.
            (Some(('Z' | 'X', _)), _) => true,
            (Some((_, now)), Some(then)) => now != then,
            _ => false,
        }
    }
}

/// The state of a process and its start, from `/proc`.
fn status(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let rest = text.rsplit_once(") ")?.1;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_safe_in_file_names() {
        let ids: std::collections::BTreeSet<WorkerId> = (0..1000).map(|_| WorkerId::new()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(id.as_str().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{id}");
        }
    }

    #[test]
    fn only_a_process_of_this_machine_can_be_known_to_have_ended() {
        let this = ProcessIdentity::of_this_process();
        assert!(!this.has_ended());
        let mut child = process::Command::new("sleep").arg("1000").spawn().unwrap();
        let started = status(child.id()).map(|(_, started)| started);
        let of_child = ProcessIdentity { pid: child.id(), started, ..this.clone() };
        assert!(started.is_some() && !of_child.has_ended());
        child.kill().unwrap();
        // Killed and not waited for, it is still listed.
        while status(child.id()).is_some_and(|(state, _)| state != 'Z') {
            std::thread::yield_now();
        }
        assert!(of_child.has_ended());
        child.wait().unwrap();
        assert!(of_child.has_ended());
        let elsewhere = ProcessIdentity { boot: Some("another start".into()), ..of_child.clone() };
        let contained = ProcessIdentity { namespace: Some("pid:[1]".into()), ..of_child };
        assert!(!elsewhere.has_ended() && !contained.has_ended());
        // The number is used again by a process that started later.
        assert!(ProcessIdentity { started: this.started.map(|ticks| ticks + 1), ..this }.has_ended());
    }
}
