//! Kernels give the same numbers as loops, in whatever order the threads of a block run between two barriers, and with
//! fewer blocks than rows or elements, so that each of them loops. A missing barrier would show.

use super::gpu::{Machine, TRAINING};

const SCRIPT: &str = r#"
for dtype in ["f32", "bf16"] {
    let place = #{ device: "cuda", dtype: dtype };
    train_as(dtype, place, #{}, #{}, #{ steps: 1, batch: 1 }, #{});
}
"#;

/// What else has kernels: adapters that are computed one after another, scales that differ between layers, and 4-bit
/// weights.
const MORE: &str = r#"
for dtype in ["f32", "bf16"] {
    let place = #{ device: "cuda", dtype: dtype };
    let options = #{ steps: 1, batch: 1 };
    train_as(dtype, place, #{}, #{ init_lora_weights: "pissa" }, options, #{});
    train_as(dtype, place, #{}, #{ alpha_pattern: #{ q_proj: 32 } }, options, #{});
    train_as(dtype, place, #{ load_in_4bit: true }, #{}, options, #{});
}
"#;

#[test]
fn neither_the_order_of_threads_nor_the_number_of_blocks_matters() {
    let script = format!("{TRAINING}{SCRIPT}");
    let expected = Machine::new().prints(&script, &[]);
    assert_eq!(expected.lines().count(), 2);
    for machine in [
        Machine::new().with("STANDIN_ORDER", "forward"),
        Machine::new().with("STANDIN_ORDER", "reverse"),
        Machine::new().with("STANDIN_ORDER", "shuffle"),
        Machine::new().with("STANDIN_BLOCKS", 3).with("STANDIN_ORDER", "shuffle"),
    ] {
        assert_eq!(machine.prints(&script, &[]), expected);
    }
}

/// The stand-in has every kernel that the program launches in these runs, and each is launched.
#[test]
fn every_kernel_runs() {
    let machine = Machine::new();
    machine.prints(&format!("{TRAINING}{SCRIPT}{MORE}"), &[]);
    let counts = machine.counts();
    let source = include_str!("../../src/native/kernels.cu");
    let kernels = source.lines().filter_map(|line| line.strip_prefix("KERNEL NAMED(")?.split(')').next());
    let mut names = 0;
    for kernel in kernels {
        names += 1;
        let runs = |dtype: &str| counts.get(&format!("operation:kernel {kernel}_{dtype}")).copied().unwrap_or(0);
        assert!(runs("f32") + runs("bf16") > 0, "{kernel}: {counts:?}");
    }
    assert!(names >= 10, "{names} kernels");
}
