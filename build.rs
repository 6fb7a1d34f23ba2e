//! Finds libtorch, and compiles the C++ of `src/native/` against its headers.
//!
//! `.libtorch/runpath` names the wheel's own `torch/lib`: its libraries find the NVIDIA
//! ones relative to that place, so the links in `.libtorch/lib` would not do.

use std::{env, fs, path::Path};

const NATIVE: &str = "src/native";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = env::var("LIBTORCH") else {
        panic!("LIBTORCH is not set: run `make setup` once, then build from this folder");
    };
    println!("cargo:rustc-env=LORHAI_TARGET={}", env::var("TARGET").unwrap_or_default());
    give_run_path(Path::new(&libtorch));
    println!("cargo:rerun-if-changed={NATIVE}");
    // Lints link nothing.
    if env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.ends_with(".cargo/lint")) {
        return;
    }
    compile_loops();
    compile_shim(Path::new(&libtorch));
}

/// The program starts without LD_LIBRARY_PATH.
fn give_run_path(libtorch: &Path) {
    let runpath = libtorch.join("runpath");
    println!("cargo:rerun-if-changed={}", runpath.display());
    match fs::read_to_string(&runpath) {
        Ok(folder) => {
            // Where `make install` and `make dist` put libtorch: looked into first, so that a
            // copied program does not depend on the folder that it was built with.
            println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/lorhai/torch/lib");
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.trim());
            println!("cargo:rustc-env=LORHAI_LIBTORCH_RUNPATH={}", folder.trim());
        }
        Err(_) => panic!("{} is missing: run `make setup` once (and unset LIBTORCH)", runpath.display()),
    }
    let version = fs::read_to_string(libtorch.join("build-version")).unwrap_or_default();
    println!("cargo:rustc-env=LORHAI_LIBTORCH_VERSION={}", version.trim());
    // libtorch_cpu.so names NVIDIA libraries that only the loader finds, relative to the real
    // file; GNU ld, unlike lld, would insist on finding them too.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false).flag("-Wno-psabi");
    build
}

/// The loops of rows.inc, once for each kind of processor; rows.cpp chooses at run time.
fn compile_loops() {
    let intel = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let avx2: &[&str] = &["-mavx2", "-mfma"];
    let avx512: &[&str] =
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"];
    let kinds: &[(&str, &[&str])] =
        if intel { &[("plain", &[]), ("avx2", avx2), ("avx512", avx512)] } else { &[("plain", &[])] };
    for (kind, flags) in kinds {
        let mut build = cpp();
        build.file(format!("{NATIVE}/rows_{kind}.cpp"));
        for flag in ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(*flags) {
            build.flag(flag);
        }
        build.compile(&format!("lorhai_rows_{kind}"));
    }
}

fn compile_shim(libtorch: &Path) {
    let include = libtorch.join("include");
    let mut build = cpp();
    build.include(&include).include(include.join("torch/csrc/api/include")).flag("-fopenmp");
    for file in ["layers", "linear", "nf4", "training", "rows", "attention", "gpu", "kernels_host", "memory"] {
        build.file(format!("{NATIVE}/{file}.cpp"));
    }
    build.compile("lorhai_native");
    // The one that libtorch itself brings is found at run time.
    println!("cargo:rustc-link-lib=gomp");
}
