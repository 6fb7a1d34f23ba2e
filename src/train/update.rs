//! One optimizer step of one or more runs that share a decoder: a joint forward and backward pass over their windows
//! of micro-batches, then clipping and an update for each run.

use super::adamw::AdamW;
use super::callbacks::{self, LossFunction};
use super::clip;
use super::mean_metrics::MeanMetrics;
use super::nested::{adapters_of, pass_parts, MicroBatch, PassPart};
use super::objective::loss::means;
use super::objective::preference::divergences;
use super::objective::PreferenceBatch;
use super::processes::{Processes, WindowTotals};
use super::step::{backward, backward_from, predicted_labels, to_host, BatchLosses};
use crate::data::batch::Batch;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::lora::trainable::{dropout_key, Trainable};
use crate::model::{Decoder, Parameters};
use tch::{Device, Tensor};

/// The settings of one step.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Counted from 0; part of the key of dropout masks.
    pub step: u64,
    pub seed: u64,
    pub lr: f64,
    /// 0 turns clipping off.
    pub max_grad_norm: f64,
    /// The pass is joint: if one member sets it, it holds for all.
    pub gradient_checkpointing: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Mean loss per label over the window; of labels with weights, the weighted mean; on preferences and of losses of
    /// the caller, the mean of the micro-batches' losses.
    pub loss: f64,
    /// The norm before clipping.
    pub grad_norm: f64,
    pub labels: usize,
    /// On preferences, means of the micro-batches.
    pub metrics: MeanMetrics,
}

/// One run in a joint step.
pub struct Member<'a> {
    pub trainable: &'a mut dyn Trainable,
    pub optimizer: &'a mut AdamW,
    /// The micro-batches of this step; where several processes train the run, the rows of this one.
    pub window: &'a [Batch],
    /// Of all rows of the step.
    pub totals: WindowTotals,
    /// Of each micro-batch; empty for a run that does not train on preferences.
    pub preferences: &'a [PreferenceBatch],
    pub settings: StepSettings,
    /// In place of the cross-entropy over the labels.
    pub loss: Option<&'a LossFunction<'a>>,
    /// Those that compute the step together. The member is the only one then.
    pub processes: Option<&'a Processes>,
}

/// [`update_together`] for a single run.
pub fn update(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    optimizer: &mut AdamW,
    window: &[Batch],
    settings: StepSettings,
) -> Result<StepResult> {
    let totals = WindowTotals::of(window);
    let member =
        Member { trainable, optimizer, window, totals, preferences: &[], settings, loss: None, processes: None };
    let mut results = update_together(decoder, &mut [member])?;
    results.pop().unwrap_or_else(|| Err(Error::bug("a step without a result")))
}

/// Trains every member on its window. The loss of a window is the mean over all its labels: a mean of the
/// micro-batches' means would weigh short batches too heavily. On preferences it is that mean, as in TRL, and so it is
/// with a loss of the caller, who returns one number for a micro-batch.
///
/// The members' tokens go through the decoder together without affecting each other: a member whose loss or gradient
/// is not finite fails alone, with its weights unchanged. An error of the function itself ends all of them.
pub fn update_together(decoder: &Decoder, members: &mut [Member]) -> Result<Vec<Result<StepResult>>> {
    let totals: Vec<WindowTotals> = members.iter().map(|member| member.totals).collect();
    let weights: Vec<f64> = totals.iter().map(|totals| totals.weight).collect();
    let windows = gradients(decoder, members, &weights)?;
    let results = members.iter_mut().zip(windows).zip(totals);
    let results = results.map(|((member, window), WindowTotals { labels, weight: total, .. })| {
        if labels == 0 && member.loss.is_none() {
            return Err(no_label(member.settings.step));
        }
        if total == 0.0 && member.loss.is_none() {
            return Err(no_weight(member.settings.step));
        }
        let (WindowLoss { loss, metrics }, grad_norm) = window;
        apply(member, loss, grad_norm)?;
        Ok(StepResult { loss, grad_norm, labels, metrics })
    });
    Ok(results.collect())
}

