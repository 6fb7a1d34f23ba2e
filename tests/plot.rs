//! Charts and the report through the public interface: in every chart of the gallery labels neither overlap
//! nor leave the picture, two renderings are the same, and the data is shown.
//!
//! `LORHAI_GALLERY=folder cargo test --release --test plot` also writes the gallery there, to be looked at:
//! the tests see overlaps, not ugliness.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "plot/gallery.rs"]
mod gallery;
#[path = "plot/own.rs"]
mod own;
#[path = "plot/report.rs"]
mod report;
#[path = "plot/svg.rs"]
mod svg;
#[path = "plot/sweep_folder.rs"]
mod sweep_folder;
#[path = "plot/sweeps.rs"]
mod sweeps;

use gallery::gallery;
use lorhai::plot::{Axis, Chart, Legend, Line, Mark, Observation, Point, Scale, Series, VersusOptions};
use std::path::Path;

#[test]
fn texts_of_the_gallery_neither_overlap_nor_leave_the_picture() {
    for (name, chart) in gallery() {
        let texts = svg::texts(&chart.to_svg().unwrap());
        assert!(texts.len() >= 4, "{name}: only {} texts", texts.len());
        let page = (f64::from(chart.width), f64::from(chart.height));
        for (index, text) in texts.iter().enumerate() {
            assert!(text.inside(page), "{name}: {text:?} leaves the picture");
            let meets = texts[..index].iter().find(|other| other.meets(text));
            assert!(meets.is_none(), "{name}: {text:?} overlaps {meets:?}");
        }
    }
}

#[test]
fn the_same_chart_gives_the_same_bytes() {
    for (name, chart) in gallery().into_iter().take(6) {
        assert_eq!(chart.to_svg().unwrap(), chart.to_svg().unwrap(), "{name}");
        let png = |chart: &Chart| chart.to_png(chart.width, chart.height, 1.0).unwrap();
        assert_eq!(png(&chart), png(&chart), "{name}");
    }
}

#[test]
fn a_png_has_the_requested_size_and_shows_colour() {
    for (name, chart) in gallery() {
        let (width, height, pixels) = decode(&chart.to_png(600, 400, 1.5).unwrap());
        assert_eq!((width, height), (900, 600), "{name}");
        let white = pixels.chunks(3).filter(|pixel| *pixel == [255, 255, 255]).count();
        let coloured = pixels.chunks(3).filter(|pixel| pixel.iter().max().unwrap() - pixel.iter().min().unwrap() > 60);
        let (total, coloured) = (900 * 600, coloured.count());
        assert!(white > total / 3 && white < total * 99 / 100, "{name}: {white} of {total} pixels are white");
        assert!(coloured > 60, "{name}: {coloured} coloured pixels");
    }
}

#[test]
fn svg_and_png_put_text_in_the_same_place() {
    let chart = line(&[(1.0, 1.0), (2.0, 2.0)]);
    let chart = Chart { title: "HHHHHHHH".into(), ..chart };
    let texts = svg::texts(&chart.to_svg().unwrap());
    let title = texts.iter().find(|text| text.content == "HHHHHHHH").unwrap();
    let (width, _, pixels) = decode(&chart.to_png(chart.width, chart.height, 1.0).unwrap());
    let dark = |x: usize, y: usize| pixels[(y * width as usize + x) * 3] < 140;
    let rows: Vec<usize> = (0..40).filter(|y| (0..width as usize).any(|x| dark(x, *y))).collect();
    let columns: Vec<usize> = (0..width as usize).filter(|x| (0..30).any(|y| dark(*x, y))).collect();
    let baseline = rows.iter().copied().find(|y| !rows.contains(&(y + 1))).unwrap() as f64 + 1.0;
    assert!((baseline - title.baseline).abs() <= 1.0, "baseline {baseline}, SVG {}", title.baseline);
    assert!((columns[0] as f64 - title.left).abs() < 3.0, "{} against {}", columns[0], title.left);
}

