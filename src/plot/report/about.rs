//! The information in a sweep's report beside the results: script, settings, machine, duration.

use crate::data::python::strftime_now;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::lora;
use crate::model::device;
use crate::sweep::verify::Deviation;
use crate::sweep::SweepResult;
use serde::{Deserialize, Serialize};

/// Information that the results do not contain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub title: String,
    /// The command line.
    pub command: String,
    /// Path and text of the script.
    pub script: Option<(String, String)>,
    /// When it ended and how long it took.
    pub when: String,
    pub settings: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
}

impl About {
    /// Describes a sweep that has just ended and took `seconds`. The caller adds script and settings.
    pub fn sweep(result: &SweepResult, base: &lora::Model, seconds: f64, deviations: &[Deviation]) -> Result<Self> {
        let decoder = base.decoder();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let environment = [
            ("lorhai", env!("CARGO_PKG_VERSION").to_owned()),
            ("libtorch", env!("LORHAI_LIBTORCH_VERSION").to_owned()),
            ("model", base.name.clone()),
            ("parameters", thousands(decoder.config.parameter_count())),
            ("dtype", decoder.weights_dtype()),
            ("device", device::device_name(decoder.device)),
            ("threads", format!("{} of {cores} cores", tch::get_num_threads())),
        ];
        let verified = deviations.iter().map(|deviation| ("verified", deviation.to_string()));
        let axes: Vec<&str> = result.axes().iter().map(|axis| axis.key.as_str()).collect();
        Ok(About {
            title: format!("Sweep over {}", axes.join(", ")),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            when: format!("{}, {}", strftime_now("%Y-%m-%d %H:%M %Z").map_err(Error::bug)?, took(seconds)),
            script: None,
            settings: Vec::new(),
            environment: environment
                .into_iter()
                .chain(verified)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        })
    }
}

/// "took 2 min 11 s"
fn took(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("took {seconds} s"),
        (0, minutes, seconds) => format!("took {minutes} min {seconds} s"),
        (hours, minutes, _) => format!("took {hours} h {minutes} min"),
    }
}
