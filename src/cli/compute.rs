//! Where and in how many threads a command computes: `--threads` and `--device`.

use crate::error::Result;
use crate::model::device;
use crate::threads;

#[derive(clap::Args)]
pub struct Compute {
    /// Compute in N threads; by default as many as there are processors that lorhai may use.
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// Compute on DEVICE, "cpu", "cuda" or "cuda:1", where the script names no device or "auto".
    ///
    /// With "cuda:1", a script's "cuda" is that GPU, too. A script that names "cpu" or a numbered GPU gets that.
    #[arg(long, value_name = "DEVICE", value_parser = device_name)]
    pub device: Option<String>,
}

impl Compute {
    /// Chooses both for this process. In a sandbox, enter it before.
    pub fn start(&self) -> Result<()> {
        threads::start(self.threads)?;
        self.device.as_deref().map_or(Ok(()), device::set_default)
    }
}

pub fn thread_count(text: &str) -> Result<usize, String> {
    threads::parse("--threads", text).map_err(|error| error.message)
}

/// Checks the form of a device's name. Whether this machine has the device shows only once it is asked for.
pub fn device_name(text: &str) -> Result<String, String> {
    match device::device_problem(text) {
        Some(refusal) => Err(format!("expected {}, found \"{text}\"", refusal.expected)),
        None => Ok(text.to_owned()),
    }
}
