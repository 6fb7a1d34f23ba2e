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

fn row(own: &ModuleSpectrum) -> Vec<String> {
    vec![
        own.layer.map_or(String::new(), |layer| layer.to_string()),
        own.module.clone(),
        own.r.to_string(),
        format!("{:.4}", own.values.first().copied().unwrap_or(0.0)),
        format!("{:.4}", own.norm()),
        format!("{:.2}", own.effective_rank()),
        own.energy_rank(0.9).to_string(),
        own.energy_rank(0.99).to_string(),
    ]
}
