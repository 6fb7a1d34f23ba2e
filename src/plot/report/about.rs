//! The information in a sweep's report beside the results: script, settings, machine, duration.

use crate::data::python::strftime_now;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::lora;
use crate::model::device;
use crate::sweep::SweepReport;
use crate::threads;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Describes a sweep that has just ended and took `seconds`.
    pub fn sweep(report: &SweepReport, base: Option<&lora::Model>, seconds: f64) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut environment = vec![
            ("lorhai", env!("CARGO_PKG_VERSION").to_owned()),
            ("libtorch", env!("LORHAI_LIBTORCH_VERSION").to_owned()),
        ];
        if let Some(base) = base {
            let decoder = base.decoder();
            environment.push(("model", base.name.clone()));
            environment.push(("parameters", thousands(decoder.config.parameter_count())));
            environment.push(("dtype", decoder.weights_dtype()));
            environment.push(("device", device::device_name(decoder.device)));
        }
        environment.push(("threads", format!("{} of {cores} cores", threads::count())));
        let verified = report.deviations.iter().map(|deviation| ("verified", deviation.to_string()));
        let axes: Vec<&str> = report.result.axes().iter().map(|axis| axis.key.as_str()).collect();
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

    /// With the models of the axis `base`, by their names there.
    #[must_use]
    pub fn with_bases<'a>(mut self, bases: impl Iterator<Item = (&'a str, &'a lora::Model)>) -> Self {
        self.environment.extend(bases.map(|(name, base)| (format!("base {name}"), base.to_string())));
        self
    }

    /// With path and text of the script that ran it, and the settings that the script was run with, an object.
    #[must_use]
    pub fn with_script(self, path: String, text: String, settings: &Value) -> Self {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let settings = settings.as_object().into_iter().flatten();
        let settings = settings.map(|(name, value)| (name.clone(), plain(value))).collect();
        About { script: Some((path, text)), settings, ..self }
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
