//! Packed rows: the numbers of each document are those of the document alone.

use crate::cases::*;
use lorhai::lora::{peft, AdapterSet};
use lorhai::model::{Adapters, NoAdapters};
use lorhai::train::step::batch_loss;
use tch::{Device, Kind};

on_devices! { documents_of_one_row_do_not_see_each_other }

fn documents_of_one_row_do_not_see_each_other(device: Device) {
    for case in cases("packed") {
        let base = case.beside(case.json["base"].as_str().unwrap());
        let decoder = base.decoder(device);
        let adapter = peft::load(&base.folder.join("adapter"), &decoder).unwrap();
        let batch = case.packed_batch("");
        let visible = case.tensor("document_ids").ne(0).unsqueeze(-1);
        for (which, adapters) in [("base", &NoAdapters as &dyn Adapters), ("adapter", &AdapterSet::one(&adapter, None))]
        {
            let actual = logits(&decoder, &batch, adapters).to_device(Device::Cpu) * visible.to_kind(Kind::Float);
            let off = within(&case, which, nmse(&actual, &case.tensor(&format!("{which}_logits"))), LOGITS_NMSE);
            let loss = batch_loss(&decoder, &batch, adapters).unwrap();
            assert_eq!(loss.labels as f64, case.number("label_count"));
            let ours = loss.sum.double_value(&[]) / loss.labels as f64;
            within(&case, "loss", relative(ours, case.number(&format!("{which}_loss"))), LOSS_RELATIVE);
            println!("{:<32} {which:<8} logits NMSE {off:.1e}", case.name);
        }
        let actual = batch_loss(&decoder, &batch, &AdapterSet::one(&adapter, None)).unwrap();
        (&actual.sum / actual.labels as f64).backward();
        gradients_agree(&case, &adapter.parameters);
    }
}
