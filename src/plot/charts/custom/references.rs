//! What is drawn beside the data: lines, bands and texts at values of the axes.

use super::super::chart::{Annotation, Band, Line};
use super::axes::Positions;
use super::columns::Cell;
use super::options::{AnnotationOptions, BandOptions, ReferenceOptions};
use crate::bail;
use crate::error::{Kind, Result};
use crate::options::Value;
use crate::suggest;

/// # Errors
/// Neither x nor y, or both; a value that the axis does not have.
pub fn line(options: &ReferenceOptions, (x, y): (&Positions, &Positions)) -> Result<Line> {
    let label = options.label.clone();
    match (&options.x, &options.y) {
        (Some(value), None) => Ok(Line::Vertical { x: position("lines.x", value, x)?, label }),
        (None, Some(value)) => Ok(Line::Horizontal { y: position("lines.y", value, y)?, label }),
        _ => {
            bail!(Kind::Input, "chart: option `lines`: expected x or y in each line"; hint: "as in lines: [#{{ y: 0.5, label: \"chance\" }}]")
        }
    }
}

/// # Errors
/// Neither x nor y, or both; not two ends in order.
pub fn band(options: &BandOptions, (x, y): (&Positions, &Positions)) -> Result<Band> {
    let label = options.label.clone();
    match (&options.x, &options.y) {
        (Some(ends), None) => {
            let (low, high) = both_ends("bands.x", ends, x)?;
            Ok(Band::Vertical { low, high, label })
        }
        (None, Some(ends)) => {
            let (low, high) = both_ends("bands.y", ends, y)?;
            Ok(Band::Horizontal { low, high, label })
        }
        _ => {
            bail!(Kind::Input, "chart: option `bands`: expected x or y in each band"; hint: "as in bands: [#{{ y: [0.4, 0.6], label: \"noise\" }}]")
        }
    }
}

fn both_ends(option: &str, ends: &[Value], positions: &Positions) -> Result<(f64, f64)> {
    let [low, high] = ends else {
        bail!(
            Kind::Input,
            "chart: option `{option}`: expected [low, high], found {}",
            Value::Array(ends.to_vec()).describe()
        )
    };
    let (low, high) = (position(option, low, positions)?, position(option, high, positions)?);
    // A band from name to name has both of them in it; names on the y axis read from the top.
    let margin = if positions.has_names() { 0.5 } else { 0.0 };
    Ok((low.min(high) - margin, low.max(high) + margin))
}

/// # Errors
/// A point that the axes do not have, or an unknown panel.
pub fn annotation(
    options: &AnnotationOptions,
    (x, y): (&Positions, &Positions),
    panels: &[String],
) -> Result<Annotation> {
    let (at_x, at_y) = (position("annotations.x", &options.x, x)?, position("annotations.y", &options.y, y)?);
    let panel = match &options.facet {
        None => None,
        Some(value) => {
            let name = Cell::of(value).unwrap_or(Cell::Missing).name();
            let Some(panel) = panels.iter().position(|panel| *panel == name) else {
                bail!(Kind::Input, "chart: option `annotations.facet`: no panel `{name}`"; hint: "{}", suggest::hint(&name, panels.iter().map(String::as_str)))
            };
            Some(panel)
        }
    };
    Ok(Annotation { x: at_x, y: at_y, text: options.text.clone(), panel })
}

/// Where a value lies on an axis.
fn position(option: &str, value: &Value, positions: &Positions) -> Result<f64> {
    let cell = Cell::of(value).unwrap_or(Cell::Missing);
    // Between names, a number is a position.
    let at = positions.at(&cell);
    if at.is_finite() {
        return Ok(at);
    }
    let expected = if positions.has_names() { "a name of the axis" } else { "a finite number" };
    bail!(Kind::Input, "chart: option `{option}`: expected {expected}, found {}", value.describe())
}