/// The loss of a window, or a micro-batch's part of it.
#[derive(Debug, Clone, Default)]
struct WindowLoss {
    loss: f64,
    metrics: MeanMetrics,
}

/// The losses of a pass, not yet on the host.
struct Pending {
    /// For each part of the pass its member, and by what its summed loss is multiplied.
    weights: Vec<(usize, f64)>,
    losses: BatchLosses,
}

/// How a step is computed.
#[derive(Debug, Clone, Copy)]
struct Computation {
    /// Of the loss, for a base in f16.
    scale: f64,
    /// Whether a GPU may compute several adapters in the same operations.
    is_joint: bool,
}

/// Runs forward and backward over all windows. Fills the members' gradients and returns their losses, and the norms of
/// their gradients.
fn gradients(decoder: &Decoder, members: &mut [Member], totals: &[f64]) -> Result<Vec<(WindowLoss, f64)>> {
    let factors = members.iter().map(|member| member.optimizer.loss_scale.factor(decoder));
    let mut computation = Computation { scale: factors.fold(f64::INFINITY, f64::min), is_joint: true };
    let can_spread = decoder.device != Device::Cpu && members.iter().filter(|member| member.loss.is_none()).count() > 1;
    loop {
        for member in members.iter_mut() {
            member.trainable.parameters_mut().zero_gradients()?;
        }
        let mut windows = vec![WindowLoss::default(); members.len()];
        let pending = passes(decoder, members, totals, computation, &mut windows);
        let mut norms = match members {
            [Member { trainable, settings, processes: Some(processes), .. }] => {
                finish_together(processes, trainable.parameters(), settings.step, pending, &mut windows)?
            }
            _ => finish(members, pending?, &mut windows)?,
        };
        let has_finite_losses = windows.iter().all(|window| window.loss.is_finite());
        let has_finite_norms = norms.iter().all(|norm| norm.is_finite());
        if can_spread && computation.is_joint && !(has_finite_losses && has_finite_norms) {
            // Which member it comes from shows when they are computed apart.
            computation.is_joint = false;
            continue;
        }
        let scale = computation.scale;
        if scale == 1.0 {
            return Ok(windows.into_iter().zip(norms).collect());
        }
        if has_finite_losses && !has_finite_norms {
            computation.scale /= 2.0;
            continue;
        }
        for (member, norm) in members.iter_mut().zip(&mut norms) {
            member.trainable.parameters_mut().scale_gradients(1.0 / scale)?;
            member.optimizer.loss_scale.stepped(scale);
            *norm /= scale;
        }
        return Ok(windows.into_iter().zip(norms).collect());
    }
}

/// The forward and backward passes over all windows. Losses that are known already are added to them.
fn passes(
    decoder: &Decoder,
    members: &[Member],
    totals: &[f64],
    computation: Computation,
    windows: &mut [WindowLoss],
) -> Result<Vec<Pending>> {
    let longest = members.iter().map(|member| member.window.len()).max().unwrap_or(0);
    let mut pending = Vec::new();
    for micro_batch in 0..longest {
        interrupt::check()?;
        for (at, member) in members.iter().enumerate() {
            windows[at].loss += caller_loss(member, micro_batch, computation.scale)?;
        }
        for (member, part) in forward_backward(decoder, members, micro_batch, totals, computation, &mut pending)? {
            windows[member].loss += part.loss;
            windows[member].metrics.extend(&part.metrics);
        }
    }
    Ok(pending)
}

/// As [`finish`], for a window of which each process has a part: adds up their gradients and losses. If the passes of one
/// failed, all fail.
fn finish_together(
    processes: &Processes,
    parameters: &Parameters,
    step: u64,
    pending: Result<Vec<Pending>>,
    windows: &mut [WindowLoss],
) -> Result<Vec<f64>> {
    let losses = pending.and_then(|pending| {
        let sums = pending.iter().map(|pass| pass.losses.sums()).collect::<Result<Vec<_>>>()?;
        add_losses(&pending, sums, windows);
        Ok(windows.iter().map(|window| window.loss).collect::<Vec<f64>>())
    });
    let losses = processes.meet(&format!("step {}", step + 1), losses)?;
    processes.sum(parameters.flat_gradient())?;
    let losses = processes.sum_numbers(&losses)?;
    windows.iter_mut().zip(losses).for_each(|(window, loss)| window.loss = loss);
    Ok(vec![parameters.gradient_norm()?])
}

