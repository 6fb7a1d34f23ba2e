//! The rows of the result, as lines and as `bench/results.json`.

use lorhai::Result;
use serde::Serialize;
use std::fmt;
use std::path::Path;

#[derive(Serialize)]
pub struct Timing {
    pub name: String,
    pub ours: f64,
    pub peer: Option<f64>,
    /// The peer's figure divided by lorhai's.
    pub ratio: Option<f64>,
    pub unit: &'static str,
    pub settings: String,
}

impl Timing {
    pub fn new(name: String, ours: f64, peer: Option<f64>, unit: &'static str, settings: String) -> Self {
        Timing { name, ours, peer, ratio: peer.map(|peer| peer / ours), unit, settings }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<48} {:>10.2} {}", self.name, self.ours, self.unit)?;
        match (self.peer, self.ratio) {
            (Some(peer), Some(ratio)) => write!(out, "   peer {peer:>10.2} {}   {ratio:.2}×", self.unit),
            _ => Ok(()),
        }
    }
}

/// Writes the rows to `file`, or to `bench/results.json`.
pub fn write(rows: &[Timing], file: Option<&Path>) -> Result<()> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results.json");
    lorhai::files::write_json(file.unwrap_or(&usual), &rows)
}
