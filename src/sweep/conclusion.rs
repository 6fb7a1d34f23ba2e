//! What a sweep comes to, in sentences: the setting that is enough, where the sweep says which difference matters; the
//! setting with the best mean; and what is missing to compare settings. Table and report say the same.

use super::decide::{DecideOptions, Decision};
use super::folder::read_marker;
use super::results::SweepResult;
use super::SEED;
use crate::options::OptionSet;
use serde_json::Value;

/// The key of the decision's options in `sweep.json`.
pub const DECIDE: &str = "decide";

/// The decision that the sweep was asked for; `None` if it was asked for none, or there is nothing to compare yet.
pub fn decision_of(result: &SweepResult) -> Option<Decision> {
    result.decide(&saved_options(result)?).ok()
}

/// The options in `sweep.json`.
fn saved_options(result: &SweepResult) -> Option<DecideOptions> {
    let marker = read_marker(&result.out).ok()??;
    let saved = marker.get(DECIDE)?;
    let number = |name: &str| saved.get(name).and_then(Value::as_f64);
    let text = |name: &str| saved.get(name).and_then(Value::as_str).map(str::to_owned);
    let default = DecideOptions::default();
    let options = DecideOptions {
        metric: text("metric"),
        margin: number("margin")?,
        confidence: number("confidence").unwrap_or(default.confidence),
        max_seeds: number("max_seeds").map_or(default.max_seeds, |count| count as usize),
        over: text("over").unwrap_or(default.over),
    };
    options.ensure_valid("decide").is_ok().then_some(options)
}

impl SweepResult {
    /// The sentences, the most important first: "decision: …" and "best: …", where there are such.
    pub fn conclusions(&self, metric: &str, over: &str) -> Vec<String> {
        let decision = decision_of(self).filter(|decision| decision.metric == metric);
        let mut lines: Vec<String> = decision.iter().map(|decision| format!("decision: {decision}")).collect();
        if let Ok(best) = self.best_over(metric, over) {
            let is_alone = best.summary.n < 2 && best.ranked > 1 && over == SEED;
            let missing = if is_alone { ": `seed: 3` in the grid would tell" } else { "" };
            lines.push(format!("best: {best}{missing}"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::by_rank_and_seed as of;
    use super::*;
    use serde_json::json;

    fn conclusions(losses: Value, decide: Value) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let marker = json!({"format": "lorhai sweep 1", "grid": {}, "decide": decide});
        std::fs::write(folder.path().join("sweep.json"), marker.to_string()).unwrap();
        let mut result = of(losses);
        result.out = folder.path().to_owned();
        result.conclusions("eval_loss", "seed")
    }

    #[test]
    fn the_decision_comes_first_where_the_sweep_names_a_margin() {
        let losses = || json!({"8": [1.5, 2.5, 3.501], "16": [1.0, 2.0, 3.001]});
        let lines = conclusions(losses(), json!({"margin": 0.05}));
        assert!(lines[0].starts_with("decision: by eval_loss, rank 16 is enough"), "{lines:?}");
        assert!(lines[1].starts_with("best: rank=16: mean eval_loss 2.0003 ± "), "{lines:?}");
        assert_eq!(conclusions(losses(), Value::Null).len(), 1, "no margin is guessed");
        assert_eq!(conclusions(losses(), json!({"margin": -1.0})).len(), 1);
    }

    #[test]
    fn one_seed_says_what_is_missing() {
        let lines = conclusions(json!({"8": [1.5], "16": [1.0]}), Value::Null);
        let expected =
            "best: rank=16: eval_loss 1.0000; one seed says nothing of spread: `seed: 3` in the grid would tell";
        assert_eq!(lines, [expected]);
    }
}
