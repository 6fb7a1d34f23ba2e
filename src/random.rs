//! Counter-based random numbers: every number is a pure function of a key and a counter.
//!
//! A key is built from the purpose of the number: (seed, "dropout", module, step). So the
//! initialisation, data order and dropout of a trial do not depend on the order of trials, on the trials
//! that run together with it, or on the device.
//!
//! The mixing function is SplitMix64's finaliser (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", 2014) applied to key + counter * golden ratio.
//! Crates for random numbers keep a state that every draw moves on; a draw here must not depend on others.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The purpose of a stream of random numbers. Has no state: copy it and extend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    pub fn new(seed: u64) -> Self {
        Key(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The key for the purpose `name` under this one.
    pub fn named(self, name: &str) -> Self {
        // FNV-1a over the bytes, then mixed in: stable across platforms and releases.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        self.numbered(hash)
    }

    /// The key for item `number` under this one.
    pub fn numbered(self, number: u64) -> Self {
        Key(mix(self.0.rotate_left(17) ^ mix(number.wrapping_add(GOLDEN))))
    }

    /// The key as a number, for C++ and CUDA code that computes [`Key::bits`] itself.
    pub fn value(self) -> u64 {
        self.0
    }

    /// 64 random bits for `counter`.
    #[inline(always)]
    pub fn bits(self, counter: u64) -> u64 {
        mix(self.0.wrapping_add(counter.wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline(always)]
    pub fn uniform(self, counter: u64) -> f64 {
        (self.bits(counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..limit`.
    #[inline(always)]
    pub fn below(self, counter: u64, limit: u64) -> u64 {
        // A 128-bit product maps 64 bits onto the range without the bias of a modulo.
        ((u128::from(self.bits(counter)) * u128::from(limit)) >> 64) as u64
    }

    /// Standard normal, by the Box-Muller transform of two uniforms.
    pub fn normal(self, counter: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * counter)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * counter + 1)).cos()
    }

    /// A random permutation of `0..len` (Fisher-Yates).
    pub fn permutation(self, len: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last as u64, last as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_pure_function_of_its_path() {
        let key = Key::new(7).named("dropout").numbered(3);
        assert_eq!(key.bits(5), Key::new(7).named("dropout").numbered(3).bits(5));
        assert_ne!(key.bits(5), Key::new(7).named("dropout").numbered(4).bits(5));
        assert_ne!(key.bits(5), Key::new(8).named("dropout").numbered(3).bits(5));
        assert_ne!(Key::new(0).named("a").named("b"), Key::new(0).named("b").named("a"));
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let key = Key::new(1).named("moments");
        let n = 200_000;
        let uniform: Vec<f64> = (0..n).map(|i| key.uniform(i)).collect();
        let mean = uniform.iter().sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.003, "uniform mean {mean}");
        let normal: Vec<f64> = (0..n).map(|i| key.normal(i)).collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "normal {mean} {variance}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Key::new(3).permutation(1000);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &x)| i as u32 == x));
        assert!(Key::new(3).permutation(0).is_empty());
    }
}
