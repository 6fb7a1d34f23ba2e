//! GPUs that are there and cannot be used: the reason and what to do, in one line, before anything is fetched. "auto"
//! then takes the CPU.

use super::gpu::{libraries, Machine};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

const SCRIPT: &str =
    r#"let cfg = args(#{ device: "auto" }); print(load_model("scripts/tiny", #{ device: cfg.device }).device);"#;
/// A model that would have to be fetched.
const ABSENT: &str = r#"load_model("org/not-fetched", #{ device: "cuda" });"#;

/// The driver's library without those beside it.
fn only_the_driver() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so.1", "libnvrtc.so.13"] {
        symlink(libraries().join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[track_caller]
fn is_told(machine: Machine, reason: &str, fix: &str) {
    let auto = machine.run(SCRIPT, &[]);
    assert_eq!((auto.code, auto.output.as_str()), (Some(0), "cpu\n"), "{}", auto.errors);
    let notes: Vec<&str> = auto.errors.lines().collect();
    assert!(matches!(notes[..], [note] if note.contains(reason) && note.contains(fix)), "{}", auto.errors);
    // Without a network the hub would be blamed, if it were asked.
    let fixed = machine.run(ABSENT, &[]);
    assert_eq!(fixed.code, Some(1));
    assert!(fixed.errors.contains("cuda:0 is not available"), "{}", fixed.errors);
    assert!(fixed.errors.contains(reason) && fixed.errors.contains(fix), "{}", fixed.errors);
    let doctor = machine.command().arg("doctor").output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("not usable") && text.contains(reason) && text.contains(fix), "{text}");
    // On the CPU nothing is said.
    assert_eq!(machine.run(SCRIPT, &["device=cpu"]).errors, "");
}

#[test]
fn a_driver_that_is_too_old() {
    is_told(Machine::new().with("STANDIN_DRIVER", 12080), "it supports CUDA 12.8, not 13.0", "580 or newer");
}

#[test]
fn a_driver_without_a_gpu() {
    is_told(Machine::new().with("STANDIN_GPUS", 0), "the NVIDIA driver sees no GPU", "nvidia-smi");
}

#[test]
fn gpus_that_are_hidden() {
    let machine = Machine::new().with("STANDIN_GPUS", 0).with("CUDA_VISIBLE_DEVICES", "7");
    is_told(machine, "the NVIDIA driver sees no GPU", "CUDA_VISIBLE_DEVICES is \"7\"");
}

/// A library of its name without its functions.
#[test]
fn a_driver_that_is_not_complete() {
    let folder = tempfile::tempdir().unwrap();
    symlink(libraries().join("libnvrtc.so.13"), folder.path().join("libcuda.so.1")).unwrap();
    let machine = Machine::new().with_libraries(folder.path().to_owned());
    is_told(machine, "the library of the NVIDIA driver is not complete", "install the driver again");
}

#[test]
fn libtorch_without_its_cuda_part() {
    let (_folder, libraries) = only_the_driver();
    is_told(Machine::new().with_libraries(libraries), "libtorch's CUDA part does not load", "make setup");
}

/// Without the stand-in, and where there is no GPU, nothing is said of one.
#[test]
fn no_driver_is_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new().with_libraries(folder.path().to_owned());
    if lorhai::native::driver::driver() == &lorhai::native::driver::Driver::Absent {
        let auto = machine.run(SCRIPT, &[]);
        assert_eq!((auto.output.as_str(), auto.errors.as_str()), ("cpu\n", ""));
    }
}

#[test]
fn a_gpu_that_is_not_there() {
    let run = Machine::new().with("STANDIN_GPUS", 2).run(SCRIPT, &["device=cuda:2"]);
    assert_eq!(run.code, Some(1));
    assert!(run.errors.contains("cuda:2") && run.errors.contains("2 GPU(s)"), "{}", run.errors);
}
