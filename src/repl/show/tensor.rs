//! Prints a tensor: shape, dtype, device, range, and its first and last rows and columns.

use super::Screen;
use crate::model::device::device_name;
use crate::script::Handle;
use crate::table::{pad, truncate, width, Align};
use crate::Result;
use tch::{Kind as Dtype, Tensor};

/// A dimension of at most `WHOLE` entries is shown in full, of a longer one `EDGE` at each end.
const WHOLE: i64 = 8;
const EDGE: i64 = 3;

pub fn line(handle: &Handle<Tensor>) -> String {
    match handle.read() {
        Ok(tensor) => format!("Tensor {:?} {} {}", tensor.size(), dtype(tensor.kind()), device_name(tensor.device())),
        Err(error) => error.to_string(),
    }
}

pub fn show(handle: &Handle<Tensor>, screen: &Screen) -> String {
    let described = handle.read().and_then(|tensor| {
        let gradient = if tensor.requires_grad() { ", with gradient" } else { "" };
        let range = range(&tensor).map(|range| format!(", {range}"))?;
        let lines: Vec<String> = corners(&tensor)?.iter().map(|line| truncate(line, screen.columns)).collect();
        Ok(format!("{}{range}{gradient}\n{}", line(handle), lines.join("\n")))
    });
    described.unwrap_or_else(|error| format!("{}\n{error}", line(handle)))
}

fn dtype(kind: Dtype) -> String {
    match kind {
        Dtype::Float => "f32".to_string(),
        Dtype::Double => "f64".to_string(),
        Dtype::Half => "f16".to_string(),
        Dtype::BFloat16 => "bf16".to_string(),
        Dtype::Int64 => "i64".to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Smallest, largest and mean of the finite numbers, and how many are not.
fn range(tensor: &Tensor) -> Result<String> {
    if tensor.numel() == 0 {
        return Ok("no entries".to_string());
    }
    let values = tensor.f_detach()?;
    let finite = values.f_isfinite()?;
    let not_finite = values.numel() as i64 - finite.f_sum(Dtype::Int64)?.f_int64_value(&[])?;
    if not_finite == values.numel() as i64 {
        return Ok(format!("{not_finite} NaN or infinite"));
    }
    let values = if not_finite > 0 { values.f_masked_select(&finite)? } else { values };
    let number = |value: Tensor| value.f_double_value(&[]);
    let (low, high) = (number(values.f_min()?)?, number(values.f_max()?)?);
    let mean = number(values.f_mean(Dtype::Double)?)?;
    let not_finite = if not_finite > 0 { format!(", {not_finite} NaN or infinite") } else { String::new() };
    Ok(format!("{} to {}, mean {}{not_finite}", short(low), short(high), short(mean)))
}

/// Four significant digits without trailing zeros.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == value.trunc() && size < 1e6 {
        return format!("{value}");
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i64).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// The first matrix, its middle rows and columns left out.
fn corners(tensor: &Tensor) -> Result<Vec<String>> {
    if tensor.numel() == 0 {
        return Ok(Vec::new());
    }
    let mut matrix = tensor.f_detach()?;
    let leading = matrix.dim().saturating_sub(2);
    for _ in 0..leading {
        matrix = matrix.f_select(0, 0)?;
    }
    while matrix.dim() < 2 {
        matrix = matrix.f_unsqueeze(0)?;
    }
    let (rows, columns) = (kept(matrix.size()[0]), kept(matrix.size()[1]));
    let mut cells = Vec::new();
    for row in &rows {
        cells.push(columns.iter().map(|column| cell(&matrix, *row, *column)).collect::<Result<Vec<_>>>()?);
    }
    let mut lines = aligned(&cells);
    if leading > 0 {
        lines.insert(0, format!("[{}…] =", "0, ".repeat(leading)));
    }
    Ok(lines)
}

/// The indices to show of a dimension; `None` stands for those left out.
fn kept(size: i64) -> Vec<Option<i64>> {
    if size <= WHOLE {
        return (0..size).map(Some).collect();
    }
    (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
}

fn cell(matrix: &Tensor, row: Option<i64>, column: Option<i64>) -> Result<String> {
    match (row, column) {
        (Some(row), Some(column)) => Ok(short(matrix.f_double_value(&[row, column])?)),
        _ => Ok("…".to_string()),
    }
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let widest = rows.iter().flatten().map(|cell| width(cell)).max().unwrap_or(0);
    let line = |row: &Vec<String>| row.iter().map(|cell| pad(cell, widest, Align::Right)).collect::<Vec<_>>();
    rows.iter().map(|row| format!("  {}", line(row).join("  "))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown;
    use super::short;

    #[test]
    fn shape_dtype_device_range_and_corners() {
        let text = shown("tensor([[1.0, -2.5], [3.0, 4.0]])");
        assert_eq!(text, "Tensor [2, 2] f32 cpu, -2.5 to 4, mean 1.375\n     1  -2.5\n     3     4");
        let text = shown("let row = []; for i in 0..100 { row.push(i); } tensor([row, row])");
        assert!(
            text.starts_with("Tensor [2, 100] f32 cpu, 0 to 99, mean 49.5\n   0   1   2   …  97  98  99"),
            "{text}"
        );
        assert!(shown("tensor([[[1.0]], [[2.0]]])").ends_with("[0, …] =\n  1"));
    }

    #[test]
    fn nan_and_infinity_are_counted() {
        let text = shown("(tensor([0.0, 1.0, 2.0]) - 0.5).log()");
        assert!(text.contains(", 1 NaN or infinite\n") && text.contains("NaN"), "{text}");
        assert!(shown("tensor([])").contains("no entries"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([short(2.0), short(0.123456), short(1e-9), short(1234.56)], ["2", "0.1235", "1.000e-9", "1235"]);
        assert_eq!([short(f64::NAN), short(99999.96)], ["NaN", "100000"]);
    }
}
