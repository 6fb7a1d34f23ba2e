//! The kernel's part of the sandbox: Landlock rules for the script's folders and for what the program itself needs.

use super::{environment, Sandbox};
use crate::error::{Error, Kind, Result};
use landlock::{
    Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, ABI,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The newest rules that are known here; an older kernel applies those that it knows.
const NEWEST: ABI = ABI::V6;

/// Fails where the kernel has no Landlock.
pub fn ensure_available() -> Result<()> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    match ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create) {
        Ok(_) => Ok(()),
        Err(_) => Err(unavailable()),
    }
}

fn unavailable() -> Error {
    Error::input("--sandbox: this kernel has no Landlock, which the sandbox is made of")
        .with_hint("use Linux 5.13 or newer with `landlock` in /sys/kernel/security/lsm, or run it in a container")
}

/// Applies the rules to this thread and all that it will start.
pub fn restrict(sandbox: &Sandbox) -> Result<()> {
    ensure_one_thread()?;
    let status = rules(sandbox).and_then(RulesetCreated::restrict_self).map_err(|error| {
        Error::new(Kind::File, format!("--sandbox: the kernel refuses its rules: {error}"))
            .with_hint("run it in a container instead")
    })?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(unavailable());
    }
    Ok(())
}

/// Threads that run already would stay outside.
fn ensure_one_thread() -> Result<()> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => Ok(()),
        Ok(threads) => Err(Error::bug(format!("the sandbox needs a process of one thread, found {threads}"))),
        Err(error) => Err(Error::file("list", Path::new("/proc/self/task"), &error)),
    }
}

fn rules(sandbox: &Sandbox) -> Result<RulesetCreated, RulesetError> {
    // Running programs, devices, sockets and pipes are in no rule below, so they are refused.
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?;
    ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    if !sandbox.hub {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut rules = ruleset.scope(Scope::from_all(NEWEST))?.create()?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = reading
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    for path in sandbox.read.iter().cloned().chain(read_by_the_program(sandbox.hub)) {
        rules = allow(rules, &path, reading)?;
    }
    for path in &sandbox.write {
        rules = allow(rules, path, writing)?;
    }
    for path in written_by_the_program() {
        rules =
            allow(rules, &path, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev)?;
    }
    if let Some(cache) = environment::hub_cache().filter(|_| sandbox.hub) {
        rules = allow(rules, &cache, writing | AccessFs::MakeSym)?;
    }
    Ok(rules)
}

/// What does not exist is allowed to nobody.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    if access.is_empty() {
        return Ok(rules);
    }
    // A rule is bound to an inode. Those of /proc live as long as they are open.
    if path.starts_with("/proc") {
        if let Ok(open) = PathFd::new(path) {
            std::mem::forget(open);
        }
    }
    rules.add_rule(PathBeneath::new(place, access))
}

/// By which GPUs are reached on WSL2.
const WSL_DEVICE: &str = "/dev/dxg";
/// One of them is there where a GPU can be.
const GPU_DEVICES: [&str; 2] = ["/dev/nvidiactl", WSL_DEVICE];

/// Tables of the system about memory and processors, the program, its libraries, and those that it loads for a GPU.
/// The inner layer lets no script name them.
fn read_by_the_program(hub: bool) -> Vec<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = [
        "/proc/self/status",
        "/proc/self/maps",
        "/proc/self/statm",
        "/proc/self/smaps_rollup",
        "/proc/self/cgroup",
        "/proc/self/limits",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/stat",
        "/sys/fs/cgroup",
        "/sys/devices/system",
        "/etc/localtime",
        "/usr/share/zoneinfo",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    paths.extend(std::env::current_exe());
    paths.extend(folders_of_libraries());
    if GPU_DEVICES.iter().any(|path| Path::new(path).exists()) {
        let system =
            ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local", "/opt", "/etc/ld.so.cache", "/etc/nvidia"];
        paths.extend(system.map(PathBuf::from));
        paths.extend(["/proc/driver/nvidia", "/sys/bus/pci", "/sys/devices", "/sys/module/nvidia"].map(PathBuf::from));
    }
    if hub {
        let names = [
            "/etc/resolv.conf",
            "/etc/hosts",
            "/etc/nsswitch.conf",
            "/etc/gai.conf",
            "/etc/services",
            "/etc/ssl",
            "/run/systemd/resolve",
        ];
        paths.extend(names.map(PathBuf::from));
        paths.extend(["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].iter().filter_map(std::env::var_os).map(PathBuf::from));
    }
    paths.into_iter().collect()
}

/// The folders of the libraries that are loaded, and those of NVIDIA's packages beside them.
fn folders_of_libraries() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files =
        maps.lines().filter_map(|line| line.split_once(" /").map(|(_, path)| PathBuf::from(format!("/{path}"))));
    let libraries = files.filter(|file| file.to_string_lossy().contains(".so"));
    libraries.filter_map(|file| file.parent().map(Path::to_path_buf)).collect()
}

/// The device that takes all, those of NVIDIA GPUs, and the file that starts the peak of memory anew.
fn written_by_the_program() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ["/dev/null", "/proc/self/clear_refs"].map(PathBuf::from).into();
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    paths.extend(devices.filter(|path| {
        let path = path.to_string_lossy();
        path.starts_with("/dev/nvidia") || path == WSL_DEVICE
    }));
    paths
}
