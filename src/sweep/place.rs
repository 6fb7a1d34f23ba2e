//! Where a trial ran: host, device, processor, driver and program. Another processor or program may round differently.

use crate::native::driver::usable_gpus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use tch::Device;

/// Where a trial ran, in its `result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    pub host: String,
    /// "cpu" or "cuda:0"; unknown in experiments of a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The name of the CPU, or of the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The version of NVIDIA's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    pub program: String,
    /// In a shared sweep, the worker, the generation of its lease, and the run that it was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Place {
    /// This process, training on `device`.
    pub fn here(device: Option<Device>) -> Self {
        let (name, processor, driver) = match device {
            Some(Device::Cuda(index)) => {
                let gpu = usable_gpus().get(index).map(|gpu| gpu.name.clone());
                (Some(format!("cuda:{index}")), gpu, driver_version())
            }
            Some(_) => (Some("cpu".to_owned()), cpu_name(), None),
            None => (None, cpu_name(), None),
        };
        let commit = option_env!("LORHAI_COMMIT").filter(|commit| !commit.is_empty());
        let commit = commit.map_or(String::new(), |commit| format!(" ({commit})"));
        Place {
            host: host(),
            device: name,
            processor,
            driver,
            program: format!("lorhai {}{commit}", env!("CARGO_PKG_VERSION")),
            ..Place::default()
        }
    }

    /// In a line: "node7, cuda:0".
    pub fn short(&self) -> String {
        let parts = [Some(self.host.as_str()), self.device.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What numbers may depend on.
    fn arithmetic(&self) -> String {
        let driver = self.driver.as_ref().map(|driver| format!("driver {driver}"));
        let kind = self.device.as_ref().map(|device| device.split(':').next().unwrap_or_default().to_owned());
        let parts = [kind, self.processor.clone(), driver, Some(self.program.clone())];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A sentence for results from places that may round differently.
pub fn difference_note<'a>(places: impl Iterator<Item = &'a Place>) -> Option<String> {
    let kinds: BTreeSet<String> = places.map(Place::arithmetic).collect();
    if kinds.len() < 2 {
        return None;
    }
    let kinds: Vec<String> = kinds.into_iter().collect();
    Some(format!(
        "trained in {} places, whose numbers may differ in the last digits: {}",
        kinds.len(),
        kinds.join("; ")
    ))
}

/// The name of this machine.
pub fn host() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: writes at most so many bytes to `name`.
    let code = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    if code != 0 {
        return "unknown".to_owned();
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name));
    Some(name.unwrap_or(std::env::consts::ARCH).trim().to_owned())
}

/// The second line of that file is of the compiler.
fn driver_version() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processors_devices_and_programs_are_noted_and_other_hosts_are_not() {
        let here = Place::here(Some(Device::Cpu));
        assert!(!here.host.is_empty() && here.processor.is_some());
        let elsewhere = Place { host: "node7".into(), worker: Some("w".into()), ..here.clone() };
        assert_eq!(difference_note([&here, &elsewhere].into_iter()), None);
        let gpu = |index, driver: &str| Place {
            device: Some(format!("cuda:{index}")),
            processor: Some("H100".into()),
            driver: Some(driver.into()),
            ..here.clone()
        };
        assert_eq!(difference_note([&gpu(0, "580.1"), &gpu(1, "580.1")].into_iter()), None);
        let note = difference_note([&here, &gpu(0, "580.1"), &gpu(0, "581.2")].into_iter()).unwrap();
        assert!(note.starts_with("trained in 3 places") && note.contains("H100, driver 581.2"), "{note}");
        let other = Place { program: "lorhai 0.0.1".into(), ..here.clone() };
        assert!(difference_note([&here, &other].into_iter()).unwrap().contains("lorhai 0.0.1"));
    }
}
