//! `lorhai doctor`: versions, devices, the dtype choice and why, folders, and problems.
//!
//! A few lines of /proc are read directly: crates for system information cover far more and none
//! says where the loader took libtorch from.

use crate::hub::Hub;
use crate::model::device::{self, Cuda};
use crate::model::{packing, processor};
use crate::native::driver::{usable_gpus, Gpu, Unusable};
use crate::native::gpu::{self, Kernels};
use crate::native::loaded;
use crate::threads;
use std::fmt::Write;
use std::path::Path;
use tch::Kind as Dtype;

/// The report, with the problems that the user should act on.
#[derive(Debug)]
pub struct Report {
    pub text: String,
    pub problems: Vec<String>,
}

/// Examines the machine.
pub fn report() -> Report {
    let mut report = Report { text: String::new(), problems: Vec::new() };
    report.versions();
    report.cpu();
    report.gpus();
    report.folders();
    report.leftovers();
    report.conclude();
    report
}

impl Report {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{name:<18} {value}");
    }

    fn versions(&mut self) {
        self.line("lorhai", env!("CARGO_PKG_VERSION"));
        self.line("libtorch", env!("LORHAI_LIBTORCH_VERSION"));
        self.line("libtorch folder", libtorch_folder());
    }

    fn cpu(&mut self) {
        let features = processor::features();
        self.line("CPU", cpu_model());
        match threads::choose(None) {
            Ok(threads) => self.line("CPU threads", threads),
            Err(error) => self.problems.push(format!("threads: {error}")),
        }
        self.line(
            "CPU features",
            if features.is_empty() { "none that lorhai uses".to_owned() } else { features.join(" ") },
        );
        let dtype = device::cpu_dtype(false, processor::multiplies_bf16());
        let small = if dtype == Dtype::Float { "" } else { "; f32 for small models" };
        let reason = device::cpu_dtype_reason();
        self.line("CPU dtype", format!("{}: {reason}{small}", device::dtype_name(dtype)));
        match packing::reason() {
            Ok(reason) => self.line("packed weights", reason),
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn gpus(&mut self) {
        match device::cuda() {
            Cuda::Absent => self.line("GPU", "none (no NVIDIA driver)"),
            Cuda::Unusable(Unusable { reason, fix }) => {
                self.line("GPU", "not usable");
                self.problems.push(format!("{reason}\n  fix: {fix}"));
            }
            Cuda::Loaded => {
                for (index, gpu) in usable_gpus().iter().enumerate() {
                    let (Gpu { name, capability: (major, minor) }, kernels) = (gpu, gpu::prepare(index));
                    self.line(&format!("GPU cuda:{index}"), format!("{name}, compute capability {major}.{minor}"));
                    self.line("GPU kernels", kernels.about());
                    if let Kernels::Failed(_) = kernels {
                        self.problems.push(format!("cuda:{index} works, but slower than it could: its kernels were not compiled or loaded\n  fix: update the NVIDIA driver, and add the folder of libnvrtc.so.13 (nvidia/cu13/lib of a torch 2.11 with CUDA) to LD_LIBRARY_PATH"));
                    }
                }
            }
        }
    }

    fn folders(&mut self) {
        match Hub::from_env() {
            Ok(hub) => {
                self.folder("hub cache", &hub.cache);
                self.line("hub", if hub.offline { "switched off: local files only".to_owned() } else { hub.endpoint });
                self.line("hub token", if hub.token.is_some() { "found" } else { "none (public models only)" });
            }
            Err(error) => self.problems.push(format!("hub settings: {error}")),
        }
        match crate::files::cache_folder() {
            Some(folder) => self.folder("lorhai cache", &folder),
            None => self
                .problems
                .push("no folder for a cache: HOME is not set\n  fix: set LORHAI_CACHE to a folder".to_owned()),
        }
    }

    /// Temporaries of killed runs in the current folder and the cache, which the next writer there removes.
    fn leftovers(&mut self) {
        let mut found = Vec::new();
        for folder in std::env::current_dir().ok().into_iter().chain(crate::files::cache_folder()) {
            visit(&folder, MAX_DEPTH, &mut { MAX_FOLDERS }, &mut |folder| {
                found.extend(crate::files::leftovers(folder))
            });
        }
        found.sort();
        found.dedup();
        if found.is_empty() {
            return;
        }
        let bytes = found.iter().map(|(_, bytes)| bytes).sum();
        let paths: Vec<String> = found.iter().map(|(path, _)| format!("\n  {}", path.display())).collect();
        self.problems.push(format!(
            "killed runs left {} temporary files or folders, {} in all:{}\n  fix: save into the same folders again, or remove them",
            found.len(),
            crate::format::bytes(bytes),
            paths.concat()
        ));
    }

    fn folder(&mut self, name: &str, folder: &Path) {
        self.line(
            name,
            format!("{} ({})", folder.display(), if folder.is_dir() { "exists" } else { "created when needed" }),
        );
        if let Some(problem) = unwritable(folder) {
            self.problems.push(format!("{name}: {problem}"));
        }
    }

    fn conclude(&mut self) {
        let _ = writeln!(self.text);
        if self.problems.is_empty() {
            let _ = writeln!(self.text, "no problems found");
        }
        for problem in &self.problems {
            let _ = writeln!(self.text, "problem: {problem}");
        }
    }
}

/// How deep and how widely `doctor` looks for leftovers: it is to answer at once.
const MAX_DEPTH: u32 = 6;
const MAX_FOLDERS: u32 = 5_000;

/// Calls `look` with `folder` and the folders in it. Links are not followed.
fn visit(folder: &Path, depth: u32, folders_left: &mut u32, look: &mut dyn FnMut(&Path)) {
    if depth == 0 || *folders_left == 0 {
        return;
    }
    *folders_left -= 1;
    look(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if !crate::files::is_temporary(&entry.file_name()) {
            visit(&entry.path(), depth - 1, folders_left, look);
        }
    }
}

fn libtorch_folder() -> String {
    let folder = loaded::folder_of("libtorch_cpu.so");
    folder.map_or(env!("LORHAI_LIBTORCH_RUNPATH").into(), |folder| folder.display().to_string())
}

/// The name of the processor.
fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Why `folder` cannot be written to, judged by its nearest existing parent.
fn unwritable(folder: &Path) -> Option<String> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists())?;
    match tempfile::tempfile_in(existing) {
        Ok(_) => None,
        Err(error) => Some(format!("cannot write to `{}`: {error}", existing.display())),
    }
}
