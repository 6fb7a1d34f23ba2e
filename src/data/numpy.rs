//! numpy's `default_rng(seed)`, as far as the splits and shuffles of `datasets` use it: `permutation` and `choice` without
//! replacement, with the same numbers.
//!
//! Written by hand: crates have the PCG64 generator (ten lines here), but none has numpy's seeding (`SeedSequence`), its
//! buffered 32-bit draws, or the order of the draws.

use std::collections::HashSet;

/// PCG64 (XSL RR 128/64; O'Neill, 2014) as numpy seeds and reads it.
#[derive(Debug, Clone)]
pub struct Generator {
    state: u128,
    increment: u128,
    /// The unused upper half of a number whose lower half was drawn.
    upper: Option<u32>,
}

const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

impl Generator {
    /// `numpy.random.default_rng(seed)`.
    pub fn new(seed: u64) -> Self {
        let [state, more, sequence, other] = seed_words(seed);
        let join = |upper: u64, lower: u64| u128::from(upper) << 64 | u128::from(lower);
        let mut generator = Generator { state: 0, increment: join(sequence, other) << 1 | 1, upper: None };
        generator.step();
        generator.state = generator.state.wrapping_add(join(state, more));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(upper) = self.upper.take() {
            return upper;
        }
        let number = self.next_u64();
        self.upper = Some((number >> 32) as u32);
        number as u32
    }

    /// Uniform in `0..=last`: masks the bits, and draws again until the number is in the range.
    fn masked(&mut self, last: u64) -> u64 {
        let mask =
            last.checked_next_power_of_two()
                .map_or(u64::MAX, |power| if power == last { 2 * power - 1 } else { power - 1 });
        loop {
            let number = mask & if last <= u64::from(u32::MAX) { u64::from(self.next_u32()) } else { self.next_u64() };
            if number <= last {
                return number;
            }
        }
    }

    /// Uniform in `0..=last` by Lemire's method.
    fn multiplied(&mut self, last: u32) -> u32 {
        let Some(limit) = last.checked_add(1).filter(|limit| *limit > 1) else {
            return if last == 0 { 0 } else { self.next_u32() };
        };
        let mut product = u64::from(self.next_u32()) * u64::from(limit);
        if (product as u32) < limit {
            let threshold = limit.wrapping_neg() % limit;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(limit);
            }
        }
        (product >> 32) as u32
    }

    /// Shuffles in place, as `Generator.shuffle` and `Generator.permutation` do.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.masked(last as u64) as usize);
        }
    }

    /// `permutation(len)`.
    pub fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        self.shuffle(&mut order);
        order
    }

    /// `choice(len, size, replace=False)` for a `len` up to 10,000; beyond that numpy uses another algorithm.
    pub fn choice(&mut self, len: u32, size: u32) -> Vec<usize> {
        let mut seen = HashSet::new();
        let mut chosen: Vec<usize> = (len - size.min(len)..len)
            .map(|last| {
                let number = self.multiplied(last);
                let number = if seen.contains(&number) { last } else { number };
                seen.insert(number);
                number as usize
            })
            .collect();
        // Unlike `shuffle`, by Lemire's method.
        for last in (1..chosen.len()).rev() {
            chosen.swap(last, self.multiplied(last as u32) as usize);
        }
        chosen
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    const POOL: usize = 4;
    let hashed = |value: u32, hash: &mut u32, multiplier: u32| {
        let value = value ^ *hash;
        *hash = hash.wrapping_mul(multiplier);
        let value = value.wrapping_mul(*hash);
        value ^ value >> 16
    };
    let mixed = |left: u32, right: u32| {
        let value = left.wrapping_mul(0xCA01_F9DD).wrapping_sub(right.wrapping_mul(0x4973_F715));
        value ^ value >> 16
    };
    let mut hash = 0x43B0_D7E5;
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut pool = entropy.map(|word| hashed(word, &mut hash, 0x931E_8875));
    for source in 0..POOL {
        for target in (0..POOL).filter(|target| *target != source) {
            pool[target] = mixed(pool[target], hashed(pool[source], &mut hash, 0x931E_8875));
        }
    }
    let mut hash = 0x8B51_F9DD;
    let words: Vec<u64> =
        (0..2 * POOL).map(|index| u64::from(hashed(pool[index % POOL], &mut hash, 0x58F3_8DED))).collect();
    std::array::from_fn(|index| words[2 * index] | words[2 * index + 1] << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numpys() {
        // From numpy 2: default_rng(seed).permutation(10).
        assert_eq!(Generator::new(42).permutation(10), [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]);
        assert!(Generator::new(0).permutation(0).is_empty());
        // default_rng(5).choice(20, size=11, replace=False)
        assert_eq!(Generator::new(5).choice(20, 11), [4, 17, 0, 5, 1, 15, 6, 8, 10, 7, 13]);
    }
}
