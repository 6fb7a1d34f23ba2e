//! Ascending 64-bit offsets at four bytes each: data sets of short rows have many.

/// Offsets that never decrease.
#[derive(Debug, Default)]
pub struct Offsets {
    /// The lower half of each.
    low: Vec<u32>,
    /// For each time that the upper half grew by one, how many offsets there were.
    carries: Vec<u32>,
    last: u64,
}

impl Offsets {
    pub fn push(&mut self, offset: u64) {
        for _ in self.last >> 32..offset >> 32 {
            self.carries.push(self.low.len() as u32);
        }
        self.low.push(offset as u32);
        self.last = offset;
    }

    pub fn len(&self) -> usize {
        self.low.len()
    }

    /// The range of bytes from the offset before this one to this one.
    pub fn range(&self, index: usize) -> Option<(u64, u64)> {
        let start = if index == 0 { 0 } else { self.get(index - 1)? };
        Some((start, self.get(index)?))
    }

    fn get(&self, index: usize) -> Option<u64> {
        let high = self.carries.partition_point(|&carry| carry as usize <= index) as u64;
        Some(high << 32 | u64::from(*self.low.get(index)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_beyond_four_gigabytes_come_back() {
        let values = [0, 5, u64::from(u32::MAX), 1 << 32, (1 << 32) + 7, 5 << 32, (5 << 32) + 1];
        let mut offsets = Offsets::default();
        values.iter().for_each(|&value| offsets.push(value));
        let back: Vec<u64> = (0..offsets.len()).map(|index| offsets.range(index).unwrap().1).collect();
        assert_eq!(back, values);
        assert_eq!((offsets.range(0), offsets.range(5)), (Some((0, 0)), Some(((1 << 32) + 7, 5 << 32))));
        assert_eq!(offsets.range(7), None);
    }
}
