//! The rank spectrum of an adapter as text.

use crate::lora::spectrum::{ModuleSpectrum, RankSpectrum};
use crate::table::{table, Align};

impl RankSpectrum {
    /// A line for each layer of the network that carries the adapter.
    pub fn table(&self) -> String {
        let header = ["layer", "module", "r", "σ₁", "‖ΔW‖", "effective rank", "rank 90 %", "rank 99 %"];
        let rows = self.modules.iter().map(row).collect();
        let align = [&[Align::Right, Align::Left][..], &[Align::Right; 6]].concat();
        table(header.map(str::to_owned).into(), rows, &align)
    }
}

fn row(spectrum: &ModuleSpectrum) -> Vec<String> {
    vec![
        spectrum.layer.map_or(String::new(), |layer| layer.to_string()),
        spectrum.module.clone(),
        spectrum.r.to_string(),
        format!("{:.4}", spectrum.values.first().copied().unwrap_or(0.0)),
        format!("{:.4}", spectrum.norm()),
        format!("{:.2}", spectrum.effective_rank()),
        spectrum.energy_rank(0.9).to_string(),
        spectrum.energy_rank(0.99).to_string(),
    ]
}
