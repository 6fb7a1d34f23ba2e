//! The environment of a process in a sandbox: variables of the terminal, of threads and devices, and where the hub's
//! cache is. Everything else is gone, the hub token among it.
//!
//! Removing a variable leaves its text in the process's memory, where `/proc/self/environ` shows it. So the program
//! starts again without it.

use crate::error::{Error, Result};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Names that stay. None of them holds a secret.
const KEPT: [&str; 32] = [
    "ALL_PROXY",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "FORCE_COLOR",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN_PATH",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LD_LIBRARY_PATH",
    "LINES",
    "NO_COLOR",
    "NO_PROXY",
    "NVIDIA_VISIBLE_DEVICES",
    "PWD",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TRANSFORMERS_OFFLINE",
    "TZ",
    "XDG_CACHE_HOME",
    "RUST_BACKTRACE",
];
/// Beginnings of names that stay: languages, threads, allocators, libtorch, ours.
const KEPT_PREFIXES: [&str; 10] =
    ["GOMP_", "KMP_", "LC_", "LORHAI_", "MALLOC_", "MKL_", "OMP_", "PYTORCH_", "RAYON_", "TORCH_"];

/// Starts the program again if its environment holds more than is kept.
pub fn ensure_clean() -> Result<()> {
    let kept: Vec<(OsString, OsString)> = env::vars_os().filter(|(name, _)| is_kept(name)).collect();
    if kept.len() == env::vars_os().count() {
        return Ok(());
    }
    let program =
        env::current_exe().map_err(|error| Error::input(format!("cannot start the program anew: {error}")))?;
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    command.arg0(arguments.next().unwrap_or_default()).args(arguments).env_clear().envs(kept);
    // Returns only where it fails.
    Err(Error::input(format!("cannot start the program without its environment: {}", command.exec())))
}

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The file that holds the hub token, as `hub/settings.rs` looks for it.
pub fn token_file() -> Option<PathBuf> {
    variable("HF_TOKEN_PATH").or_else(|| Some(hub_home()?.join("token")))
}

/// The folder of the hub's cache.
pub fn hub_cache() -> Option<PathBuf> {
    let folder = variable("HF_HUB_CACHE").or_else(|| Some(hub_home()?.join("hub")))?;
    folder.canonicalize().ok()
}

fn hub_home() -> Option<PathBuf> {
    variable("HF_HOME")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(variable("HOME")?.join(".cache/huggingface")))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_are_not_kept() {
        for name in
            ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "SSH_AUTH_SOCK", "PATH"]
        {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
        for name in ["TERM", "OMP_NUM_THREADS", "LC_ALL", "HOME"] {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
    }
}
