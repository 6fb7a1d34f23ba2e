//! Documents that begin alike: going through the model once, their common tokens change no number.

use crate::cases::*;
use lorhai::data::batch::{Batch, LabelledDocument, IGNORE};
use lorhai::lora::AdapterSet;
use lorhai::model::{Decoder, Input};
use lorhai::train::step::{backward, batch_losses};
use tch::{no_grad, Device, Kind, Tensor};

/// Rows of padded documents and one row of several, as pairs of answers and samples of a prompt are.
fn documents() -> [Batch; 2] {
    let document = |ids: &[i64], prompt: usize| LabelledDocument {
        input_ids: ids.to_vec(),
        labels: ids.iter().enumerate().map(|(at, &id)| if at < prompt { IGNORE } else { id }).collect(),
        weights: None,
    };
    let rows = Batch::of_documents(
        &[
            document(&[5, 9, 2, 7, 3, 4], 4),
            document(&[5, 9, 2, 7, 8], 4),
            document(&[5, 9, 11, 1], 2),
            document(&[12, 3, 9], 2),
            document(&[12, 3, 9], 2),
        ],
        0,
    );
    let packed = Batch {
        position_ids: vec![0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2],
        segments: Some(vec![0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]),
        labels: vec![IGNORE, IGNORE, IGNORE, 8, 6, IGNORE, IGNORE, IGNORE, 4, IGNORE, 7, 2],
        ..Batch::of_rows(1, 12, vec![3, 5, 7, 8, 6, 3, 5, 7, 4, 3, 7, 2])
    };
    [rows, packed]
}

fn hidden(decoder: &Decoder, batch: &Batch, adapters: &AdapterSet) -> Tensor {
    no_grad(|| {
        let input = Input::from_batches(&[batch], decoder).unwrap();
        input.padded(&decoder.hidden(&input, adapters).unwrap()).unwrap()
    })
}

#[test]
fn common_tokens_are_computed_once_with_the_same_numbers() {
    for case in cases("adapter") {
        let decoder = case.decoder(Device::Cpu);
        let adapter = case.adapter(&decoder);
        let adapters = AdapterSet::one(&adapter, None);
        let apart = documents();
        let shared = documents().map(|batch| Batch { shares_prefixes: true, ..batch });
        for ((one, other), expected) in apart.iter().zip(&shared).zip([(21, 12), (12, 8)]) {
            let tokens = |batch: &Batch| Input::from_batches(&[batch], &decoder).unwrap().token_ids.size()[0];
            assert_eq!((tokens(one), tokens(other)), expected);
            let bound = case.bound("logits_nmse", LOGITS_NMSE);
            let off = nmse(&hidden(&decoder, other, &adapters), &hidden(&decoder, one, &adapters));
            within(&case, "hidden states", off, bound);
        }
        // Both batches together; with checkpointing the layers run a second time.
        for checkpointing in [false, true] {
            let gradient = |batches: &[Batch; 2]| {
                let batches: Vec<&Batch> = batches.iter().collect();
                let _ = adapter.parameters.flat_gradient().shallow_clone().zero_();
                let losses = backward(&decoder, &batches, &adapters, &[0.25, -0.5], checkpointing).unwrap();
                let gradient = adapter.parameters.flat_gradient().copy();
                (losses.losses.detach(), gradient)
            };
            let (losses, expected) = gradient(&apart);
            let (shared_losses, actual) = gradient(&shared);
            assert!(losses.numel() == 12 && expected.abs().max().double_value(&[]) > 0.0);
            let off = (&shared_losses - &losses).abs().max().double_value(&[]);
            within(&case, "losses", off / losses.mean(Kind::Float).double_value(&[]), 10.0 * LOSS_RELATIVE);
            within(&case, "gradient", nmse(&actual, &expected), case.bound("grad_nmse", GRADIENT_NMSE));
        }
        let alone = no_grad(|| batch_losses(&decoder, &[&shared[0]], &adapters)).unwrap();
        assert_eq!(alone.labels, [7]);
    }
}
