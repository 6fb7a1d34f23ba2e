//! What this processor computes fast. `std` finds the features that matter: no crate is needed.

use std::sync::LazyLock;

/// The feature with which libtorch multiplies matrices in bf16, by the name that the kernel gives it. Processors with
/// AMX have it too. Others (`avx_ne_convert`) only convert bf16, and multiply in f32.
#[cfg(not(target_arch = "aarch64"))]
pub const BF16: &str = "avx512_bf16";
#[cfg(target_arch = "aarch64")]
pub const BF16: &str = "bf16";

/// Whether libtorch multiplies matrices in bf16 here. Where it does not, it converts them to f32 and back, which is
/// slow.
#[cfg(target_arch = "x86_64")]
pub fn multiplies_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
pub fn multiplies_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn multiplies_bf16() -> bool {
    false
}

/// The feature with which an x86-64 processor multiplies tiles of matrices in bf16.
pub const TILES: &str = "amx_bf16";

/// Whether libtorch multiplies matrices by tiles here. `std` cannot say yet, so the kernel is asked.
pub fn multiplies_tiles() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(|| features().contains(&TILES));
    *ANSWER
}

/// Features of this processor that matter for speed, as the kernel lists them.
pub fn features() -> Vec<&'static str> {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let listed = listed(&text);
    let wanted = ["avx2", "avx512f", BF16, TILES];
    wanted.into_iter().filter(|wanted| listed.contains(wanted)).collect()
}

/// The features in `/proc/cpuinfo`.
fn listed(cpuinfo: &str) -> Vec<&str> {
    // The second name is that of aarch64.
    let line = cpuinfo.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.and_then(|line| line.split_once(':')).map_or(Vec::new(), |(_, names)| names.split_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_on_both_architectures() {
        let intel = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\nbugs\t\t: a\n";
        assert_eq!(listed(intel), ["fpu", "avx2", "avx512_bf16", "amx_bf16"]);
        assert_eq!(listed("processor\t: 0\nFeatures\t: fp asimd bf16\n"), ["fp", "asimd", "bf16"]);
        assert!(listed("").is_empty());
    }

    /// The kernel makes its list from the same registers.
    #[test]
    fn the_kernel_lists_bf16_where_it_is_used() {
        let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return };
        assert_eq!(multiplies_bf16(), listed(&text).contains(&BF16));
    }
}
