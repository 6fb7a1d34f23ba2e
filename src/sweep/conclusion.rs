//! What a sweep comes to, in sentences: the setting that is enough, where the sweep says which difference matters; the
//! setting with the best mean; and what is missing to compare settings. Table and report say the same.

use super::decide::Decision;
use super::results::SweepResult;
use super::SEED;

/// The decision that the sweep was asked for; `None` if it was asked for none, or there is nothing to compare yet.
pub fn decision_of(result: &SweepResult) -> Option<Decision> {
    result.decide(result.decide.as_ref()?).ok()
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
    use crate::sweep::decide::DecideOptions;
    use serde_json::{json, Value};

    fn conclusions(losses: Value, margin: Option<f64>) -> Vec<String> {
        let mut result = of(losses);
        result.decide = margin.map(|margin| DecideOptions { margin, ..DecideOptions::default() });
        result.conclusions("eval_loss", "seed")
    }

    #[test]
    fn the_decision_comes_first_where_the_sweep_names_a_margin() {
        let losses = || json!({"8": [1.5, 2.5, 3.501], "16": [1.0, 2.0, 3.001]});
        let lines = conclusions(losses(), Some(0.05));
        assert!(lines[0].starts_with("decision: by eval_loss, rank 16 is enough"), "{lines:?}");
        assert!(lines[1].starts_with("best: rank=16: mean eval_loss 2.0003 ± "), "{lines:?}");
        assert_eq!(conclusions(losses(), None).len(), 1, "no margin is guessed");
    }

    #[test]
    fn one_seed_says_what_is_missing() {
        let lines = conclusions(json!({"8": [1.5], "16": [1.0]}), None);
        let expected =
            "best: rank=16: eval_loss 1.0000; one seed says nothing of spread: `seed: 3` in the grid would tell";
        assert_eq!(lines, [expected]);
    }
}