fn add_losses(pending: &[Pending], sums: Vec<Vec<f64>>, windows: &mut [WindowLoss]) {
    for (pass, sums) in pending.iter().zip(sums) {
        for ((member, weight), sum) in pass.weights.iter().zip(sums) {
            windows[*member].loss += sum * weight;
        }
    }
}

/// Adds the losses of all passes to their windows. Returns the norm of each member's gradient. A GPU is waited for once.
fn finish(members: &[Member], pending: Vec<Pending>, windows: &mut [WindowLoss]) -> Result<Vec<f64>> {
    let parameters = || members.iter().map(|member| member.trainable.parameters());
    let is_on_gpu = |parameters: &Parameters| parameters.flat().device() != Device::Cpu;
    let (sums, norms): (Vec<Vec<f64>>, Vec<f64>) = if parameters().any(is_on_gpu) {
        let losses = pending.iter().map(|pass| Ok(pass.losses.losses.f_detach()?));
        let norms = parameters().map(|parameters| parameters.flat_gradient().f_norm().map_err(Into::into));
        let mut values = to_host(&losses.chain(norms).collect::<Result<Vec<_>>>()?)?;
        let norms = values.split_off(pending.len()).concat();
        (pending.iter().zip(values).map(|(pass, losses)| pass.losses.sums_of(losses)).collect(), norms)
    } else {
        let sums = pending.iter().map(|pass| pass.losses.sums()).collect::<Result<_>>()?;
        (sums, parameters().map(Parameters::gradient_norm).collect::<Result<_>>()?)
    };
    add_losses(&pending, sums, windows);
    Ok(norms)
}

/// Runs one micro-batch of each member that has one with labels. Returns its part of the loss of each member's
/// window, or adds it to `pending`; gradients are those of `scale` times the loss.
fn forward_backward(
    decoder: &Decoder,
    members: &[Member],
    micro_batch: usize,
    totals: &[f64],
    Computation { scale, is_joint }: Computation,
    pending: &mut Vec<Pending>,
) -> Result<Vec<(usize, WindowLoss)>> {
    let has_labels = |member: &Member| member.window.get(micro_batch).is_some_and(|batch| predicted_labels(batch) > 0);
    let is_involved = |member: &Member| member.loss.is_none() && has_labels(member);
    let involved = (0..members.len()).filter(|&at| totals[at] > 0.0 && is_involved(&members[at]));
    let involved: Vec<usize> = involved.collect();
    if involved.is_empty() {
        return Ok(Vec::new());
    }
    let parts = involved.iter().flat_map(|&at| {
        let StepSettings { seed, step, .. } = members[at].settings;
        let has_dropout = members[at].preferences.get(micro_batch).is_none_or(PreferenceBatch::has_dropout);
        let keys = MicroBatch { seed, step, number: micro_batch, has_dropout };
        let batch = members[at].window.get(micro_batch);
        let parts = batch.map_or(Vec::new(), |batch| pass_parts(&*members[at].trainable, batch, keys));
        parts.into_iter().map(move |part| (at, part))
    });
    let (at, mut parts): (Vec<usize>, Vec<PassPart>) = parts.unzip();
    let adapters = adapters_of(&mut parts);
    let adapters = if is_joint { adapters } else { adapters.one_by_one() };
    let batches: Vec<&Batch> = parts.iter().map(|part| part.batch.as_ref()).collect();
    let weights = at.into_iter().zip(&parts).map(|(at, part)| (at, part.weight / totals[at]));
    let weights: Vec<(usize, f64)> = weights.collect();
    let checkpointing = members.iter().any(|member| member.settings.gradient_checkpointing);
    let scaled: Vec<f64> = weights.iter().map(|(_, weight)| weight * scale).collect();
    if involved.iter().any(|&at| !members[at].preferences.is_empty()) {
        let mut parts = Vec::new();
        let mut total = |losses: &BatchLosses| {
            let (total, of_members) = preference_losses(decoder, members, &involved, micro_batch, losses)?;
            parts = of_members;
            Ok(total.f_mul_scalar(scale)?)
        };
        backward_from(decoder, &batches, &adapters, checkpointing, &mut total)?;
        return Ok(involved.into_iter().zip(parts).collect());
    }
    let BatchLosses { losses, labels, label_weights } = backward(decoder, &batches, &adapters, &scaled, checkpointing)?;
    // Without the graph, which holds the activations' tensors.
    let losses = BatchLosses { losses: losses.f_detach()?, labels, label_weights };
    pending.push(Pending { weights, losses });
    Ok(Vec::new())
}

