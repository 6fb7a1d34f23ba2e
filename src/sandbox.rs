//! The sandbox of `lorhai run --sandbox`: which files a script from a stranger may reach, and whether the hub.
//!
//! Two layers. The outer one is Landlock, which the kernel applies to the whole process and no script can leave: it
//! judges the file that an open, rename or removal reaches, whatever links lead there and whenever they are
//! changed. The inner one is ours: [`ensure_may_read`], [`ensure_may_write`] and [`ensure_may_fetch`] refuse a path
//! or a name with a clear message before anything is touched, and [`open`] has the kernel resolve what is read
//! beneath an allowed folder. The inner layer is also narrower: the program itself needs libraries and tables of the
//! system, which no script may read.
//!
//! Landlock says nothing of `stat` and of names that exist. The inner layer refuses both.

mod environment;
mod landlocked;

use crate::error::{reason, Error, Kind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// What the user allows a script; a script cannot allow itself anything.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Files and folders, beside the folder of the script.
    pub read: Vec<PathBuf>,
    /// Folders; `runs` below the working folder where there are none.
    pub write: Vec<PathBuf>,
    pub hub: bool,
}

/// Where results go by default, in the working folder: the folder that the shipped scripts use.
pub const DEFAULT_OUTPUT: &str = "runs";

/// The sandbox that this process is in.
#[derive(Debug)]
struct Sandbox {
    /// Real paths: what may be read, what may be written too.
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    hub: bool,
}

static SANDBOX: OnceLock<Sandbox> = OnceLock::new();

/// Puts this process into a sandbox for good. `folder` is that of the script.
///
/// Starts the program again if its environment holds more than the sandbox keeps. Call it before the first thread:
/// Landlock applies to this thread and to those that it will start.
///
/// # Errors
/// Where the kernel cannot do it, where a folder cannot be used, and where one of them would give the script what the
/// sandbox is to keep from it. The script must not be run then.
pub fn enter(folder: &Path, grants: &Grants) -> Result<()> {
    landlocked::ensure_available()?;
    let sandbox = Sandbox::of(folder, grants)?;
    environment::ensure_clean()?;
    // Temporary files are made, and removed, where writing is allowed.
    if let Some(output) = sandbox.write.first() {
        std::env::set_var("TMPDIR", output);
    }
    landlocked::restrict(&sandbox)?;
    SANDBOX.set(sandbox).map_err(|_| Error::bug("the sandbox was entered twice"))
}

/// Is this process in a sandbox?
pub fn is_on() -> bool {
    SANDBOX.get().is_some()
}

/// Fails if the sandbox does not let the script read `path`.
pub fn ensure_may_read(path: &Path) -> Result<()> {
    match SANDBOX.get() {
        Some(sandbox) if !sandbox.may_read(path) => Err(refused("read", path, "--allow-read")),
        _ => Ok(()),
    }
}

/// Fails if the sandbox does not let the script write, make or remove `path`.
pub fn ensure_may_write(path: &Path) -> Result<()> {
    match SANDBOX.get() {
        Some(sandbox) if !sandbox.may_write(path) => Err(refused("write", path, "--allow-write")),
        _ => Ok(()),
    }
}

/// Fails if the sandbox keeps the script from the hub, of which it asks for `name`.
pub fn ensure_may_fetch(name: &str) -> Result<()> {
    match SANDBOX.get() {
        Some(sandbox) if !sandbox.hub => Err(Error::new(
            Kind::Hub,
            format!("cannot fetch `{}`: there is no such path, and the sandbox has no hub", name.escape_debug()),
        )
        .with_hint("fetch it before and allow its folder by --allow-read, or run with --allow-hub")),
        _ => Ok(()),
    }
}

/// Opens a file to read, without waiting for the writer of a pipe. In a sandbox the kernel resolves the path beneath an allowed folder, so that a link that is
/// changed meanwhile leads nowhere else.
///
/// # Errors
/// As `File::open`; `PermissionDenied` for what the sandbox does not let the script read.
pub fn open(path: &Path) -> io::Result<File> {
    match SANDBOX.get() {
        Some(sandbox) => sandbox.open(path),
        None => open_without_waiting(path),
    }
}

