//! Tests of a device: on the CPU, and on a GPU where there is one. `make gpu-check` runs only the latter.

/// Makes two tests of each function that takes a device: in `on_the_cpu`, and in `on_a_gpu`.
macro_rules! on_devices {
    ($($name:ident),+ $(,)?) => {
        mod on_the_cpu {
            $(
                #[test]
                fn $name() {
                    super::$name(tch::Device::Cpu);
                }
            )+
        }

        mod on_a_gpu {
            $(
                #[test]
                #[ignore = "needs an NVIDIA GPU: make gpu-test"]
                fn $name() {
                    super::$name(crate::common::needs::gpu());
                }
            )+
        }
    };
}
