//! One model: what transformers and PEFT computed, repeated here.

use crate::common::cases::{leaf_errors, logits, logits_of, nmse, relative, training_errors, Case};
use crate::common::numbers::strings;
use crate::table::{Deviations, Property};
use lorhai::data::batch::Batch;
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::generate::generate;
use lorhai::lora::adapter::count_line;
use lorhai::lora::{Adapter, AdapterSet};
use lorhai::model::{Adapters, Decoder, Grid, Input, KeyValueCache, NoAdapters, Parameters};
use lorhai::train::step::{backward, predicted_labels};
use lorhai::Result;
use serde_json::Value;
use tch::{no_grad, Device, Kind, Tensor};

pub fn compare(case: &Case) -> Result<Deviations> {
    let (decoder, wide) = (case.decoder(Device::Cpu), case.decoder_in(Kind::Double, Device::Cpu));
    let adapter = case.adapter(&decoder);
    let mut found = Vec::new();
    found.extend(of_logits(case, &decoder, &adapter, Property::Logits));
    found.extend(of_logits(case, &wide, &in_double(&adapter, &wide)?, Property::WideLogits));
    found.extend(of_gradients(case, &wide, &adapter)?);
    found.extend(of_training(case, &wide, &adapter)?);
    found.extend(of_packed_rows(case, &wide, &adapter)?);
    found.extend(of_cache(case, &wide)?);
    found.push((Property::Greedy, different_texts(case, &decoder, &adapter)? as f64));
    found.push((Property::Counts, different_counts(case, &decoder, &adapter) as f64));
    Ok(found)
}

/// The adapter in f64.
fn in_double(adapter: &Adapter, decoder: &Decoder) -> Result<Adapter> {
    let mut wide = Adapter::zeros(adapter.spec.clone(), &decoder.config, Kind::Double, Device::Cpu)?;
    for (at, leaf) in adapter.parameters.leaves().iter().enumerate() {
        wide.parameters.set(at, &leaf.detach().to_kind(Kind::Double))?;
    }
    Ok(wide)
}

/// The logits of base and adapter at positions that are no padding.
fn of_logits(case: &Case, decoder: &Decoder, adapter: &Adapter, property: Property) -> Deviations {
    let (batch, visible) = (case.batch(""), case.tensor("attention_mask").unsqueeze(-1));
    let of = |name: &str, adapters: &dyn Adapters| {
        let found = logits(decoder, &batch, adapters) * &visible;
        (property, nmse(&found, &case.tensor(&format!("{name}_logits"))))
    };
    vec![of("base", &NoAdapters), of("adapter", &AdapterSet::one(adapter, None))]
}

/// The error of the mean loss of a batch; its gradients are then in the parameters.
fn loss_error(
    decoder: &Decoder,
    batch: &Batch,
    adapters: &dyn Adapters,
    checkpoint: bool,
    expected: f64,
) -> Result<f64> {
    let labels = predicted_labels(batch) as f64;
    let losses = backward(decoder, &[batch], adapters, &[1.0 / labels], checkpoint)?;
    Ok(relative(losses.losses.sum(Kind::Double).double_value(&[]) / labels, expected))
}

/// The largest error of a gradient.
fn worst_gradient(case: &Case, parameters: &Parameters, prefix: &str) -> f64 {
    let errors = leaf_errors(case, parameters, prefix, Tensor::grad);
    errors.into_iter().map(|(_, error)| error).fold(0.0, f64::max)
}

fn of_gradients(case: &Case, wide: &Decoder, adapter: &Adapter) -> Result<Deviations> {
    let (batch, mut found) = (case.batch(""), Vec::new());
    for checkpoint in [false, true] {
        let adapter = in_double(adapter, wide)?;
        let set = AdapterSet::one(&adapter, None);
        found.push((Property::Loss, loss_error(wide, &batch, &set, checkpoint, case.number("adapter_loss"))?));
        found.push((Property::AdapterGradients, worst_gradient(case, &adapter.parameters, "grad.")));
    }
    let mut base = case.decoder_in(Kind::Double, Device::Cpu);
    let parameters = base.train_all()?;
    found.push((Property::Loss, loss_error(&base, &batch, &NoAdapters, false, case.number("base_loss"))?));
    found.push((Property::FullGradients, worst_gradient(case, &parameters, "full_grad.")));
    Ok(found)
}

fn of_training(case: &Case, wide: &Decoder, adapter: &Adapter) -> Result<Deviations> {
    let mut adapter = in_double(adapter, wide)?;
    let errors = training_errors(case, wide, &mut adapter, false);
    let losses = errors.iter().map(|step| (Property::Losses, step.loss));
    let weights = leaf_errors(case, &adapter.parameters, "trained.", Tensor::detach);
    Ok(losses.chain(weights.into_iter().map(|(_, error)| (Property::TrainedWeights, error))).collect())
}