fn refused(verb: &str, path: &Path, option: &str) -> Error {
    let path = path.display().to_string();
    let message = format!("cannot {verb} `{}`: it is outside what the sandbox allows", path.escape_debug());
    Error::new(Kind::File, message).with_hint(format!("if the script may {verb} there, run it with {option} FOLDER"))
}

impl Sandbox {
    fn of(folder: &Path, grants: &Grants) -> Result<Sandbox> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = real("open the script's folder", folder)?;
        ensure_holds_no_home(&folder)?;
        let mut read = vec![folder];
        for path in &grants.read {
            read.push(real("open the folder that --allow-read names,", path)?);
        }
        let mut write = Vec::new();
        for path in &grants.write {
            fs::create_dir_all(path).map_err(|error| Error::file("make the folder", path, &error))?;
            write.push(real("open the folder that --allow-write names,", path)?);
        }
        if write.is_empty() {
            write.push(default_output()?);
        }
        read.extend(write.iter().cloned());
        read.iter().try_for_each(|path| ensure_holds_no_token(path))?;
        Ok(Sandbox { read, write, hub: grants.hub })
    }

    fn may_read(&self, path: &Path) -> bool {
        target(path).is_some_and(|target| is_beneath(&target, &self.read))
    }

    fn may_write(&self, path: &Path) -> bool {
        target(path).is_some_and(|target| is_beneath(&target, &self.write))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let target = target(path).ok_or_else(denied)?;
        let hub_cache = if self.hub { environment::hub_cache() } else { None };
        let mut roots = self.read.iter().chain(&hub_cache);
        let root = roots.find(|root| target.starts_with(root)).ok_or_else(denied)?;
        let inside = target.strip_prefix(root).map_err(|_| denied())?;
        if inside.as_os_str().is_empty() {
            return open_without_waiting(root);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // The target has no links in it: one that is there now was put there since.
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = File::open(root)?;
        Ok(rustix::fs::openat2(&folder, inside, flags, Mode::empty(), beneath)?.into())
    }
}

/// A pipe that took the place of a file meanwhile would wait for its writer.
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn is_beneath(target: &Path, roots: &[PathBuf]) -> bool {
    roots.iter().any(|root| target.starts_with(root))
}

/// The real path of what `path` leads to, or would once it is made; `None` where `..` follows what does not exist.
fn target(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    for existing in path.ancestors() {
        // A link that leads nowhere exists too: what is written through it would be made elsewhere.
        if fs::symlink_metadata(existing).is_err() {
            continue;
        }
        let rest = path.strip_prefix(existing).ok()?;
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        return Some(existing.canonicalize().ok()?.join(rest)).map(|path| path.components().collect());
    }
    None
}

fn real(verb: &str, path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| {
        Error::new(Kind::Input, format!("cannot {verb} `{}`: {}", path.display(), reason(&error)))
            .with_hint("give the path of a folder that exists")
    })
}

/// `runs` in the working folder. A link by that name, which may have come with the script, could lead anywhere.
fn default_output() -> Result<PathBuf> {
    let path = Path::new(DEFAULT_OUTPUT);
    fs::create_dir_all(path).map_err(|error| Error::file("make the folder", path, &error))?;
    let expected = real("open the folder", Path::new("."))?.join(path);
    let folder = real("open the folder", path)?;
    if folder == expected {
        return Ok(folder);
    }
    let message = format!(
        "`{DEFAULT_OUTPUT}` is a link to `{}`, and the sandbox would let the script write there",
        folder.display()
    );
    Err(Error::input(message).with_hint(format!("if that is meant, run with --allow-write {}", folder.display())))
}

