//! The options of a decision: what settings are compared by, and what difference matters.

use crate::options;
use crate::sweep::grid::SEED;
use serde::{Deserialize, Serialize};

options! {
    /// Which setting is enough.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct DecideOptions {
        /// The metric that settings are compared by.
        pub metric: Option<String> = None,
            words "\"eval_loss\", or \"train_loss\" where nothing was evaluated";
        /// The difference that matters, in the unit of the metric: a setting that the best one beats by less is enough.
        pub margin: f64 = 0.0, is required, range above(0.0),
            hint "write the smallest difference that you would act on, as in `margin: 0.01`";
        /// The probability that all verdicts are right.
        pub confidence: f64 = 0.95, range between(0.5, 0.9999);
        /// The most seeds of a setting that are looked at. More of them make each look less certain.
        pub max_seeds: usize = 12, range at_least(3.0);
        /// The axis that repeats a setting.
        pub over: String = SEED.to_owned();
    }
}
