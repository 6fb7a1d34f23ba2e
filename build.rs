//! Finds libtorch, and compiles the C++ of `src/native/` against its headers.
//!
//! `.libtorch/runpath` names the wheel's own `torch/lib`, not `.libtorch/lib`: its libraries look for
//! the NVIDIA ones relative to that folder.

use std::{env, fs, path::Path};

const NATIVE: &str = "src/native";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = env::var("LIBTORCH") else {
        panic!("LIBTORCH is not set: run `make setup` once, then build from this folder");
    };
    println!("cargo:rustc-env=LORHAI_TARGET={}", env::var("TARGET").unwrap_or_default());
    set_run_path(Path::new(&libtorch));
    // Not its Rust: compiling the C++ takes minutes.
    for entry in fs::read_dir(NATIVE).into_iter().flatten().flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
    // Lints link nothing.
    if env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.ends_with(".cargo/lint")) {
        return;
    }
    compile_loops();
    compile_shim(Path::new(&libtorch));
}

/// So that the program starts without LD_LIBRARY_PATH.
fn set_run_path(libtorch: &Path) {
    let runpath = libtorch.join("runpath");
    println!("cargo:rerun-if-changed={}", runpath.display());
    match fs::read_to_string(&runpath) {
        Ok(folder) => {
            // Where `make install` and `make dist` put libtorch. It comes first, so that an installed
            // program does not depend on the folder that it was built in.
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

/// Compiles the loops of rows.inc for each kind of processor; rows.cpp chooses one at run time.
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

/// The sources by what they need: autograd's headers, those of processes, or neither. Each part is compiled as one file,
/// because reading libtorch's headers takes most of the time.
const SHIM: [(&str, &[&str]); 3] = [
    ("graph", &["attention", "batched", "layers", "linear", "packed", "training"]),
    ("plain", &["gpu", "kernels_host", "memory", "nf4", "rows", "threads"]),
    ("processes", &["process_group"]),
];

fn compile_shim(libtorch: &Path) {
    let include = libtorch.join("include");
    let mut build = cpp();
    build.include(&include).include(include.join("torch/csrc/api/include")).flag("-fopenmp");
    let (out, root) = (env::var("OUT_DIR").unwrap_or_default(), env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    build.include(format!("{root}/{NATIVE}/gloo_declarations"));
    for (part, files) in SHIM {
        let path = Path::new(&out).join(format!("{part}.cpp"));
        let includes = files.iter().map(|file| format!("#include \"{root}/{NATIVE}/{file}.cpp\"\n"));
        if let Err(error) = fs::write(&path, includes.collect::<String>()) {
            panic!("cannot write {}: {error}", path.display());
        }
        build.file(path);
    }
    build.compile("lorhai_native");
    // At run time the one that comes with libtorch is loaded.
    println!("cargo:rustc-link-lib=gomp");
}
