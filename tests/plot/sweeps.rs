//! Charts of sweeps and their report, read back from the files.

use crate::svg;
use crate::sweep_folder::{write, Trial, Writing};
use lorhai::plot::publish::publish_again;
use lorhai::plot::sweeps::{sweep_chart, SweepChart, SweepChartOptions};
use lorhai::plot::{run::run_chart, Picture, Scale, Theme};
use lorhai::sweep::SweepResult;
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

const WRITING: Writing = Writing { steps: 20, margin: None };

fn number(point: &Map<String, Value>, key: &str) -> f64 {
    point.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Better with the rank, best at the learning rate 1e-3; seeds shift all settings alike, with a little noise of each.
fn numbers(point: &Map<String, Value>) -> Option<Trial> {
    let (rank, seed) = (number(point, "rank").max(1.0), number(point, "seed"));
    let rate = number(point, "lr").max(1e-5).log10() + 3.0;
    let noise = 0.001 * ((rank * 7.0 + seed * 13.0) % 5.0);
    let loss = 2.0 + 0.5 / rank.sqrt() + 0.05 * rate * rate + 0.03 * seed + noise;
    Some(Trial { loss, seconds: 3.0 + 0.02 * rank, is_evaluated: true })
}

fn all(_: &Map<String, Value>) -> bool {
    true
}

fn drawn(out: &Path, kind: SweepChart, options: &SweepChartOptions) -> lorhai::Result<Picture> {
    sweep_chart(&SweepResult::open(out).unwrap(), kind, options)
}

/// The texts of every chart of the report lie apart and in the picture.
fn ensure_legible(out: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in publish_again(out).unwrap().iter().filter(|path| path.extension().is_some_and(|ending| ending == "svg"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        svg::assert_well_formed(&text);
        let page = svg::size(&text);
        let texts = svg::texts(&text);
        for (index, one) in texts.iter().enumerate() {
            assert!(one.inside(page), "{}: {one:?} leaves the picture", path.display());
            let meets = texts[..index].iter().find(|other| other.meets(one));
            assert!(meets.is_none(), "{}: {one:?} overlaps {meets:?}", path.display());
        }
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    names
}

fn texts(picture: &Picture) -> Vec<String> {
    svg::texts(&picture.to_svg().unwrap()).into_iter().map(|text| text.content).collect()
}

#[test]
fn a_decided_sweep_opens_with_the_decision_and_its_chart() {
    let folder = tempfile::tempdir().unwrap();
    let axes = [("rank", json!([8, 16, 64])), ("seed", json!([0, 1, 2]))];
    // Rank 16 is worse than 64 by 0.004, 8 by 0.031: seeds differ by much more, and shift all alike.
    let loss = |point: &Map<String, Value>| {
        let offset = match number(point, "rank") as u64 {
            8 => 0.031,
            16 => 0.004,
            _ => 0.0,
        };
        let noise = 0.0001 * ((number(point, "rank") + 3.0 * number(point, "seed")) % 4.0);
        Some(Trial { loss: 2.0 + offset + 0.1 * number(point, "seed") + noise, seconds: 4.0, is_evaluated: true })
    };
    write(folder.path(), &axes, &Writing { margin: Some(0.01), ..WRITING }, &all, &loss);
    let names = ensure_legible(folder.path());
    assert_eq!(names[..2], ["differences", "eval_loss_by_rank"]);
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let sentence = "By eval_loss, rank 16 is enough: 64 is better by 0.004";
    let opening = page.find(sentence).expect(sentence);
    assert!(opening < page.find("<svg ").unwrap() && page.find("Best: rank=64").unwrap() < page.find("<svg ").unwrap());
    let table = SweepResult::open(folder.path()).unwrap().table();
    assert!(table.contains("decision: by eval_loss, rank 16 is enough: 64 is better by 0.004"), "{table}");
    assert!(table.contains("the sweep trained 16,333 tokens per second (98,000 in 6.0 s"), "{table}");
    let picture = drawn(folder.path(), SweepChart::Differences, &SweepChartOptions::default()).unwrap();
    let texts = texts(&picture);
    for expected in
        ["rank 16 is enough", "margin 0.01", "best mean, enough", "difference of eval_loss (nats per token)"]
    {
        assert!(texts.iter().any(|text| text == expected), "no {expected:?} in {texts:?}");
    }
    assert!(texts.iter().any(|text| text.starts_with("0.031 ± ") && text.ends_with(", worse")), "{texts:?}");
}

/// Every colour of a dark picture is one of the dark theme: what was meant for white pages would vanish, or glare.
#[test]
fn a_dark_picture_has_nothing_of_the_light_one() {
    let folder = tempfile::tempdir().unwrap();
    let axes = [("rank", json!([2, 8, 32])), ("lr", json!([1e-4, 1e-3])), ("seed", json!([0, 1]))];
    write(folder.path(), &axes, &WRITING, &all, &numbers);
    let colours = |theme: Theme, kind: SweepChart| {
        let options = SweepChartOptions { theme, ..SweepChartOptions::default() };
        let text = drawn(folder.path(), kind, &options).unwrap().to_svg().unwrap().to_lowercase();
        text.split('#').skip(1).map(|rest| rest.chars().take(6).collect::<String>()).collect::<BTreeSet<String>>()
    };
    for kind in [SweepChart::Settings, SweepChart::Differences, SweepChart::Heat, SweepChart::Parallel] {
        let (light, dark) = (colours(Theme::Light, kind), colours(Theme::Dark, kind));
        assert!(light.contains("ffffff") && dark.contains("11151b"), "{kind:?}: {dark:?}");
        let both: Vec<&String> = light.intersection(&dark).collect();
        assert!(both.is_empty(), "{kind:?}: {both:?}");
    }
}

#[test]
fn dots_stand_where_their_values_are() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("rank", json!([2, 8, 32]))], &WRITING, &all, &numbers);
    let text = drawn(folder.path(), SweepChart::Settings, &SweepChartOptions::default()).unwrap().to_svg().unwrap();
    let texts = svg::texts(&text);
    // The marks of a row are level with its name; their distances are those of the losses.
    let of = |name: &str| texts.iter().find(|one| one.content == name).unwrap().baseline;
    let marks = svg::marks(&text);
    let x =
        |name: &str| marks.iter().filter(|(_, y)| (y - of(name)).abs() < 6.0).map(|(x, _)| *x).fold(f64::NAN, f64::max);
    let loss = |rank: u64| numbers(json!({ "rank": rank }).as_object().unwrap()).unwrap().loss;
    let (two, eight, best) = (x("2"), x("8"), x("32"));
    let ratio = (two - best) / (eight - best);
    let expected = (loss(2) - loss(32)) / (loss(8) - loss(32));
    assert!((ratio / expected - 1.0).abs() < 0.02, "{ratio} against {expected}");
    assert!(of("32") < of("8") && of("8") < of("2"), "the best comes first");
}