/// A script in the home folder, or above it, could read all that the user has.
fn ensure_holds_no_home(folder: &Path) -> Result<()> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    match home.and_then(|home| home.canonicalize().ok()) {
        Some(home) if home.starts_with(folder) => {
            let message = format!(
                "the script's folder `{}` holds your home folder, and a script may read its folder",
                folder.display()
            );
            Err(Error::input(message).with_hint("put the script and its data into a folder of their own"))
        }
        _ => Ok(()),
    }
}

fn ensure_holds_no_token(folder: &Path) -> Result<()> {
    match environment::token_file().and_then(|file| file.canonicalize().ok()) {
        Some(file) if file.starts_with(folder) => {
            let message =
                format!("the sandbox would let the script read your hub token: it is in `{}`", folder.display());
            Err(Error::input(message).with_hint("allow a smaller folder"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with `in/file`, `out/file`, and links in `in`.
    fn fixture() -> (tempfile::TempDir, Sandbox) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        for folder in ["in/deep", "in/runs", "out"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("in/file"), "inside").unwrap();
        fs::write(root.join("out/file"), "outside").unwrap();
        symlink(root.join("in/file"), root.join("in/to_inside")).unwrap();
        symlink("../out/file", root.join("in/to_outside")).unwrap();
        symlink("../out", root.join("in/to_folder")).unwrap();
        symlink("../out/new", root.join("in/runs/to_nothing")).unwrap();
        let sandbox = Sandbox { read: vec![root.join("in")], write: vec![root.join("in/runs")], hub: false };
        (scratch, sandbox)
    }

    #[test]
    fn a_path_is_judged_by_what_it_leads_to() {
        let (scratch, sandbox) = fixture();
        let at = |path: &str| scratch.path().join(path);
        for path in ["in/file", "in/deep/../file", "in/to_inside", "in/none/yet", "out/../in/file", "in"] {
            assert!(sandbox.may_read(&at(path)), "{path}");
        }
        for path in ["out/file", "in/../out/file", "in/to_outside", "in/to_folder/file", "in/none/../../out/file", "."]
        {
            assert!(!sandbox.may_read(&at(path)), "{path}");
        }
        for path in ["/proc/self/environ", "/dev/stdin", "/proc/self/root/etc/hostname", "/"] {
            assert!(!sandbox.may_read(Path::new(path)), "{path}");
        }
        for path in ["in/runs/a", "in/runs/a/b", "in/runs"] {
            assert!(sandbox.may_write(&at(path)), "{path}");
        }
        for path in ["in/file", "in/runs/../file", "in/runs/to_nothing", "out/a", "in/runs/none/../../x"] {
            assert!(!sandbox.may_write(&at(path)), "{path}");
        }
    }

    #[test]
    fn a_file_is_opened_beneath_an_allowed_folder() {
        let (scratch, sandbox) = fixture();
        let read = |path: &str| sandbox.open(&scratch.path().join(path)).and_then(io::read_to_string);
        assert_eq!(read("in/file").unwrap(), "inside");
        assert_eq!(read("in/to_inside").unwrap(), "inside", "an absolute link that stays inside");
        for path in ["in/to_outside", "in/to_folder/file", "out/file"] {
            assert_eq!(read(path).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
    }

    #[test]
    fn a_link_that_is_swapped_meanwhile_never_leads_outside() {
        let (scratch, sandbox) = fixture();
        let (link, spare) = (scratch.path().join("in/swapped"), scratch.path().join("in/spare"));
        let targets = [scratch.path().join("in/file"), scratch.path().join("out/file")];
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for target in targets.iter().cycle() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    symlink(target, &spare).unwrap();
                    fs::rename(&spare, &link).unwrap();
                }
            });
            let mut inside = 0;
            for _ in 0..10_000 {
                if let Ok(text) = sandbox.open(&link).and_then(io::read_to_string) {
                    assert_eq!(text, "inside");
                    inside += 1;
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            println!("{inside} of 10000 opens read the file inside, none the one outside");
            assert!(inside > 0);
        });
    }
}