/// The sum of the losses of one micro-batch of each member, and that of each. A micro-batch counts as much as the others
/// of its window, however many rows it has: as in TRL.
fn preference_losses(
    decoder: &Decoder,
    members: &[Member],
    involved: &[usize],
    micro_batch: usize,
    losses: &BatchLosses,
) -> Result<(Tensor, Vec<WindowLoss>)> {
    let absent = || Error::bug("a run on preferences beside one on examples");
    let batches = involved.iter().map(|&at| {
        let batch = members[at].preferences.get(micro_batch).ok_or_else(absent)?;
        Ok((&*members[at].trainable, batch))
    });
    let batches: Vec<(&dyn Trainable, &PreferenceBatch)> = batches.collect::<Result<_>>()?;
    let divergences = divergences(decoder, &batches)?;
    let (mut totals, mut parts) = (Vec::new(), Vec::new());
    for (part, (&at, divergence)) in involved.iter().zip(divergences).enumerate() {
        let loss = batches[part].1.loss(&losses.of(part)?, divergence)?;
        let mean = loss.mean()?.f_div_scalar(members[at].window.len() as f64)?;
        let mut window = WindowLoss { loss: mean.f_double_value(&[])?, metrics: MeanMetrics::default() };
        means(&loss.metrics).iter().for_each(|(name, mean)| window.metrics.add(name, *mean, 1.0));
        totals.push(mean);
        parts.push(window);
    }
    Ok((Tensor::f_stack(&totals, 0)?.f_sum(None)?, parts))
}

/// As [`forward_backward`], for a member whose loss the caller computes.
fn caller_loss(member: &Member, micro_batch: usize, scale: f64) -> Result<f64> {
    let (Some(loss), Some(batch)) = (member.loss, member.window.get(micro_batch)) else { return Ok(0.0) };
    let StepSettings { seed, step, .. } = member.settings;
    let weight = 1.0 / member.window.len() as f64;
    let loss = callbacks::backward(&loss(batch, dropout_key(seed, step, micro_batch))?, weight * scale)?;
    Ok(loss * weight)
}

fn no_label(step: u64) -> Error {
    Error::data(format!("step {}: no row of the batch has a label to learn", step + 1))
        .with_hint("look at the rows with `data.show(0)`; a larger max_length may keep the answers")
}

fn no_weight(step: u64) -> Error {
    Error::data(format!("step {}: every label of the batch has the weight 0", step + 1))
        .with_hint("give some tokens a weight above 0, or larger batches")
}

/// Clips and updates. Fails before any weight changes if loss or gradient is not finite.
fn apply(member: &mut Member, loss: f64, grad_norm: f64) -> Result<()> {
    let Member { trainable, optimizer, settings, .. } = member;
    let step = settings.step + 1;
    for (name, value) in [("loss", loss), ("gradient norm", grad_norm)] {
        if !value.is_finite() {
            return Err(Error::new(
                Kind::Numeric,
                format!("step {step}: the {name} is {value}; the weights are as they were before this step"),
            )
            .with_hint("lower the learning rate, add warm-up, or look for a broken row in the data"));
        }
    }
    let clip = if settings.max_grad_norm > 0.0 { clip::factor(grad_norm, settings.max_grad_norm) } else { 1.0 };
    optimizer.step(trainable.parameters(), settings.lr, clip)?;
    trainable.parameters_mut().zero_gradients()
}
