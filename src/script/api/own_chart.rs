//! Charts of any data that a script has: marks of arrays, of rows, or of a sweep's rows.

use crate::bail;
use crate::error::Kind;
use crate::options;
use crate::options::{OneOrMany, OptionSet, OptionType};
use crate::plot::custom::{
    self, AnnotationOptions, BandOptions, BarsOptions, BoxOptions, FigureOptions, HeatmapOptions, HistogramOptions,
    LineOptions, MarkKind, MarkOptions, PointsOptions, ReferenceOptions, References, StripOptions,
};
use crate::plot::FontFile;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::to_value;
use crate::script::values::handles::Handle;
use crate::script::values::json;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::sweep::SweepResult;
use crate::Result;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use std::path::Path;

options! {
    #[derive(Debug, Clone)]
    struct ChartCall {
        /// A line through points in the order of x.
        line: Option<OptionsOf<LineOptions>> = None, words "none";
        /// Points, as of a scatter plot.
        points: Option<OptionsOf<PointsOptions>> = None, alias ["scatter"], words "none";
        /// Bars with intervals.
        bars: Option<OptionsOf<BarsOptions>> = None, alias ["bar"], words "none";
        /// How often values occur.
        histogram: Option<OptionsOf<HistogramOptions>> = None, alias ["hist"], words "none";
        /// Median, quartiles and range of values.
        r#box: Option<OptionsOf<BoxOptions>> = None, name "box", alias ["boxplot"], words "none";
        /// Each value as a point over its name.
        strip: Option<OptionsOf<StripOptions>> = None, alias ["stripplot"], words "none";
        /// A value for each pair of names, as a colour.
        heatmap: Option<OptionsOf<HeatmapOptions>> = None, words "none";
        /// Several marks: maps with `mark: "line"` (or points, bars, histogram, box, strip, heatmap) and that mark's options.
        marks: Vec<Map> = Vec::new();
        figure: FigureOptions = FigureOptions::default(), is set;
        /// Lines over the whole panel: maps with `x` or `y`, and a `label`.
        lines: Vec<OptionsOf<ReferenceOptions>> = Vec::new();
        /// Shaded ranges: maps with `x: [low, high]` or `y: [low, high]`, and a `label`.
        bands: Vec<OptionsOf<BandOptions>> = Vec::new();
        /// Texts beside points: maps with `x`, `y`, `text`, and the `facet` that shows it.
        annotations: Vec<OptionsOf<AnnotationOptions>> = Vec::new();
        /// A file, or several, to write: .svg, .png or .pdf.
        out: OneOrMany<String> = OneOrMany(Vec::new()), words "none: `save` writes it";
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("chart", ChartCall::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A chart, to be saved as SVG, PNG or PDF.
    pub type Chart = crate::plot::Chart;

    /// A chart of any data: lines, points, bars, histograms, boxes, strips and heatmaps.
    ///
    /// Data are arrays, or columns of `data` by their names: an array of maps, a map of arrays, or a sweep's result. `by` gives
    /// each value of a column its colour, `facet` its panel. Values that cannot be drawn are left out, and counted below the
    /// chart. docs/gallery.md shows every mark.
    ///
    /// ```rhai
    /// let rows = [#{ rank: 4, loss: 1.32, model: "small" }, #{ rank: 8, loss: 1.21, model: "small" },
    ///             #{ rank: 4, loss: 1.12, model: "large" }, #{ rank: 8, loss: 1.06, model: "large" }];
    /// chart(#{
    ///     data: rows,
    ///     line: #{ x: "rank", y: "loss", by: "model" },
    ///     y_label: "loss (nats per token)", x_ticks: [4, 8],
    ///     lines: [#{ y: 1.4, label: "without an adapter" }],
    ///     out: ["runs/loss.svg", "runs/loss.pdf"] });
    /// ```
    #[rhai_fn(name = "chart", return_raw, volatile)]
    pub fn own_chart(context: NativeCallContext, options: Map) -> RhaiResultOf<Chart> {
        let mut options = options;
        rows_of_sweeps(&mut options)?;
        let call: ChartCall = Options::read("chart", options)?;
        let state = State::of(&context)?;
        let font = call.figure.font.as_ref().map(|font| FontFile::read(Path::new(&state.to_read(font)))).transpose()?;
        let (marks, references) = (call.marks()?, call.references()?);
        let chart = custom::build(&call.figure, marks, &references, font)?;
        // Drawn once, so that data that leaves nothing to draw is refused here and not at `save`.
        chart.ensure_drawable()?;
        for path in call.out.iter() {
            chart.save(&state.file_to_write(path)?)?;
        }
        Ok(chart)
    }
}

/// Puts the rows of a sweep where its result is the data, in the chart and in its marks.
fn rows_of_sweeps(options: &mut Map) -> Result<()> {
    for (key, value) in options.iter_mut() {
        let result = value.read_lock::<Handle<SweepResult>>().map(|result| result.clone());
        if let (Some(result), "data") = (result, key.as_str()) {
            let rows = result.read()?.rows_as_objects();
            *value = rows.iter().map(|row| Dynamic::from_map(json::to_map(row))).collect::<Array>().into();
        } else if value.is_map() {
            value.write_lock::<Map>().map_or(Ok(()), |mut map| rows_of_sweeps(&mut map))?;
        } else if key == "marks" && value.is_array() {
            let mut marks = value.write_lock::<Array>();
            for mark in marks.iter_mut().flat_map(|marks| marks.iter_mut()) {
                mark.write_lock::<Map>().map_or(Ok(()), |mut map| rows_of_sweeps(&mut map))?;
            }
        }
    }
    Ok(())
}

impl ChartCall {
    /// The marks in the order in which they are drawn.
    fn marks(&self) -> Result<Vec<MarkOptions>> {
        let by_key = [
            (MarkKind::Heatmap, self.heatmap.as_ref().map(|options| &options.values)),
            (MarkKind::Bars, self.bars.as_ref().map(|options| &options.values)),
            (MarkKind::Histogram, self.histogram.as_ref().map(|options| &options.values)),
            (MarkKind::Box, self.r#box.as_ref().map(|options| &options.values)),
            (MarkKind::Line, self.line.as_ref().map(|options| &options.values)),
            (MarkKind::Strip, self.strip.as_ref().map(|options| &options.values)),
            (MarkKind::Points, self.points.as_ref().map(|options| &options.values)),
        ];
        let mut marks = vec![];
        for (kind, values) in by_key {
            marks.extend(values.map(|values| read_mark(kind, values.clone())).transpose()?);
        }
        for values in &self.marks {
            let mut values = values.clone();
            let Some(name) = values.remove("mark") else {
                bail!(Kind::Input, "chart: option `marks`: expected `mark` in each map, found {}", to_value(&Dynamic::from_map(values)).describe();
                    hint: "as in marks: [#{{ mark: \"line\", x: …, y: … }}]")
            };
            let name = to_value(&name);
            let kind = MarkKind::from_value(&name)
                .map_err(|mismatch| mismatch.error("chart: option `marks.mark`", &plain(&name)))?;
            marks.push(read_mark(kind, values)?);
        }
        Ok(marks)
    }

    fn references(&self) -> Result<References> {
        let lines = self.lines.iter().map(|line| Options::read_inner("chart", "lines", line.values.clone()));
        let bands = self.bands.iter().map(|band| Options::read_inner("chart", "bands", band.values.clone()));
        let notes =
            self.annotations.iter().map(|note| Options::read_inner("chart", "annotations", note.values.clone()));
        Ok(References {
            lines: lines.collect::<Result<_>>()?,
            bands: bands.collect::<Result<_>>()?,
            annotations: notes.collect::<Result<_>>()?,
        })
    }
}

/// As a message quotes it.
fn plain(value: &options::Value) -> String {
    value.as_str().map_or_else(|| value.literal(), str::to_owned)
}

fn read_mark(kind: MarkKind, values: Map) -> Result<MarkOptions> {
    Ok(match kind {
        MarkKind::Line => MarkOptions::Line(read("line", values)?),
        MarkKind::Points => MarkOptions::Points(read("points", values)?),
        MarkKind::Bars => MarkOptions::Bars(read("bars", values)?),
        MarkKind::Histogram => MarkOptions::Histogram(read("histogram", values)?),
        MarkKind::Box => MarkOptions::Box(read("box", values)?),
        MarkKind::Strip => MarkOptions::Strip(read("strip", values)?),
        MarkKind::Heatmap => MarkOptions::Heatmap(read("heatmap", values)?),
    })
}

fn read<T: OptionSet + Default>(name: &str, values: Map) -> Result<T> {
    Options::read_inner("chart", name, values)
}