/// The name of a sweep, its axes, and the charts that it has.
type Case<'a> = (&'a str, Vec<(&'a str, Value)>, Vec<&'a str>);

#[test]
fn every_kind_of_sweep_has_a_legible_report() {
    let folder = tempfile::tempdir().unwrap();
    let rates = json!([1e-4, 3e-4, 1e-3, 3e-3]);
    let cases: Vec<Case> = vec![
        (
            "one_seed",
            vec![("rank", json!([2, 4, 8]))],
            vec!["settings", "eval_loss_by_rank", "pareto_seconds", "loss_by_seconds", "grad_norm", "learning_rate"],
        ),
        (
            "two_axes",
            vec![("rank", json!([2, 8, 32])), ("lr", rates.clone()), ("seed", json!([0, 1]))],
            vec!["differences", "heat", "parallel", "importance", "pareto_peak_memory"],
        ),
        (
            "three",
            vec![
                ("rank", json!([2, 8])),
                ("lr", rates.clone()),
                ("schedule", json!(["cosine", "constant-with-a-very-long-name-indeed"])),
            ],
            vec!["settings", "heat", "parallel", "importance"],
        ),
        (
            "sixty",
            vec![("rank", json!([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256])), ("lr", rates)],
            vec!["settings", "heat", "parallel"],
        ),
    ];
    for (name, axes, expected) in cases {
        let out = folder.path().join(name);
        write(&out, &axes, &WRITING, &all, &numbers);
        let names = ensure_legible(&out);
        for chart in expected {
            assert!(names.iter().any(|known| known == chart), "{name}: no {chart} in {names:?}");
        }
    }
    let page = std::fs::read_to_string(folder.path().join("one_seed/report.html")).unwrap();
    assert!(page.contains("one seed says nothing of spread: `seed: 3` in the grid would tell"));
}

