//! Adapter cases: logits, losses, every gradient, weights after twenty steps, counts.

use crate::cases::*;
use lorhai::lora::AdapterSet;
use lorhai::model::{loss, Adapters, NoAdapters};
use lorhai::train::step::batch_loss;
use tch::{no_grad, Device, Tensor};

on_devices! {
    logits_and_losses_agree, every_gradient_agrees, twenty_steps_end_at_the_same_weights,
    gradient_checkpointing_ends_at_the_same_weights,
}

fn logits_and_losses_agree(device: Device) {
    for case in cases("adapter") {
        let decoder = case.decoder(device);
        let adapter = case.adapter(&decoder);
        let batch = case.batch("");
        let visible = case.tensor("attention_mask").unsqueeze(-1);
        let logits_bound = case.bound("logits_nmse", LOGITS_NMSE);
        let loss_bound = case.bound("losses_relative", LOSS_RELATIVE);
        for (which, adapters) in [("base", &NoAdapters as &dyn Adapters), ("adapter", &AdapterSet::one(&adapter, None))]
        {
            let actual = logits(&decoder, &batch, adapters).to_device(Device::Cpu);
            let full_loss = loss::mean_loss(
                &actual,
                &Tensor::from_slice(&batch.labels).view([batch.rows as i64, batch.seq_len as i64]),
            );
            let expected = case.tensor(&format!("{which}_logits"));
            let worst = within(&case, which, nmse(&(&actual * &visible), &expected), logits_bound);
            let labelled = no_grad(|| batch_loss(&decoder, &batch, adapters)).unwrap();
            assert_eq!(labelled.labels as f64, case.number("label_count"));
            let expected = case.number(&format!("{which}_loss"));
            let ours = labelled.sum.double_value(&[]) / labelled.labels as f64;
            let off = within(&case, "loss", relative(ours, expected), loss_bound);
            let full_loss = full_loss.unwrap().double_value(&[]);
            within(&case, "loss of full logits", relative(full_loss, expected), loss_bound);
            println!("{:<32} {which:<8} logits NMSE {worst:.1e}  loss {off:.1e}", case.name);
        }
    }
}

fn every_gradient_agrees(device: Device) {
    for case in cases("adapter") {
        let decoder = case.decoder(device);
        let adapter = case.adapter(&decoder);
        let actual = batch_loss(&decoder, &case.batch(""), &AdapterSet::one(&adapter, None)).unwrap();
        (&actual.sum / actual.labels as f64).backward();
        let worst = gradients_agree(&case, &adapter.parameters);
        println!("{:<32} {} gradients, worst NMSE {worst:.1e}", case.name, adapter.parameters.names().len());
    }
}

fn twenty_steps_end_at_the_same_weights(device: Device) {
    for case in cases("adapter") {
        let decoder = case.decoder(device);
        let mut adapter = case.adapter(&decoder);
        let worst_loss = train_as_recorded(&case, &decoder, &mut adapter);
        let worst = trained_weights_agree(&case, &adapter.parameters);
        println!("{:<32} losses {worst_loss:.1e} relative, weights NMSE {worst:.1e}", case.name);
    }
}

fn gradient_checkpointing_ends_at_the_same_weights(device: Device) {
    for case in cases("adapter") {
        let decoder = case.decoder(device);
        let mut adapter = case.adapter(&decoder);
        train_with(&case, &decoder, &mut adapter, true);
        trained_weights_agree(&case, &adapter.parameters);
    }
}

#[test]
fn parameters_are_counted_as_peft_counts_them() {
    for case in cases("adapter") {
        let decoder = case.decoder(Device::Cpu);
        let adapter = case.adapter(&decoder);
        let all = decoder.config.parameter_count() + adapter.added_count();
        let line = lorhai::lora::adapter::count_line(adapter.parameters.count(), all);
        assert_eq!(line, case.json["print_trainable_parameters"].as_str().unwrap(), "{}", case.name);
        let targets = adapter.embedding_target.iter().chain(&adapter.targets);
        let modules: Vec<&str> = targets.map(|target| target.linear.name.as_str()).collect();
        let mut expected: Vec<&str> =
            case.json["targeted_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        expected.sort_by_key(|name| modules.iter().position(|module| module == name));
        assert_eq!(modules, expected, "{}", case.name);
    }
}
