//! Documents of a batch that begin alike: the tokens that they have in common go through the model once.
//!
//! A causal model computes the same for a prefix in every document that begins with it. Pairs of answers and samples of
//! one prompt repeat it in each of them.

/// The first tokens of a document, as far as they are those of an earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The earlier document.
    pub of: usize,
    /// The number of tokens; 0 if no earlier document begins alike.
    pub length: usize,
}

/// With fewer tokens saved than one in so many, laying documents out for attention takes longer than it saves.
const LEAST_SAVED: usize = 20;

/// For each document, given as tokens that compare equal where ids and positions do: the longest prefix that an earlier
/// one has too. All are empty where sharing them does not pay.
pub fn common_prefixes<T: PartialEq>(documents: &[Vec<T>]) -> Vec<Prefix> {
    let common = |one: &[T], other: &[T]| one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let longest = |(index, document): (usize, &Vec<T>)| {
        let earlier = documents.iter().take(index).enumerate();
        let prefixes = earlier.map(|(of, other)| Prefix { of, length: common(document, other) });
        // Of several the first, so that the layout does not depend on anything else.
        prefixes.rev().max_by_key(|prefix| prefix.length).filter(|prefix| prefix.length > 0).unwrap_or_default()
    };
    let prefixes: Vec<Prefix> = documents.iter().enumerate().map(longest).collect();
    let tokens: usize = documents.iter().map(Vec::len).sum();
    let saved: usize = prefixes.iter().map(|prefix| prefix.length).sum();
    if saved * LEAST_SAVED < tokens {
        return vec![Prefix::default(); documents.len()];
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(documents: &[&[i64]]) -> Vec<(usize, usize)> {
        let documents: Vec<Vec<i64>> = documents.iter().map(|document| document.to_vec()).collect();
        common_prefixes(&documents).iter().map(|prefix| (prefix.of, prefix.length)).collect()
    }

    #[test]
    fn the_longest_prefix_is_shared_with_the_first_that_has_it() {
        assert_eq!(prefixes(&[&[1, 2, 3], &[1, 2, 4], &[1, 2, 4, 5], &[1, 9]]), [(0, 0), (0, 2), (1, 3), (0, 1)]);
        assert_eq!(prefixes(&[&[7, 8], &[7, 8]]), [(0, 0), (0, 2)]);
        assert_eq!(prefixes(&[&[1], &[2], &[]]), [(0, 0); 3]);
    }

    #[test]
    fn few_tokens_are_not_worth_sharing() {
        let long: Vec<i64> = (0..20).collect();
        let other: Vec<i64> = (0..1).chain(100..119).collect();
        assert_eq!(prefixes(&[&long, &other]), [(0, 0), (0, 0)]);
        assert_eq!(prefixes(&[&long[..10], &other[..10]]), [(0, 0), (0, 1)]);
    }
}