#[test]
fn failed_trials_and_missing_evaluations_leave_legible_reports() {
    let folder = tempfile::tempdir().unwrap();
    let axes = [("rank", json!([2, 8, 32])), ("lr", json!([1e-4, 1e-3, 1e-2])), ("seed", json!([0, 1, 2]))];
    let fails = |point: &Map<String, Value>| {
        numbers(point).filter(|_| number(point, "lr") < 1e-2 || number(point, "seed") < 1.0)
    };
    write(&folder.path().join("failed"), &axes, &WRITING, &all, &fails);
    assert!(ensure_legible(&folder.path().join("failed")).contains(&"settings".to_owned()));
    let trained = |point: &Map<String, Value>| Some(Trial { is_evaluated: false, ..numbers(point)? });
    write(&folder.path().join("trained"), &axes[..1], &WRITING, &all, &trained);
    let names = ensure_legible(&folder.path().join("trained"));
    assert!(
        names.contains(&"train_loss_by_rank".to_owned()) && names.contains(&"loss_by_seconds".to_owned()),
        "{names:?}"
    );
    write(&folder.path().join("none"), &axes[..1], &WRITING, &all, &|_| None);
    assert!(ensure_legible(&folder.path().join("none")).is_empty());
    let page = std::fs::read_to_string(folder.path().join("none/report.html")).unwrap();
    assert!(page.contains("No trial finished."));
}

#[test]
fn points_that_are_no_grid_are_drawn() {
    // 40 rates, each with one of three ranks, as of a random search.
    let folder = tempfile::tempdir().unwrap();
    let rates: Vec<f64> = (0..40).map(|at| (1e-5 * 1.19_f64.powi(at) * 1e8).round() / 1e8).collect();
    let at = |rate: f64| rates.iter().position(|known| *known == rate).unwrap();
    let keeps =
        |point: &Map<String, Value>| [4.0, 16.0, 64.0][at(number(point, "lr")) * 7 % 3] == number(point, "rank");
    write(folder.path(), &[("lr", json!(rates)), ("rank", json!([4, 16, 64]))], &WRITING, &keeps, &numbers);
    let names = ensure_legible(folder.path());
    assert!(names.contains(&"importance".to_owned()) && !names.contains(&"heat".to_owned()), "{names:?}");
    let error = drawn(folder.path(), SweepChart::Differences, &SweepChartOptions::default()).unwrap_err();
    assert_eq!(error.hint.unwrap(), "add `seed: 3` to the grid");
}

#[test]
fn wrong_names_are_refused_with_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("rank", json!([2, 8]))], &WRITING, &all, &numbers);
    let named = |x: &str| SweepChartOptions { x: Some(x.to_owned()), ..SweepChartOptions::default() };
    let error = drawn(folder.path(), SweepChart::Pareto, &named("secnods")).unwrap_err();
    assert!(error.hint.unwrap().contains("did you mean `seconds`"));
    let error = drawn(folder.path(), SweepChart::Heat, &named("rnak")).unwrap_err();
    assert!(error.message.contains("`rnak` is no axis"), "{error}");
    let error = drawn(folder.path(), SweepChart::Heat, &SweepChartOptions::default()).unwrap_err();
    assert!(error.message.contains("expected two axes"), "{error}");
    let error = drawn(folder.path(), SweepChart::Importance, &SweepChartOptions::default()).unwrap_err();
    assert!(error.message.contains("found 1 and 2"), "{error}");
}

#[test]
fn a_chart_of_runs_takes_sweeps() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    write(&one, &[("rank", json!([2, 8])), ("seed", json!([0, 1, 2]))], &WRITING, &all, &numbers);
    write(&two, &[("rank", json!([2]))], &WRITING, &all, &numbers);
    let chart = run_chart(&[one.clone(), two.join("rank-2")], Scale::Linear).unwrap();
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names[..3], ["one: rank 2: training", "one: rank 8: training", "rank-2: training"]);
    // The mean of three seeds, which differ by 0.03 and their noise.
    let last = chart.series[4].points.last().unwrap().y;
    let losses = [0, 1, 2].map(|seed| numbers(json!({ "rank": 8, "seed": seed }).as_object().unwrap()).unwrap().loss);
    assert!((last - (losses.iter().sum::<f64>() / 3.0 + 0.05)).abs() < 1e-9, "{last} of {losses:?}");
}

/// 1,000 trials of 300 steps each. Unoptimised builds draw pixels some twenty times more slowly.
#[test]
fn the_report_of_a_thousand_trials_is_drawn_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let rates: Vec<f64> = (0..10).map(|at| 1e-5 * f64::from(2_u32.pow(at))).collect();
    let axes = [
        ("rank", json!([1, 2, 4, 8, 16, 24, 32, 48, 64, 128])),
        ("lr", json!(rates)),
        ("alpha", json!([8, 16, 32, 64, 128])),
        ("seed", json!([0, 1])),
    ];
    write(folder.path(), &axes, &Writing { steps: 300, margin: None }, &all, &numbers);
    let started = Instant::now();
    let written = publish_again(folder.path()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("{} files of 1,000 trials in {seconds:.1} s", written.len());
    assert!(seconds < 60.0, "{seconds:.1} s");
    let page = std::fs::metadata(folder.path().join("report.html")).unwrap().len();
    assert!(page < 3_000_000, "{page} bytes");
}
