//! Full-parameter training: gradients of every weight and the weights after some steps.

use crate::cases::*;
use lorhai::model::{NoAdapters, Parameters};
use lorhai::train::step::batch_loss;
use tch::{no_grad, Device};

#[test]
fn every_weight_trains_as_in_transformers() {
    for case in cases("full") {
        let mut decoder = case.decoder(Device::Cpu);
        let mut parameters = decoder.train_all().unwrap();
        set_decay(&case, &mut parameters);
        let actual = batch_loss(&decoder, &case.batch(""), &NoAdapters).unwrap();
        within(
            &case,
            "loss",
            relative(actual.sum.double_value(&[]) / actual.labels as f64, case.number("base_loss")),
            LOSS_RELATIVE,
        );
        (&actual.sum / actual.labels as f64).backward();
        gradients_agree(&case, &parameters);
        train_as_recorded(&case, &decoder, &mut parameters);
        let worst = trained_weights_agree(&case, &parameters);
        let stayed = case.decoder(Device::Cpu);
        let moved = no_grad(|| nmse(&decoder.embed_tokens, &stayed.embed_tokens));
        assert!(moved > 1e-8, "{}: training changed nothing, or changed the mapped file's weights", case.name);
        println!("{:<32} weights NMSE {worst:.1e}", case.name);
    }
}

#[test]
fn gradient_checkpointing_ends_at_the_same_weights() {
    for case in cases("full") {
        let mut decoder = case.decoder(Device::Cpu);
        let mut parameters = decoder.train_all().unwrap();
        set_decay(&case, &mut parameters);
        train_with(&case, &decoder, &mut parameters, true);
        trained_weights_agree(&case, &parameters);
    }
}

fn set_decay(case: &Case, parameters: &mut Parameters) {
    // The default leaves out what transformers' Trainer leaves out; a case may decay all.
    let exempt = case.json["training"]["no_decay"].as_array().unwrap();
    let exempt: Vec<&str> = exempt.iter().map(|name| name.as_str().unwrap()).collect();
    if exempt.is_empty() {
        parameters.limit_decay(|_| true).unwrap();
    } else {
        let spared = parameters.decayed().unwrap().eq(0.0).sum(tch::Kind::Int64).int64_value(&[]);
        let named = parameters.names().iter().zip(parameters.leaves());
        let named = named.filter(|(name, _)| exempt.contains(&name.as_str()));
        assert_eq!(spared, named.map(|(_, leaf)| leaf.numel() as i64).sum::<i64>(), "{}: weight decay", case.name);
    }
}
