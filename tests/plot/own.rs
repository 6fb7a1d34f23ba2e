//! `chart(#{ … })`: positions, sizes and colours of marks read back from the SVG, the PDF, and what is refused.

use super::svg;
use lorhai::plot::Chart;
use lorhai::script::{on_large_stack, Session};
use regex::Regex;
use std::io::Read as _;

/// The chart that a script makes of these options.
fn chart(options: &str) -> Chart {
    let source = format!("chart(#{{ {options} }})");
    let run = move || Session::new().run_source("case.rhai", &source).map(|value| value.cast::<Chart>());
    on_large_stack(run).unwrap().unwrap_or_else(|failure| panic!("{failure}"))
}

fn svg_of(options: &str) -> String {
    let text = chart(options).to_svg().unwrap();
    svg::assert_well_formed(&text);
    text
}

/// The message and the hint of the error.
fn refusal(options: &str) -> String {
    let source =
        format!("try {{ chart(#{{ {options} }}); }} catch (err) {{ print(`${{err.message}} | ${{err.hint}}`); }}");
    let run = move || {
        let mut session = Session::new();
        session.capture_prints();
        session.run_source("case.rhai", &source).map(|_| session.printed())
    };
    on_large_stack(run).unwrap().unwrap_or_else(|failure| panic!("{failure}"))
}

