//! Gives the program the run path of libtorch, so that it starts without LD_LIBRARY_PATH.
//!
//! `.libtorch/runpath` names the wheel's own `torch/lib`: its libraries find the NVIDIA
//! ones relative to that place, so the links in `.libtorch/lib` would not do.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = env::var("LIBTORCH") else {
        panic!("LIBTORCH is not set: run `make setup` once, then build from this folder");
    };
    let runpath = Path::new(&libtorch).join("runpath");
    println!("cargo:rerun-if-changed={}", runpath.display());
    match fs::read_to_string(&runpath) {
        Ok(folder) => {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.trim());
            println!("cargo:rustc-env=LORHAI_LIBTORCH_RUNPATH={}", folder.trim());
        }
        Err(_) => panic!("{} is missing: run `make setup` once (and unset LIBTORCH)", runpath.display()),
    }
    let version = fs::read_to_string(Path::new(&libtorch).join("build-version")).unwrap_or_default();
    println!("cargo:rustc-env=LORHAI_LIBTORCH_VERSION={}", version.trim());
    // libtorch_cpu.so names NVIDIA libraries that only the loader finds, relative to the real
    // file; GNU ld, unlike lld, would insist on finding them too.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
}
