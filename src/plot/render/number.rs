//! Tick labels: as few digits as distinguish them, "40M" for parameters.

use crate::plot::charts::chart::Numbers;

/// The labels of the ticks at `values`. `each` gives every value its own number of
/// decimals (0.1, 1, 10 on a log axis), otherwise all get the same (0.50, 0.75).
pub fn labels(values: &[f64], style: Numbers, each: bool) -> Vec<String> {
    let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let smallest =
        values.iter().filter(|value| **value != 0.0).fold(f64::INFINITY, |least, value| least.min(value.abs()));
    let gap = smallest_gap(values);
    let tiny = largest > 0.0 && (largest < 1e-3 || (each && smallest < 1e-3));
    let write: Box<dyn Fn(f64) -> String> = match style {
        Numbers::Short if largest < 1e15 && !tiny => Box::new(move |value| short(value, tolerance(value, gap, each))),
        Numbers::Auto if (1e6..1e15).contains(&largest) && !tiny => {
            Box::new(move |value| short(value, tolerance(value, gap, each)))
        }
        Numbers::Plain if largest < 1e15 => grouped_writer(values, gap, each),
        Numbers::Auto if !tiny && largest < 1e6 => grouped_writer(values, gap, each),
        _ => Box::new(move |value| scientific(value, tolerance(value, gap, each))),
    };
    values.iter().map(|value| write(*value)).collect()
}

/// `value` with thousands separators and `decimals` digits after the point: "−12,345.60".
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (integer, part) = text.split_once('.').map_or((text.as_str(), ""), |(integer, part)| (integer, part));
    let integer = crate::format::grouped(integer);
    let shows_something = text.chars().any(|character| ('1'..='9').contains(&character));
    let sign = if value < 0.0 && shows_something { "−" } else { "" };
    let point = if part.is_empty() { "" } else { "." };
    format!("{sign}{integer}{point}{part}")
}

/// `values` with the decimals that show about three digits of the largest, as in the cells of a heatmap.
pub fn significant(values: &[f64]) -> Vec<String> {
    let finite = values.iter().filter(|value| value.is_finite());
    let largest = finite.fold(0.0_f64, |most, value| most.max(value.abs()));
    if largest > 0.0 && !(1e-3..1e6).contains(&largest) {
        return values.iter().map(|value| scientific(*value, value.abs() * 0.05)).collect();
    }
    let decimals = if largest > 0.0 { (2.0 - largest.log10().floor()).clamp(0.0, 5.0) as usize } else { 0 };
    let is_integer = values.iter().all(|value| value.fract() == 0.0 || !value.is_finite());
    values.iter().map(|value| grouped(*value, if is_integer { 0 } else { decimals })).collect()
}

/// How far a label may deviate from its value: a hundredth of the gap between neighbours.
fn tolerance(value: f64, gap: f64, each: bool) -> f64 {
    if each {
        value.abs() * 0.004
    } else {
        gap * 0.01
    }
}

fn grouped_writer(values: &[f64], gap: f64, each: bool) -> Box<dyn Fn(f64) -> String> {
    let shared = values.iter().map(|value| decimals(*value, tolerance(*value, gap, each))).max().unwrap_or(0);
    Box::new(move |value| grouped(value, if each { decimals(value, tolerance(value, gap, each)) } else { shared }))
}

/// "40M", "8.8K", "1.25B".
fn short(value: f64, tolerance: f64) -> String {
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let (unit, suffix) = units.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    let scaled = value / unit;
    format!("{}{suffix}", grouped(scaled, decimals(scaled, tolerance / unit)))
}

/// "2e-4", "1.5e18".
fn scientific(value: f64, tolerance: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let unit = 10f64.powf(value.abs().log10().floor());
    let digits = decimals(value / unit, tolerance / unit);
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{:.digits$e}", value.abs())
}

/// The fewest decimals that bring a label within `tolerance` of `value`.
fn decimals(value: f64, tolerance: f64) -> usize {
    let near = |count: &i32| {
        let unit = 10f64.powi(*count);
        ((value * unit).round() / unit - value).abs() <= tolerance
    };
    (0..12).find(near).unwrap_or(12) as usize
}

fn smallest_gap(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let gaps = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0);
    let least = gaps.fold(f64::INFINITY, f64::min);
    if least.is_finite() {
        least
    } else {
        sorted.first().map_or(1.0, |value| value.abs() * 0.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_as_few_digits_as_distinguish_them() {
        let auto = |values: &[f64]| labels(values, Numbers::Auto, false);
        assert_eq!(auto(&[0.5, 0.75, 1.0]), ["0.50", "0.75", "1.00"]);
        assert_eq!(auto(&[0.0, 5000.0, 10000.0]), ["0", "5,000", "10,000"]);
        assert_eq!(auto(&[-0.2, 0.0, 0.2]), ["−0.2", "0.0", "0.2"]);
        assert_eq!(auto(&[0.0, 2e6, 4e6]), ["0", "2M", "4M"]);
        assert_eq!(auto(&[0.0, 2e-5, 4e-5]), ["0", "2e-5", "4e-5"]);
        assert_eq!(auto(&[-1e20, 0.0, 1e20]), ["−1e20", "0", "1e20"]);
        assert_eq!(auto(&[1.0000001, 1.0000002]), ["1.0000001", "1.0000002"]);
    }

    #[test]
    fn log_axes_give_each_label_its_own_digits() {
        let each = |values: &[f64], style| labels(values, style, true);
        assert_eq!(each(&[0.1, 1.0, 10.0, 1000.0], Numbers::Auto), ["0.1", "1", "10", "1,000"]);
        assert_eq!(each(&[1e-5, 1e-4, 2e-4, 0.01], Numbers::Auto), ["1e-5", "1e-4", "2e-4", "1e-2"]);
        assert_eq!(each(&[1e-9, 1.0, 1e12], Numbers::Auto), ["1e-9", "1e0", "1e12"]);
        assert_eq!(each(&[500.0, 5e4, 4.037e7, 2e9], Numbers::Short), ["500", "50K", "40.4M", "2B"]);
    }

    #[test]
    fn cells_show_three_digits() {
        assert_eq!(significant(&[1.2345, 0.5]), ["1.23", "0.50"]);
        assert_eq!(significant(&[3.0, 120.0]), ["3", "120"]);
        assert_eq!(significant(&[1234.5, 2.0]), ["1,234", "2"]);
        assert_eq!(significant(&[1.5e-5]), ["1.5e-5"]);
    }

    #[test]
    fn separators_stand_at_thousands_only() {
        assert_eq!(grouped(1234567.0, 0), "1,234,567");
        assert_eq!(grouped(-999.5, 1), "−999.5");
        assert_eq!(grouped(-0.001, 1), "0.0");
    }
}