/// The centres of the circles of a colour, without their rims.
fn circles(svg: &str, colour: &str) -> Vec<(f64, f64)> {
    let circle = Regex::new(r#"<circle cx="(-?\d+)" cy="(-?\d+)"[^>]*fill="(#\w+)""#).unwrap();
    let all = circle.captures_iter(svg).filter(|captures| &captures[3] == colour);
    all.map(|captures| (captures[1].parse().unwrap(), captures[2].parse().unwrap())).collect()
}

/// Left, top, right and bottom of each polygon of a colour.
fn boxes(svg: &str, colour: &str) -> Vec<[f64; 4]> {
    let polygon = Regex::new(r#"<polygon ([^>]*)/>"#).unwrap();
    let all = polygon.captures_iter(svg).filter(|captures| captures[1].contains(&format!("fill=\"{colour}\"")));
    all.map(|captures| {
        let spots = svg::spots(&captures[1]);
        let fold = |start: f64, pick: fn(f64, f64) -> f64, part: fn(&(f64, f64)) -> f64| {
            spots.iter().map(part).fold(start, pick)
        };
        let (left, right) = (fold(f64::MAX, f64::min, |spot| spot.0), fold(f64::MIN, f64::max, |spot| spot.0));
        [left, fold(f64::MAX, f64::min, |spot| spot.1), right, fold(f64::MIN, f64::max, |spot| spot.1)]
    })
    .collect()
}

const BLUE: &str = "#0072B2";
const VERMILION: &str = "#D55E00";

fn near(one: f64, two: f64, tolerance: f64) -> bool {
    (one - two).abs() <= tolerance
}

#[test]
fn points_lie_where_their_values_are() {
    let text = svg_of("points: #{ x: [0, 10, 20, 40], y: [1.0, 3.0, 2.0, 5.0] }");
    let spots = circles(&text, BLUE);
    let (x_unit, y_unit) = ((spots[1].0 - spots[0].0) / 10.0, (spots[1].1 - spots[0].1) / 2.0);
    assert!(x_unit > 0.0 && y_unit < 0.0, "{spots:?}");
    for ((x, y), (value_x, value_y)) in spots.iter().zip([(0.0, 1.0), (10.0, 3.0), (20.0, 2.0), (40.0, 5.0)]) {
        assert!(near(*x, spots[0].0 + x_unit * value_x, 2.0) && near(*y, spots[0].1 + y_unit * (value_y - 1.0), 2.0));
    }
    let text = svg_of("points: #{ x: [1, 10, 100, 1000], y: [1, 2, 3, 4] }, x_scale: \"log\"");
    let spots = circles(&text, BLUE);
    let gaps: Vec<f64> = spots.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(near(gaps[0], gaps[1], 2.0) && near(gaps[1], gaps[2], 2.0), "{gaps:?}");
}

#[test]
fn bars_stand_on_zero_and_reach_their_values() {
    let text = svg_of("bars: #{ x: [\"a\", \"b\", \"c\"], y: [1, 2, 4], error: [0.1, 0.2, 0.4] }");
    let bars = boxes(&text, BLUE);
    let heights: Vec<f64> = bars.iter().map(|[_, top, _, bottom]| bottom - top).collect();
    assert_eq!(bars.len(), 3);
    assert!(bars.iter().all(|bar| bar[3] == bars[0][3]), "they stand on one line: {bars:?}");
    assert!(near(heights[1] / heights[0], 2.0, 0.02) && near(heights[2] / heights[0], 4.0, 0.04), "{heights:?}");
    let centres: Vec<f64> = bars.iter().map(|[left, _, right, _]| (left + right) / 2.0).collect();
    assert!(near(centres[1] - centres[0], centres[2] - centres[1], 0.2));
    // Lying bars have the same lengths, and the first name is at the top.
    let text = svg_of("bars: #{ y: [\"a\", \"b\", \"c\"], x: [1, 2, 4], orient: \"h\" }");
    let bars = boxes(&text, BLUE);
    let lengths: Vec<f64> = bars.iter().map(|[left, _, right, _]| right - left).collect();
    let by_top = |one: &usize, two: &usize| bars[*one][1].total_cmp(&bars[*two][1]);
    let mut order: Vec<usize> = (0..3).collect();
    order.sort_by(by_top);
    let from_top: Vec<f64> =
        order.iter().map(|index| lengths[*index] / lengths.iter().copied().fold(f64::MAX, f64::min)).collect();
    assert!(near(from_top[1], 2.0, 0.02) && near(from_top[2], 4.0, 0.04), "{from_top:?}");
    // Bars of two series stand side by side, and below zero hang from it.
    let text = svg_of("bars: #{ x: [\"a\", \"a\"], y: [1, -1], by: [\"one\", \"two\"] }");
    let (one, two) = (boxes(&text, BLUE)[0], boxes(&text, VERMILION)[0]);
    assert!(near(one[3], two[1], 0.2) && one[2] <= two[0] + 0.2, "{one:?} {two:?}");
}

#[test]
fn bars_show_the_mean_of_their_rows() {
    let rows = "[#{ x: \"a\", y: 1.0 }, #{ x: \"a\", y: 3.0 }, #{ x: \"b\", y: 4.0 }]";
    let text = svg_of(&format!("data: {rows}, bars: #{{ x: \"x\", y: \"y\", estimator: \"mean\" }}"));
    let heights: Vec<f64> = boxes(&text, BLUE).iter().map(|[_, top, _, bottom]| bottom - top).collect();
    assert!(near(heights[1] / heights[0], 2.0, 0.02), "{heights:?}");
    assert!(text.contains("Mean of the rows at each place; interval: ± 1 standard deviation."));
    let message = refusal(&format!("data: {rows}, bars: #{{ x: \"x\", y: \"y\" }}"));
    assert!(message.contains("found rows 0 and 1 for `a`") && message.contains("estimator"), "{message}");
}

#[test]
fn histograms_count() {
    // numpy.histogram([1, 2, 2, 3, 4], bins=3): 1, 2, 2
    let text = svg_of("histogram: #{ x: [1, 2, 2, 3, 4, ()], bins: 3 }");
    let bars = boxes(&text, BLUE);
    let heights: Vec<f64> = bars.iter().map(|[_, top, _, bottom]| bottom - top).collect();
    assert!(bars.len() == 3 && near(heights[1] / heights[0], 2.0, 0.02) && near(heights[2], heights[1], 0.2));
    assert!(bars.windows(2).all(|pair| near(pair[0][2], pair[1][0], 1.2)), "they touch: {bars:?}");
    assert!(text.contains("Not drawn: 1 value"));
    // The area of a density is 1 whatever the bins are.
    let text = svg_of("histogram: #{ x: [0.5, 1.5, 1.6, 1.7], bins: [0, 1, 3], stat: \"density\" }");
    let bars = boxes(&text, BLUE);
    let areas: Vec<f64> = bars.iter().map(|[left, top, right, bottom]| (right - left) * (bottom - top)).collect();
    assert!(near(areas[1] / areas[0], 3.0, 0.05), "{areas:?}");
}

#[test]
fn boxes_show_quartiles_and_outliers() {
    let text =
        svg_of("box: #{ y: [1, 2, 3, 4, 5, 20] }, points: #{ x: [\"\", \"\"], y: [2.25, 4.75], name: \"quartiles\" }");
    // The second look has square markers.
    let quartiles: Vec<f64> = boxes(&text, VERMILION).iter().map(|[_, top, _, bottom]| (top + bottom) / 2.0).collect();
    let filled = Regex::new(r#"<polygon [^>]*/>"#).unwrap();
    let spots = svg::spots(filled.find(&text).unwrap().as_str());
    let (top, bottom) = spots.iter().fold((f64::MAX, f64::MIN), |(top, bottom), (_, y)| (top.min(*y), bottom.max(*y)));
    assert!(near(top, quartiles[1].min(quartiles[0]), 0.3) && near(bottom, quartiles[0].max(quartiles[1]), 0.3));
    assert_eq!(circles(&text, BLUE).len(), 1, "one outlier");
}

#[test]
fn strips_stay_over_their_names() {
    let text = svg_of("strip: #{ x: [\"a\", \"a\", \"a\", \"b\", \"b\"], y: [1, 1, 1, 1, 2], jitter: 1.0 }");
    let mut xs: Vec<f64> = circles(&text, BLUE).iter().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    assert!(xs[2] < xs[3] && xs[0] != xs[1] && xs[1] != xs[2], "{xs:?}");
    let text = svg_of("strip: #{ x: [\"a\", \"a\"], y: [1, 2], jitter: 0 }");
    let spots = circles(&text, BLUE);
    assert_eq!(spots[0].0, spots[1].0);
}

#[test]
fn cells_darken_with_their_values_and_gaps_stay_grey() {
    let text = svg_of("heatmap: #{ value: [[1, 2], [3, ()]], x: [\"a\", \"b\"], y: [\"top\", \"low\"] }");
    let cell = Regex::new(r##"<polygon [^>]*fill="(#\w+)"[^>]*points="([^"]*)""##).unwrap();
    let all: Vec<(String, Vec<(f64, f64)>)> =
        cell.captures_iter(&text).map(|captures| (captures[1].to_owned(), svg::spots(&captures[2]))).collect();
    let wide: Vec<&(String, Vec<(f64, f64)>)> =
        all.iter().filter(|(_, spots)| spots[1].0 - spots[0].0 > 60.0).collect();
    assert_eq!(wide.len(), 4);
    let brightness = |colour: &str| u32::from_str_radix(&colour[1..3], 16).unwrap();
    let at = |is_left: bool, is_top: bool| {
        let middle = |index: usize| {
            wide.iter().map(|cell| if index == 0 { cell.1[0].0 } else { cell.1[0].1 }).sum::<f64>() / 4.0
        };
        let is_there = |cell: &&&(String, Vec<(f64, f64)>)| {
            (cell.1[0].0 < middle(0)) == is_left && (cell.1[0].1 < middle(1)) == is_top
        };
        wide.iter().find(is_there).unwrap().0.clone()
    };
    assert!(brightness(&at(true, true)) > brightness(&at(false, true)));
    assert!(brightness(&at(false, true)) > brightness(&at(true, false)));
    assert_eq!(at(false, false), "#E5E8EC", "the cell without a value");
    let texts: Vec<String> = svg::texts(&text).into_iter().map(|text| text.content).collect();
    assert!(["top", "low", "a", "b", "1", "2", "3"].iter().all(|wanted| texts.iter().any(|text| text == wanted)));
}

#[test]
fn panels_share_their_axes_unless_told_otherwise() {
    let data = "points: #{ x: [1, 2, 1, 2], y: [1, 2, 1, 4], facet: [\"one\", \"one\", \"two\", \"two\"] }, columns: 2";
    let spots = circles(&svg_of(data), BLUE);
    assert!(near(spots[0].1, spots[2].1, 0.5) && spots[1].1 > spots[3].1 && spots[2].0 > spots[1].0, "{spots:?}");
    let spots = circles(&svg_of(&format!("{data}, share_y: false")), BLUE);
    assert!(near(spots[1].1, spots[3].1, 0.5), "{spots:?}");
    let below = svg_of(&data.replace("columns: 2", "columns: 1"));
    let spots = circles(&below, BLUE);
    assert!(near(spots[0].0, spots[2].0, 0.5), "{spots:?}");
    let texts = svg::texts(&below);
    assert_eq!(texts.iter().filter(|text| text.content == "one" || text.content == "two").count(), 2);
}

#[test]
fn a_series_has_one_colour_in_all_marks_and_panels() {
    let rows = "[#{ x: 1, y: 1, k: 8, f: 0 }, #{ x: 2, y: 2, k: 8, f: 1 }, #{ x: 1, y: 3, k: 16, f: 1 }, #{ x: 2, y: 4, k: 16, f: 1 }]";
    let text = svg_of(&format!("data: {rows}, by: \"k\", facet: \"f\", points: #{{ x: \"x\", y: \"y\" }}"));
    // One in each panel and one in the legend.
    assert_eq!((circles(&text, BLUE).len(), circles(&text, VERMILION).len()), (3, 0));
    let texts: Vec<String> = svg::texts(&text).into_iter().map(|text| text.content).collect();
    assert_eq!(texts.iter().filter(|text| *text == "16").count(), 1, "{texts:?}");
    assert!(["f = 0", "f = 1", "k"].iter().all(|wanted| texts.iter().any(|text| text == wanted)), "{texts:?}");
}

#[test]
fn references_lie_at_their_values() {
    let text = svg_of(
        "points: #{ x: [0, 10], y: [0, 10] }, lines: [#{ y: 5, label: \"half\" }], bands: [#{ x: [2.5, 7.5], label: \"middle\" }], \
         annotations: [#{ x: 0, y: 0, text: \"origin\" }]",
    );
    let spots = circles(&text, BLUE);
    let band = boxes(&text, "#4B535C")[0];
    let (left, right) = (spots[0].0 / 10.0, spots[1].0 / 10.0);
    assert!(near(band[0], left + (right - left) / 4.0, 0.2) && near(band[2], right - (right - left) / 4.0, 0.2));
    let line = Regex::new(r##"<polyline [^>]*stroke="#4B535C"[^>]*points="([^"]*)""##).unwrap();
    let at = svg::spots(&line.captures(&text).unwrap()[1])[0].1;
    assert!(near(at, (spots[0].1 + spots[1].1) / 20.0, 0.2));
    let texts: Vec<String> = svg::texts(&text).into_iter().map(|text| text.content).collect();
    assert!(["half", "middle", "origin"].iter().all(|wanted| texts.iter().any(|text| text == wanted)), "{texts:?}");
}

#[test]
fn limits_ticks_and_labels_are_as_written() {
    let text = svg_of(
        "line: #{ x: [2, 4, 8], y: [1, 2, 3] }, x_scale: \"log2\", x_ticks: [2, 4, 8], y_limits: [0, 6], y_ticks: [0, 3, 6], \
         x_label: \"rank\", y_label: \"loss (nats per token)\"",
    );
    let texts: Vec<String> = svg::texts(&text).into_iter().map(|text| text.content).collect();
    for wanted in ["2", "4", "8", "0", "3", "6", "rank", "loss (nats per token)"] {
        assert!(texts.iter().any(|text| text == wanted), "no {wanted} in {texts:?}");
    }
    assert!(!texts.iter().any(|text| text == "5"));
}

#[test]
fn the_dark_theme_is_readable() {
    let text = svg_of("line: #{ y: [1, 2, 3], name: \"a\" }, title: \"dark\", theme: \"dark\", legend: \"right\"");
    let page = Regex::new(r##"<rect [^>]*fill="(#\w+)""##).unwrap().captures(&text).unwrap()[1].to_owned();
    let luminance = |colour: &str| {
        let part = |at: usize| f64::from(u32::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        let linear = |value: f64| if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
        0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
    };
    assert!(luminance(&page) < 0.02, "{page}");
    let colours = Regex::new(r##"<text [^>]*fill="(#\w+)""##).unwrap();
    let texts: Vec<String> = colours.captures_iter(&text).map(|captures| captures[1].to_owned()).collect();
    assert!(texts.len() > 4);
    for colour in texts {
        assert!((luminance(&colour) + 0.05) / (luminance(&page) + 0.05) >= 4.5, "{colour} on {page}");
    }
}

#[test]
fn texts_are_outlines_or_bring_their_font() {
    let outlines = svg_of("line: #{ y: [1, 2] }, title: \"Loss\", text: \"outlines\"");
    assert!(!outlines.contains("<text") && outlines.matches("<path ").count() >= 5);
    let embedded = chart("line: #{ y: [1, 2] }, title: \"Loss\", text: \"embedded\"").to_svg().unwrap();
    assert!(embedded.contains("@font-face{font-family:'Lorhai Sans'") && embedded.contains("Loss</text>"));
    let font = &embedded.split("base64,").nth(1).unwrap()[..6];
    assert_eq!(font, "T1RUTw", "OTTO, as OpenType fonts begin");
}

/// The streams of a PDF, decompressed.
fn streams(pdf: &[u8]) -> Vec<String> {
    let bytes = regex::bytes::Regex::new(r"(?s-u)stream\n(.*?)\nendstream").unwrap();
    bytes
        .captures_iter(pdf)
        .map(|captures| {
            let mut inflated = vec![];
            match flate2::read::ZlibDecoder::new(&captures[1]).read_to_end(&mut inflated) {
                Ok(_) => String::from_utf8_lossy(&inflated).into_owned(),
                Err(_) => String::from_utf8_lossy(&captures[1]).into_owned(),
            }
        })
        .collect()
}

#[test]
fn a_pdf_has_the_size_in_inches_and_the_same_marks() {
    let options = "bars: #{ x: [\"a\", \"b\"], y: [1, 2] }, title: \"Größe\", size: [4, 3]";
    let bytes = chart(options).to_pdf().unwrap();
    assert!(bytes.starts_with(b"%PDF-"));
    let plain = String::from_utf8_lossy(&bytes);
    assert!(plain.contains("/MediaBox [0 0 288 216]"), "4 by 3 inches of 72 points");
    let streams = streams(&bytes);
    let page = streams.iter().find(|stream| stream.contains(" cm")).unwrap();
    assert_eq!(page.matches("\nBT").count(), page.matches("\nET").count());
    assert!(page.contains("0 0.44705883 0.69803923 rg"), "the first colour, {page:.600}");
    // Readers copy text by this map: every character of the title is in it.
    let map: String = streams.iter().filter(|stream| stream.contains("begincmap")).cloned().collect();
    for character in "Größe".chars() {
        assert!(map.contains(&format!("<{:04X}>", character as u32)), "no {character} in {map}");
    }
    let outlined = chart(&format!("{options}, text: \"outlines\"")).to_pdf().unwrap();
    assert!(!String::from_utf8_lossy(&outlined).contains("/Font "));
    assert_eq!(chart(options).to_pdf().unwrap(), bytes, "the same chart gives the same bytes");
}

#[test]
fn files_are_written_in_several_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = |ending: &str| folder.path().join(format!("a.{ending}"));
    let out: Vec<String> = ["svg", "png", "pdf"].iter().map(|ending| format!("{:?}", path(ending))).collect();
    chart(&format!("line: #{{ y: [1, 2] }}, size: [4, 3], dpi: 100, out: [{}]", out.join(", ")));
    let png = std::fs::read(path("png")).unwrap();
    assert_eq!((&png[16..20], &png[20..24]), (&400_u32.to_be_bytes()[..], &300_u32.to_be_bytes()[..]));
    assert!(std::fs::read(path("pdf")).unwrap().ends_with(b"%%EOF"));
    assert!(std::fs::read_to_string(path("svg")).unwrap().starts_with("<svg "));
}

#[test]
fn characters_that_no_font_has_are_refused_where_they_would_be_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let out = |ending: &str| format!("out: {:?}", folder.path().join(format!("a.{ending}")));
    let message = refusal(&format!("line: #{{ y: [1, 2] }}, title: \"损失\", {}", out("png")));
    assert!(message.contains("no character '损', which is in \"损失\"") && message.contains("font: "), "{message}");
    assert_eq!(refusal(&format!("line: #{{ y: [1, 2] }}, title: \"损失\", {}", out("svg"))), "");
    assert_eq!(refusal(&format!("line: #{{ y: [1, 2] }}, title: \"손실\", {}", out("png"))), "");
    // The built-in font, as a file: it lacks the character too.
    let font = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plot/render/fonts/lorhai-sans.otf");
    let message = refusal(&format!("line: #{{ y: [1, 2] }}, title: \"损失\", font: {font:?}, {}", out("pdf")));
    assert!(message.contains("the built-in font and `font` have no character"), "{message}");
    let none = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(refusal(&format!("line: #{{ y: [1, 2] }}, font: {none:?}")).contains("expected a font file"));
}

#[test]
fn what_cannot_be_drawn_is_refused_with_the_fix() {
    let rows = "data: [#{ rank: 8, loss: 1.5 }]";
    for (options, expected) in [
        ("line: #{ x: [1, 2, 3], y: [1, 2] }", "found 3 values in `x` and 2 in `y`"),
        ("line: #{ y: [1, 2], error: [1] }", "found 2 values in `y` and 1 in `error`"),
        ("line: #{ y: [] }", "expected at least one value in `y`, found none"),
        ("line: #{ y: [(), 0.0 / 0.0] }", "no point that can be drawn"),
        ("line: #{ y: [-1, 0] }, y_scale: \"log\"", "no point that can be drawn"),
        ("line: #{ x: \"rank\", y: \"loss\" }", "but the chart has no rows | add data: rows"),
        (&format!("{rows}, line: #{{ x: \"rank\", y: \"los\" }}"), "did you mean `loss`? (columns: loss, rank)"),
        ("data: [], line: #{ y: \"loss\" }", "expected at least one row in `data`, found none"),
        ("line: #{ y: [1], colour: \"k\" }", "unknown option `line.colour` | did you mean `color`?"),
        ("lin: #{ y: [1] }", "unknown option `lin` | did you mean `line`?"),
        ("title: \"nothing\"", "expected at least one mark, found none"),
        ("marks: [#{ y: [1] }]", "expected `mark` in each map"),
        ("marks: [#{ mark: \"lines\", y: [1] }]", "did you mean `line`?"),
        ("line: #{ y: [1, 2], lower: [0, 1] }", "expected `lower` and `upper`, found one of them"),
        ("line: #{ y: [1], error: [-1] }", "expected numbers of at least 0, found -1"),
        (
            "bars: #{ x: [\"a\"], y: [1] }, x_scale: \"log\"",
            "`x_scale`: expected an axis of numbers, found one of names",
        ),
        ("bars: #{ x: [1, 2], y: [\"a\", \"b\"] }", "expected numbers, found string \"a\" at index 0"),
        ("line: #{ y: [1, 2] }, y_limits: [2, 1]", "the lower first"),
        ("line: #{ y: [1, 2] }, y_limits: [0, 1], y_scale: \"log\"", "above 0 on a logarithmic axis, found 0"),
        ("line: #{ y: [1, 2] }, size: [100, 100]", "in inches, each from 2.1 to 83, found [100, 100]"),
        ("line: #{ y: [1, 2] }, lines: [#{ label: \"x\" }]", "expected x or y in each line"),
        ("bars: #{ x: [\"a\"], y: [1] }, lines: [#{ x: \"b\" }]", "expected a name of the axis, found string \"b\""),
        ("heatmap: #{ value: [[1, 2], [3]] }", "found 2 values in row 0 and 1 in row 1"),
        ("heatmap: #{ x: [\"a\", \"a\"], y: [1, 1], value: [1, 2] }", "found rows 0 and 1 for x `a` and y `1`"),
        ("heatmap: #{ value: [[1, 2]], by: [1, 2] }", "a heatmap's colours are its values"),
        (
            "bars: #{ x: [\"a\"], y: [1] }, histogram: #{ x: [1, 2] }",
            "histogram: expected numbers on the x axis, found the names",
        ),
        (
            "bars: #{ y: [\"a\"], x: [1], orient: \"h\" }, box: #{ y: [1, 2] }",
            "expected numbers on the x axis, found the names of another mark",
        ),
        ("histogram: #{ x: [1, 2], bins: 0 }", "the number of bins"),
        ("histogram: #{ x: [1, 2], bins: [3, 4] }", "no value lies in the bins"),
        ("line: #{ y: [1, 2] }, out: \"a.jpg\"", ".svg, .png or .pdf"),
    ] {
        let message = refusal(options);
        assert!(message.contains(expected), "{options}: {message}");
    }
}

#[test]
fn texts_of_awkward_charts_neither_overlap_nor_leave_the_picture() {
    let names = |count: usize, text: &str| {
        let all: Vec<String> = (0..count).map(|at| format!("\"{text} {at}\"")).collect();
        format!("[{}]", all.join(", "))
    };
    let numbers = |count: usize| format!("[{}]", (0..count).map(|at| at.to_string()).collect::<Vec<_>>().join(", "));
    let long = "Qwen2.5-0.5B-Instruct with everything written out, revision 7ae557604";
    let cases = [
        format!("bars: #{{ x: {}, y: {} }}", names(60, "layer"), numbers(60)),
        format!("bars: #{{ x: {}, y: {} }}, size: [3.3, 2.6]", names(9, long), numbers(9)),
        format!("bars: #{{ y: {}, x: {}, orient: \"h\" }}", names(40, long), numbers(40)),
        format!("heatmap: #{{ x: {}, y: {}, value: {} }}", names(30, long), names(30, "y"), numbers(30)),
        format!(
            "line: #{{ x: {0}, y: {0}, by: {1} }}, legend: \"top\", legend_title: \"run\"",
            numbers(80),
            names(80, "run")
        ),
        format!("line: #{{ x: {0}, y: {0}, by: {1} }}, legend: \"bottom\", x_label: \"x\"", numbers(8), names(8, long)),
        format!("points: #{{ x: {0}, y: {0}, facet: {0} }}, x_label: \"x\", y_label: \"y\"", numbers(12)),
        format!(
            "points: #{{ x: {0}, y: {0}, facet: {1} }}, share_x: false, share_y: false",
            numbers(6),
            names(6, long)
        ),
        "line: #{ x: [1e-9, 1e12], y: [1e15, 1e-12] }, x_scale: \"log\", y_scale: \"log\"".to_owned(),
        format!(
            "points: #{{ x: {0}, y: {0}, value: {0}, by: {1} }}, color_label: \"{long}\"",
            numbers(5),
            names(5, "s")
        ),
    ];
    for options in cases {
        let chart = chart(&format!("{options}, title: \"{long}\""));
        let page = (f64::from(chart.width), f64::from(chart.height));
        let texts = svg::texts(&chart.to_svg().unwrap());
        for (index, text) in texts.iter().enumerate() {
            assert!(text.inside(page), "{options:.80}: {text:?} leaves the picture");
            let meets = texts[..index].iter().find(|other| other.meets(text));
            assert!(meets.is_none(), "{options:.80}: {text:?} overlaps {meets:?}");
        }
    }
}

#[test]
fn a_sweep_is_data() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "let result = sweep(#{{ grid: #{{ slope: [1, 2], seed: 2 }}, out: {:?}, charts: false, trial: |point, run| #{{ score: 1.0 * point.slope + point.seed }} }});
         chart(#{{ data: result, bars: #{{ x: \"slope\", y: \"score\", estimator: \"mean\", errorbar: \"range\" }} }})",
        folder.path().join("sweep")
    );
    let run = move || Session::new().run_source("case.rhai", &source).map(|value| value.cast::<Chart>());
    let chart = on_large_stack(run).unwrap().unwrap_or_else(|failure| panic!("{failure}"));
    let points: Vec<(f64, Option<(f64, f64)>)> =
        chart.series[0].points.iter().map(|point| (point.y, point.spread)).collect();
    assert_eq!(points, [(1.5, Some((1.0, 2.0))), (2.5, Some((2.0, 3.0)))]);
    assert_eq!((chart.x.title.as_str(), chart.y.title.as_str()), ("slope", "score"));
}

#[test]
fn thousands_of_points_stay_a_file_that_opens() {
    let many = "let x = []; for i in 0..20000 { x.push((i * 7919 % 10007).to_float()); } ";
    let source = format!("{many} chart(#{{ points: #{{ x: x, y: x }} }})");
    let run = move || Session::new().run_source("case.rhai", &source).map(|value| value.cast::<Chart>());
    let chart = on_large_stack(run).unwrap().unwrap();
    let text = chart.to_svg().unwrap();
    assert!(text.len() < 1_500_000, "{} bytes", text.len());
}
