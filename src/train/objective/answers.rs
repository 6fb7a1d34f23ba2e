//! The answers of a batch: which label belongs to which of them, and their log-probabilities.

use crate::data::batch::{Batch, IGNORE};
use crate::error::Result;
use tch::{Device, Kind as Dtype, Tensor};

/// The answers of a batch, row after row: a document each.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerLabels {
    pub answers: usize,
    /// The answer of each label, in the order of the losses.
    answer_of: Vec<i64>,
    /// Is the label a token of the answer itself? Others are of the prompt.
    in_answer: Vec<bool>,
    /// The tokens of each answer.
    pub counts: Vec<f64>,
}

impl AnswerLabels {
    /// `per_row` is the number of answers in a row: documents of a row are numbered in its segments.
    pub fn of(batch: &Batch, per_row: usize) -> Self {
        let answers = batch.rows * per_row;
        let mut labels =
            AnswerLabels { answers, answer_of: Vec::new(), in_answer: Vec::new(), counts: vec![0.0; answers] };
        for cell in labelled_cells(batch) {
            let answer = answer_of_cell(batch, cell, per_row);
            labels.answer_of.push(answer as i64);
            labels.in_answer.push(true);
            labels.counts[answer] += 1.0;
        }
        labels
    }

    /// Labels the prompts of the first answer of each row too, all but their first token. The answers stay as they are.
    pub fn with_chosen_prompts(batch: &mut Batch, per_row: usize) -> Self {
        let mut labels = Self::of(batch, per_row);
        let before = batch.labels.clone();
        for cell in 0..batch.cells() {
            // The first token of a document is predicted by none.
            let is_chosen = batch.is_token(cell) && answer_of_cell(batch, cell, per_row).is_multiple_of(per_row);
            if is_chosen && batch.position_ids[cell] > 0 {
                batch.labels[cell] = batch.input_ids[cell];
            }
        }
        let cells: Vec<usize> = labelled_cells(batch).collect();
        labels.answer_of = cells.iter().map(|&cell| answer_of_cell(batch, cell, per_row) as i64).collect();
        labels.in_answer = cells.iter().map(|&cell| before[cell] != IGNORE).collect();
        labels
    }

    /// The log-probability of each answer, f64 `[answers]`, from the losses of all labels. Summed in f64: what is trained
    /// on is the difference of such sums.
    pub fn logps(&self, losses: &Tensor) -> Result<Tensor> {
        let device = losses.device();
        let mut logps = losses.f_neg()?.f_to_kind(Dtype::Double)?;
        if self.in_answer.contains(&false) {
            let mask: Vec<f64> = self.in_answer.iter().map(|&on| f64::from(u8::from(on))).collect();
            logps = logps.f_mul(&host(&mask, device)?)?;
        }
        let answer_of = Tensor::f_from_slice(&self.answer_of)?.f_to_device(device)?;
        let zeros = Tensor::f_zeros([self.answers as i64], (Dtype::Double, device))?;
        Ok(zeros.f_index_add(0, &answer_of, &logps)?)
    }

    /// The sum of the losses of all labels of the first answer of each row, and their number.
    pub fn chosen_loss(&self, losses: &Tensor, per_row: usize) -> Result<(Tensor, f64)> {
        let is_chosen =
            self.answer_of.iter().map(|&answer| f64::from(u8::from((answer as usize).is_multiple_of(per_row))));
        let mask: Vec<f64> = is_chosen.collect();
        let count = mask.iter().sum();
        Ok((losses.f_to_kind(Dtype::Double)?.f_dot(&host(&mask, losses.device())?)?, count))
    }
}

/// The cells that are predicted, row after row.
fn labelled_cells(batch: &Batch) -> impl Iterator<Item = usize> + '_ {
    (0..batch.cells()).filter(|cell| !cell.is_multiple_of(batch.seq_len.max(1)) && batch.labels[*cell] != IGNORE)
}

fn answer_of_cell(batch: &Batch, cell: usize, per_row: usize) -> usize {
    let segment = batch.segments.as_ref().map_or(0, |segments| segments[cell].max(0) as usize);
    cell / batch.seq_len.max(1) * per_row + segment.min(per_row - 1)
}

/// f64 `[values]` on `device`.
pub fn host(values: &[f64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
}

/// The values of a tensor without its graph.
pub fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(tensor.f_detach()?.f_to_kind(Dtype::Double)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of two documents: prompt 1 2, answers of one and two tokens; the second row is shorter.
    fn pairs() -> Batch {
        let x = IGNORE;
        Batch {
            rows: 2,
            seq_len: 7,
            input_ids: vec![1, 2, 3, 1, 2, 4, 5, 1, 6, 1, 7, 8, 0, 0],
            labels: vec![x, x, 3, x, x, 4, 5, x, 6, x, 7, 8, x, x],
            position_ids: vec![0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 0],
            segments: Some(vec![0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, -1, -1]),
            weights: None,
            samples: None,
            shares_prefixes: false,
            part_of: None,
        }
    }

    #[test]
    fn losses_are_summed_by_answer() {
        let labels = AnswerLabels::of(&pairs(), 2);
        assert_eq!(labels.counts, [1.0, 2.0, 1.0, 2.0]);
        let losses = Tensor::from_slice(&[1_f32, 2.0, 4.0, 8.0, 16.0, 32.0]);
        assert_eq!(values(&labels.logps(&losses).unwrap()).unwrap(), [-1.0, -6.0, -8.0, -48.0]);
        let (sum, count) = labels.chosen_loss(&losses, 2).unwrap();
        assert_eq!((sum.double_value(&[]), count), (9.0, 2.0));
    }

    #[test]
    fn prompts_of_chosen_answers_have_labels_that_the_answers_do_not_count() {
        let mut batch = pairs();
        let labels = AnswerLabels::with_chosen_prompts(&mut batch, 2);
        let x = IGNORE;
        assert_eq!(batch.labels, [x, 2, 3, x, x, 4, 5, x, 6, x, 7, 8, x, x]);
        assert_eq!(labels.counts, [1.0, 2.0, 1.0, 2.0]);
        let losses = Tensor::from_slice(&[100_f32, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        assert_eq!(values(&labels.logps(&losses).unwrap()).unwrap(), [-1.0, -6.0, -8.0, -48.0]);
        let (sum, count) = labels.chosen_loss(&losses, 2).unwrap();
        assert_eq!((sum.double_value(&[]), count), (109.0, 3.0));
    }
}