/// Documents in packed rows against each alone. Where the rotation depends on the length of a row, documents in training
/// are rotated as rows of a batch, so that only the logits of each alone can be compared.
fn of_packed_rows(case: &Case, wide: &Decoder, adapter: &Adapter) -> Result<Deviations> {
    let (batch, adapter) = (case.packed_batch("packed."), in_double(adapter, wide)?);
    let set = AdapterSet::one(&adapter, None);
    let alone = Input::from_batches(&[&batch], wide)?.each_alone();
    let visible = case.tensor("packed.document_ids").ne(0).unsqueeze(-1).to_kind(Kind::Double);
    let error = nmse(&(logits_of(wide, &alone, &set) * visible), &case.tensor("packed.logits"));
    let mut found = vec![(Property::Packed, error)];
    if rotates_by_position_alone(wide) {
        let loss = loss_error(wide, &batch, &set, false, case.number("packed_loss"))?;
        found.push((Property::Loss, loss));
        found.push((Property::Packed, worst_gradient(case, &adapter.parameters, "packed.grad.")));
    }
    Ok(found)
}

/// More tokens than any row has.
const LONGEST: i64 = 64;

fn rotates_by_position_alone(decoder: &Decoder) -> bool {
    decoder.computes_prefixes_alike(&(1..=LONGEST).collect::<Vec<i64>>())
}

/// How many tokens of each row are read at once; the last row ends first.
const PIECES: [&[usize]; 5] = [&[5, 1, 4], &[1, 1, 1], &[4, 6, 1], &[1, 4], &[8, 1]];

/// The rows of the batch, read in pieces after a cache.
fn of_cache(case: &Case, wide: &Decoder) -> Result<Deviations> {
    if !rotates_by_position_alone(wide) {
        return Ok(Vec::new());
    }
    let _guard = tch::no_grad_guard();
    let (ids, expected) = (case.tensor("input_ids"), case.tensor("base_logits"));
    let rows = ids.size()[0] as usize;
    let mut cache = KeyValueCache::new(&wide.config, rows);
    let (mut found, mut expected_pieces) = (Vec::new(), Vec::new());
    for piece in PIECES {
        if piece.len() < cache.lengths().len() {
            cache.keep(&(0..piece.len()).collect::<Vec<_>>())?;
        }
        let past = cache.lengths().to_vec();
        let input = piece_of(&ids, &past, piece, wide)?;
        let hidden = wide.hidden_after(&mut cache, &input, &NoAdapters)?;
        found.push(wide.logits(&hidden, &input.tokens, &NoAdapters)?);
        for (row, (&past, &count)) in past.iter().zip(piece).enumerate() {
            expected_pieces.push(expected.get(row as i64).narrow(0, past, count as i64));
        }
    }
    Ok(vec![(Property::Cache, nmse(&Tensor::cat(&found, 0), &Tensor::cat(&expected_pieces, 0)))])
}

/// The next tokens of each row of `ids`, after those that the cache has.
fn piece_of(ids: &Tensor, past: &[i64], piece: &[usize], decoder: &Decoder) -> Result<Input> {
    let time = piece.iter().copied().max().unwrap();
    let (mut input_ids, mut position_ids) = (vec![0; piece.len() * time], vec![0; piece.len() * time]);
    for (row, &count) in piece.iter().enumerate() {
        for column in 0..count {
            let position = past[row] + column as i64;
            input_ids[row * time + column] = ids.int64_value(&[row as i64, position]);
            position_ids[row * time + column] = position;
        }
    }
    let (rows, input_ids, position_ids) = (piece.len(), &input_ids, &position_ids);
    let grid = Grid { rows, time, input_ids, position_ids, segments: None, shares_prefixes: false, part_of: None };
    Input::new(&[grid], decoder.config.vocab_size, Device::Cpu)
}

/// transformers continued each prompt by itself; here they are one batch.
fn different_texts(case: &Case, decoder: &Decoder, adapter: &Adapter) -> Result<usize> {
    let ids = |value: &Value| Vec::from_iter(value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32));
    let continuations = case.json["continuations"].as_array().unwrap();
    let of = |name: &str| continuations.iter().map(|one| ids(&one[name])).collect::<Vec<_>>();
    let different = |name: &str, adapters: &dyn Adapters| -> Result<usize> {
        let expected = of(name);
        let config = GenerationConfig { max_new_tokens: Some(expected[0].len()), ..GenerationConfig::default() };
        let found = generate(decoder, adapters, 1, &of("prompt"), &config, &mut |_| Ok(()))?;
        Ok(found[0].iter().zip(&expected).filter(|(found, expected)| found.ids != **expected).count())
    };
    no_grad(|| Ok(different("base", &NoAdapters)? + different("adapter", &AdapterSet::one(adapter, None))?))
}

fn different_counts(case: &Case, decoder: &Decoder, adapter: &Adapter) -> usize {
    let parameters = decoder.config.parameter_count();
    let line = count_line(adapter.parameters.count(), parameters + adapter.added_count());
    let mut targets: Vec<String> = adapter.targets.iter().map(|target| target.linear.name.clone()).collect();
    let mut expected = strings(&case.json["targeted_modules"]);
    targets.sort();
    expected.sort();
    let differences = [
        parameters != case.json["parameters"].as_u64().unwrap(),
        line != case.json["print_trainable_parameters"].as_str().unwrap(),
        targets != expected,
    ];
    differences.into_iter().filter(|differs| *differs).count()
}