#[test]
fn ranks_are_the_ticks_of_a_rank_chart_and_the_note_states_n() {
    let observation = |x: f64, y: f64| Observation { x, y, ..Observation::default() };
    let all: Vec<Observation> = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
        .iter()
        .flat_map(|rank| (0..3).map(move |seed| observation(*rank, 2.0 - 0.1 * rank.log2() + 0.01 * f64::from(seed))))
        .collect();
    let svg = lorhai::plot::presets::against(&all, &VersusOptions::default()).to_svg().unwrap();
    let texts: Vec<String> = svg::texts(&svg).into_iter().map(|text| text.content).collect();
    for expected in
        ["2", "4", "8", "16", "32", "64", "rank", "eval_loss", "Mean over 3 seeds. Error bars: ± 1 standard deviation."]
    {
        assert!(texts.iter().any(|text| text == expected), "no {expected:?} in {texts:?}");
    }
    assert_eq!(svg.matches("<circle").count(), 18 + 12, "18 runs, and 6 markers with their rims");
}

#[test]
fn names_that_do_not_fit_are_counted_and_never_cover_the_data() {
    let series = (0..60)
        .map(|index| Series { name: format!("series {index}"), ..line(&[(1.0, index as f64)]).series.remove(0) });
    let chart = Chart { series: series.collect(), ..Chart::default() };
    let texts = svg::texts(&chart.to_svg().unwrap());
    assert!(
        texts.iter().any(|text| text.content.starts_with("… and ") && text.content.ends_with(" more")),
        "{texts:?}"
    );
}

#[test]
fn texts_are_escaped_and_svg_is_well_formed() {
    let nasty = "<script>alert('1')</script> & \"q\" \u{0}\u{1b}[31m\n둘";
    let mut chart = line(&[(1.0, 1.0), (2.0, 3.0)]);
    chart.title = nasty.into();
    chart.notes = vec![nasty.into()];
    chart.x.title = nasty.into();
    chart.lines = vec![Line::Horizontal { y: 2.0, label: nasty.into() }];
    let text = chart.to_svg().unwrap();
    assert!(!text.contains("<script") && !text.contains('\u{1b}') && !text.contains('\u{0}'));
    svg::assert_well_formed(&text);
    assert!(
        !text.contains(" id=") && !text.contains(" class=") && !text.contains("href"),
        "ids and classes could clash on a page, and links would load something"
    );
}

#[test]
fn only_what_lies_on_the_axes_is_drawn() {
    let mut chart = line(&[(1.0, 1.0), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, -1e305), (5.0, 2.0)]);
    let texts = svg::texts(&chart.to_svg().unwrap());
    assert!(texts.iter().any(|text| text.content == "Not drawn: 3 points (NaN or infinite)."), "{texts:?}");
    chart.y.low = Some(1.5);
    let (inside, page) = (svg::spots(&chart.to_svg().unwrap()), (f64::from(chart.width), f64::from(chart.height)));
    assert!(inside.iter().all(|(x, y)| *x >= 0.0 && *y >= 0.0 && *x <= page.0 && *y <= page.1));
}

#[test]
fn extremes_are_drawn_or_refused_but_never_hang_or_panic() {
    let values =
        [0.0, -0.0, 1.0, -1.0, 1e-310, 1e-300, 1e300, -1e300, f64::MAX, f64::MIN_POSITIVE, f64::NAN, 123_456_789.125];
    for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
        for first in values {
            for second in values {
                let mut chart = line(&[(first, second), (second, first)]);
                (chart.x.scale, chart.y.scale) = (scale, scale);
                match chart.to_svg() {
                    Ok(text) => assert!(!text.contains("NaN,") && !text.contains("inf,"), "{first} {second} {scale:?}"),
                    Err(error) => assert!(error.message.contains("no point that can be drawn"), "{error}"),
                }
            }
        }
    }
}

