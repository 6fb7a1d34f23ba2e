//! How points of a search space are drawn: evenly, at random, or where earlier results are good.

use super::parzen::{next_choice, next_position};
use super::space::{sobol, Distribution, Space};
use crate::choices;
use crate::random::Key;
use crate::sweep::grid::Point;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    Sobol,
    Random,
    Tpe,
}

choices!(Sampler, [("sobol", Sampler::Sobol), ("random", Sampler::Random), ("tpe", Sampler::Tpe)]);

/// A model needs some points to begin with: as many as in Optuna's sampler.
const FIRST_POINTS: usize = 10;
/// Points that are drawn before their results are looked at: they train side by side.
const POINTS_AT_ONCE: usize = 4;
/// So often a point is drawn evenly all the same, because a model of few points can stay with a choice that is not the best.
const EVERY_EVEN_ONE: u64 = 4;

impl Sampler {
    /// How many points to draw next, of those that are missing.
    pub fn next_count(self, drawn: usize, missing: usize) -> usize {
        match self {
            Sampler::Sobol | Sampler::Random => missing,
            Sampler::Tpe if drawn < FIRST_POINTS => missing.min(FIRST_POINTS - drawn),
            Sampler::Tpe => missing.min(POINTS_AT_ONCE),
        }
    }

    /// The point with this number. `known` holds earlier points with their scores, of which smaller ones are better.
    pub fn draw(self, space: &Space, number: u64, seed: u64, known: &[(Point, f64)]) -> Point {
        match self {
            Sampler::Random => {
                let key = Key::new(seed).named("search").numbered(number);
                space.point_at(|option| key.uniform(option as u64))
            }
            Sampler::Tpe if number >= FIRST_POINTS as u64 && !number.is_multiple_of(EVERY_EVEN_ONE) => {
                drawn_by_model(space, number, seed, known)
            }
            Sampler::Sobol | Sampler::Tpe => sobol(space, number, seed),
        }
    }
}

/// Draws each option by a model of its own.
fn drawn_by_model(space: &Space, number: u64, seed: u64, known: &[(Point, f64)]) -> Point {
    let mut ranked: Vec<&(Point, f64)> = known.iter().collect();
    ranked.sort_by(|one, other| one.1.total_cmp(&other.1));
    let key = Key::new(seed).named("tpe").numbered(number);
    let position = |(option, (name, distribution)): (usize, &(String, Distribution))| {
        let (key, mut draws) = (key.numbered(option as u64), 0);
        let mut uniform = || {
            draws += 1;
            key.uniform(draws)
        };
        let values = ranked.iter().filter_map(|(point, _)| point.get(name));
        match distribution {
            Distribution::Choice(choices) => {
                let chosen: Vec<usize> =
                    values.filter_map(|value| choices.iter().position(|one| one == value)).collect();
                (next_choice(&chosen, choices.len(), &mut uniform) as f64 + 0.5) / choices.len() as f64
            }
            numeric => {
                let positions: Vec<f64> = values.filter_map(|value| numeric.position_of(value)).collect();
                next_position(&positions, &mut uniform).clamp(0.0, 1.0 - f64::EPSILON)
            }
        }
    };
    let positions: Vec<f64> = space.0.iter().enumerate().map(position).collect();
    space.point_at(|option| positions[option])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn space() -> Space {
        Space(vec![
            ("lr".to_owned(), Distribution::LogUniform { low: 1e-5, high: 1e-1 }),
            ("rank".to_owned(), Distribution::Choice(vec![json!(1), json!(2), json!(4), json!(8)])),
        ])
    }

    /// The best point is lr = 1e-3 with rank 4.
    fn score(point: &Point) -> f64 {
        let lr = point.get("lr").unwrap().as_f64().unwrap().log10();
        (lr + 3.0).powi(2) + if point.get("rank").unwrap() == 4 { 0.0 } else { 0.5 }
    }

    fn best_of(sampler: Sampler, seed: u64) -> f64 {
        let mut known: Vec<(Point, f64)> = Vec::new();
        while known.len() < 40 {
            let count = sampler.next_count(known.len(), 40 - known.len());
            let drawn: Vec<Point> = (known.len()..known.len() + count)
                .map(|number| sampler.draw(&space(), number as u64, seed, &known))
                .collect();
            known.extend(drawn.into_iter().map(|point| (point.clone(), score(&point))));
        }
        known.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn a_model_comes_nearer_than_chance() {
        let median = |sampler: Sampler| {
            let mut scores: Vec<f64> = (0..101).map(|seed| best_of(sampler, seed)).collect();
            scores.sort_by(f64::total_cmp);
            scores[50]
        };
        let (random, tpe) = (median(Sampler::Random), median(Sampler::Tpe));
        assert!(tpe < 0.5 * random, "tpe {tpe}, random {random}");
    }

    #[test]
    fn draws_depend_on_seed_and_results_alone() {
        for sampler in [Sampler::Sobol, Sampler::Random, Sampler::Tpe] {
            assert_eq!(best_of(sampler, 3), best_of(sampler, 3));
            assert_ne!(best_of(sampler, 3), best_of(sampler, 4));
        }
    }
}
