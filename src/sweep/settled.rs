//! The axis that a tuned sweep has settled: each of its settings has one value of it, so that the others name them.

use super::grid::Point;
use super::results::SweepResult;
use super::SEED;
use serde_json::Value;

impl SweepResult {
    /// The option that settings were tuned by, where the other axes tell the finished ones apart.
    pub fn settled_axis(&self) -> Option<&str> {
        let tuned = self.tuned.as_deref().filter(|key| self.axis_values(key).is_some())?;
        let mut known: Vec<(Point, Option<&Value>)> = Vec::new();
        for row in self.rows().iter().filter(|row| row.outcome().is_some()) {
            let (setting, value) = (row.point.without(tuned).without(SEED), row.point.get(tuned));
            match known.iter().find(|(other, _)| *other == setting) {
                Some((_, other)) if *other != value => return None,
                Some(_) => {}
                None => known.push((setting, value)),
            }
        }
        (known.len() > 1).then_some(tuned)
    }

    /// The axes whose values tell settings apart, without the seed.
    pub fn varying_axes(&self) -> Vec<&str> {
        let settled = self.settled_axis();
        let varies = |key: &&str| *key != SEED && settled != Some(key);
        let axes = self.axes().iter().filter(|axis| axis.values.len() > 1);
        axes.map(|axis| axis.key.as_str()).filter(varies).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::result;
    use serde_json::json;

    #[test]
    fn an_option_is_settled_where_the_others_name_the_settings() {
        let mut sweep = result(json!({"rank": [8, 16], "seed": 2}), |_| Some(1.0));
        assert_eq!((sweep.settled_axis(), sweep.varying_axes()), (None, vec!["rank"]));
        sweep.tuned = Some("rank".to_owned());
        assert_eq!((sweep.settled_axis(), sweep.varying_axes()), (None, vec!["rank"]), "nothing else names them");
        let mut whole = result(json!({"rank": [8, 16], "lr": [0.1, 0.2]}), |_| Some(1.0));
        whole.tuned = Some("lr".to_owned());
        assert_eq!((whole.settled_axis(), whole.varying_axes()), (None, vec!["rank", "lr"]), "each rank has two");
    }
}