#[test]
fn wrong_input_is_refused_with_a_reason() {
    let message = |result: lorhai::Result<()>| result.unwrap_err().to_string();
    let chart = line(&[(1.0, 1.0)]);
    let folder = tempfile::tempdir().unwrap();
    let error = message(chart.save(&folder.path().join("rank.jpg")));
    assert!(error.contains(".svg, .png or .pdf") && error.contains("rank.jpg"), "{error}");
    assert!(message(chart.save(&folder.path().join("rank"))).contains(".svg, .png or .pdf"));
    assert!(message(Chart::default().to_svg().map(drop)).contains("no points"));
    assert!(message(chart.to_png(10, 400, 1.0).map(drop)).contains("`width`"));
    assert!(message(chart.to_png(400, 9000, 1.0).map(drop)).contains("`height`"));
    assert!(message(chart.to_png(400, 400, 0.0).map(drop)).contains("`scale`"));
    assert!(message(chart.to_png(400, 400, f64::NAN).map(drop)).contains("`scale`"));
    assert!(message(chart.to_png(8000, 8000, 8.0).map(drop)).contains("64 million"));
    let wordy = Chart { notes: vec!["a note".into(); 60], ..chart.clone() };
    assert!(message(wordy.to_svg().map(drop)).contains("leaves"));
    assert!(message(chart.save(Path::new("/proc/no/such/rank.svg"))).contains("/proc/no/such"));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a refused chart leaves nothing behind");
}

#[test]
fn the_extension_chooses_the_format_and_the_folder_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let chart = line(&[(1.0, 1.0), (2.0, 2.0)]);
    chart.save(&folder.path().join("charts/a.SVG")).unwrap();
    chart.save(&folder.path().join("charts/a.png")).unwrap();
    assert!(std::fs::read_to_string(folder.path().join("charts/a.SVG")).unwrap().starts_with("<svg "));
    let (width, height, _) = decode(&std::fs::read(folder.path().join("charts/a.png")).unwrap());
    assert_eq!((width, height), (2 * chart.width, 2 * chart.height));
}

#[test]
fn a_long_curve_stays_a_small_file() {
    let points: Vec<(f64, f64)> = (0..200_000).map(|step| (f64::from(step), f64::from(step % 97))).collect();
    let mut chart = line(&points);
    chart.series[0].mark = Mark::Line;
    let svg = chart.to_svg().unwrap();
    assert!(svg.len() < 100_000, "{} bytes", svg.len());
}

#[test]
fn a_legend_can_be_forced_and_hidden() {
    let mut chart = line(&[(1.0, 1.0), (2.0, 2.0)]);
    let has_legend = |chart: &Chart| svg::texts(&chart.to_svg().unwrap()).iter().any(|text| text.content == "alone");
    chart.series[0].name = "alone".into();
    assert!(!has_legend(&chart), "a single series needs no legend");
    for (legend, expected) in [(Legend::Ends, true), (Legend::Side, true), (Legend::Hidden, false)] {
        chart.legend = legend;
        assert_eq!(has_legend(&chart), expected, "{legend:?}");
    }
}

#[test]
fn the_gallery_is_written_to_a_folder() {
    let beside_the_program = || env!("CARGO_TARGET_TMPDIR").into();
    let folder = std::env::var_os("LORHAI_GALLERY").unwrap_or_else(beside_the_program);
    for (name, chart) in gallery() {
        chart.save(&Path::new(&folder).join(format!("{name}.svg"))).unwrap();
        chart.save(&Path::new(&folder).join(format!("{name}.png"))).unwrap();
    }
    report::example().save(&Path::new(&folder).join("report.html")).unwrap();
}

fn line(points: &[(f64, f64)]) -> Chart {
    let points = points.iter().map(|(x, y)| Point::new(*x, *y)).collect();
    Chart {
        title: "a line".into(),
        x: Axis::new("x", Scale::Linear),
        y: Axis::new("y", Scale::Linear),
        series: vec![Series { points, ..Series::default() }],
        ..Chart::default()
    }
}

fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(bytes).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}
