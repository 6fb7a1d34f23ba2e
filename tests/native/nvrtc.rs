//! `kernels.cu` as NVIDIA's compiler sees it, which needs no GPU: `make nvrtc` fetches the compiler.

use super::common::needs;
use lorhai::native::gpu::kernel_source;
use lorhai::native::nvrtc::{Nvrtc, Target};

/// The compute capabilities that libtorch 2.11 with CUDA 13 is built for, and those of cards for players.
const CAPABILITIES: [(i32, i32); 7] = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];
/// Of a block of 256 threads, on every GPU: more would leave the scheduler less than four blocks.
const MOST_REGISTERS: u32 = 64;
const MOST_SHARED: u32 = 12 << 10;

/// The names of the kernels, for both dtypes.
fn names() -> Vec<String> {
    let source = include_str!("../../src/native/kernels.cu");
    let names = source.lines().filter_map(|line| line.strip_prefix("KERNEL NAMED(")?.split(')').next());
    names.flat_map(|name| [format!("{name}_f32"), format!("{name}_bf16")]).collect()
}

/// The number before `unit` in a line of the compiler's log, such as "Used 40 registers, 1024 bytes smem"; 0 if it has none.
fn number_of(line: &str, unit: &str) -> u32 {
    let number = |part: &str| part.trim().strip_suffix(unit)?.rsplit(' ').next()?.parse().ok();
    line.split(',').find_map(number).unwrap_or(0)
}

#[test]
#[ignore = "needs NVRTC_LIBRARY"]
fn kernels_compile_for_every_gpu() {
    let nvrtc = Nvrtc::open(&needs::nvrtc()).unwrap();
    println!("{nvrtc}");
    let names = names();
    assert!(names.len() >= 20, "{names:?}");
    for capability in CAPABILITIES {
        let target = nvrtc.target(capability);
        assert_eq!(target, Target::Cubin(capability.0, capability.1));
        let image = nvrtc.compile(&kernel_source(), &target, &["--ptxas-options=-v"]).unwrap();
        assert!(image.bytes.starts_with(b"\x7fELF"));
        assert!(!image.log.contains("warning") && !image.log.contains("error"), "{target}: {}", image.log);
        let (mut kernel, mut measured) = ("", Vec::new());
        for line in image.log.lines() {
            if let Some(rest) = line.split_once("Compiling entry function '") {
                kernel = rest.1.split('\'').next().unwrap();
            }
            if line.contains("spill stores") {
                assert!(line.contains(" 0 bytes spill stores"), "{target}: {kernel}: {line}");
            }
            if line.contains("Used ") {
                let (registers, shared) = (number_of(line, " registers"), number_of(line, " bytes smem"));
                println!("{target} {kernel}: {registers} registers, {shared} bytes of shared memory");
                assert!((1..=MOST_REGISTERS).contains(&registers), "{target}: {kernel}: {line}");
                // These have a number for each thread.
                let least = if ["norm_", "cross_"].iter().any(|begin| kernel.starts_with(begin)) { 1024 } else { 0 };
                assert!((least..=MOST_SHARED).contains(&shared), "{target}: {kernel}: {line}");
                measured.push(kernel.to_owned());
            }
        }
        for name in &names {
            assert!(measured.contains(name), "{target}: {name} is missing: {}", image.log);
        }
    }
}

#[test]
#[ignore = "needs NVRTC_LIBRARY"]
fn kernels_compile_for_a_gpu_that_nvrtc_does_not_know() {
    let nvrtc = Nvrtc::open(&needs::nvrtc()).unwrap();
    let target = nvrtc.target((99, 0));
    assert_eq!(target, Target::Ptx);
    let image = nvrtc.compile(&kernel_source(), &target, &[]).unwrap();
    let ptx = String::from_utf8(image.bytes).unwrap();
    assert!(ptx.contains(".target sm_75") && ptx.ends_with('\0'));
    for name in names() {
        assert!(ptx.contains(&format!(".entry {name}(")), "{name} is missing");
    }
}

#[test]
#[ignore = "needs NVRTC_LIBRARY"]
fn what_does_not_compile_is_reported_with_its_line() {
    let nvrtc = Nvrtc::open(&needs::nvrtc()).unwrap();
    let error = nvrtc.compile("extern \"C\" __global__ void f() {\n  absent();\n}", &Target::Ptx, &[]).unwrap_err();
    assert!(error.contains("kernels.cu(2)") && error.contains("absent"), "{error}");
}
