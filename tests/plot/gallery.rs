//! The gallery: charts as sweeps make them, and difficult ones.

use lorhai::plot::presets::{against, against_size, eval_curves, training_curves};
use lorhai::plot::{
    Annotation, Axis, Chart, Curve, CurveOptions, Legend, Line, Mark, Numbers, Observation, Point, Scale, Series,
};
use lorhai::plot::{Spread, Ticks, VersusOptions};

const RANKS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Reproducible noise in [-1, 1].
fn noise(key: u64) -> f64 {
    let mixed = (key.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % 20_001) as f64 / 10_000.0 - 1.0
}

fn rank_results(group: &str, shift: f64) -> Vec<Observation> {
    let result = |(index, rank): (usize, &f64)| {
        let (rank, group) = (*rank, group.to_string());
        (0..3_u64).map(move |seed| Observation {
            x: rank,
            y: shift + 1.12 + 0.62 / rank.powf(0.55) + 0.012 * noise(seed * 31 + index as u64 + group.len() as u64 * 7),
            group: group.clone(),
            label: format!("r={rank}"),
            trial: None,
        })
    };
    RANKS.iter().enumerate().flat_map(result).collect()
}

fn trial_curves(runs: u64, steps: u32, every: u32, rough: f64) -> Vec<Curve> {
    let mut curves = vec![];
    for (index, rank) in RANKS.iter().enumerate() {
        for seed in 0..runs {
            let floor = 1.1 + 0.5 / rank.sqrt();
            let value = |step: u32| {
                let key = u64::from(step) * 1009 + seed * 17 + index as u64;
                (f64::from(step), floor + 2.1 * (-f64::from(step) / 35.0).exp() + rough * noise(key))
            };
            let points = (1..=steps).filter(|step| step % every == 0).map(value).collect();
            curves.push(Curve { group: format!("{rank}"), run: format!("seed {seed}"), points, trial: None });
        }
    }
    curves
}

fn plain(name: &str, points: &[(f64, f64)]) -> Series {
    let points = points.iter().map(|(x, y)| Point::new(*x, *y)).collect();
    Series { name: name.to_string(), points, ..Series::default() }
}

pub fn gallery() -> Vec<(&'static str, Chart)> {
    let mut all = usual();
    all.extend(awkward());
    all
}

fn usual() -> Vec<(&'static str, Chart)> {
    let versus =
        VersusOptions { title: "Which rank is enough?".into(), y: "eval loss".into(), ..VersusOptions::default() };
    let rank = against(&rank_results("", 0.0), &versus);
    let rank = Chart { subtitle: "scripts/tiny adapted to 400 rows, 200 steps, lr 2e-4, alpha = 2r".into(), ..rank };
    let size: Vec<Observation> = rank_results("", 0.0)
        .into_iter()
        .map(|observation| Observation { x: observation.x * 549_888.0, ..observation })
        .collect();
    let by_size = VersusOptions {
        title: "Evaluation loss against adapter size".into(),
        x: "trainable parameters".into(),
        ..versus.clone()
    };
    let groups: Vec<Observation> = [("q, v", 0.06), ("attention", 0.02), ("all-linear", 0.0)]
        .iter()
        .flat_map(|(name, shift)| rank_results(name, *shift))
        .collect();
    let by_target = VersusOptions { title: "Rank by target modules".into(), group: "target_modules".into(), ..versus };
    let curves = CurveOptions { title: "Training loss".into(), group: "rank".into(), ..CurveOptions::default() };
    let evals =
        CurveOptions { title: "Evaluation loss during training".into(), y: "eval loss".into(), ..curves.clone() };
    let two: Vec<Curve> =
        trial_curves(3, 200, 20, 0.02).into_iter().filter(|curve| curve.group == "2" || curve.group == "64").collect();
    vec![
        ("rank", rank),
        ("size", against_size(&size, &by_size)),
        ("groups", against(&groups, &by_target)),
        ("training", training_curves(&trial_curves(3, 200, 1, 0.25), &curves)),
        (
            "training-one",
            training_curves(
                &trial_curves(1, 400, 1, 0.3)[..1],
                &CurveOptions { group: String::new(), ..curves.clone() },
            ),
        ),
        ("evaluation", eval_curves(&trial_curves(3, 200, 20, 0.02), &evals)),
        ("evaluation-bands", eval_curves(&two, &evals)),
        ("evaluation-single", eval_curves(&trial_curves(1, 200, 20, 0.02)[..3], &evals)),
    ]
}

fn awkward() -> Vec<(&'static str, Chart)> {
    let versus = VersusOptions {
        title: "순위에 따른 평가 손실: 한국어 제목과 계열 이름".into(),
        x: "순위 (rank)".into(),
        y: "평가 손실".into(),
        group: "학습 모듈".into(),
        ..VersusOptions::default()
    };
    let korean: Vec<Observation> = [("쿼리·밸류 투영", 0.05), ("모든 선형 층", 0.0)]
        .iter()
        .flat_map(|(name, shift)| rank_results(name, *shift))
        .collect();
    let many = (0..20).map(|index| {
        let points: Vec<(f64, f64)> = (0..40)
            .map(|step| (f64::from(step * 5), 3.0 / (1.0 + f64::from(step) * 0.1) + f64::from(index) * 0.06))
            .collect();
        Series {
            mark: Mark::Line,
            ..plain(&format!("lr={}e-4, rank={}", index / 5 + 1, 2_u32.pow(index % 5)), &points)
        }
    });
    let long = "a-very-long-organisation-name/a-very-long-model-name-with-a-version-2.5-and-a-suffix-instruct";
    let long_named = (0..3)
        .map(|index| plain(&format!("{long}/seed={index}"), &[(1.0, f64::from(index)), (2.0, 1.5 * f64::from(index))]));
    let base = |title: &str| Chart {
        title: title.into(),
        x: Axis::new("x", Scale::Linear),
        y: Axis::new("y", Scale::Linear),
        ..Chart::default()
    };
    let scatter: Vec<(f64, f64)> = (0..60).map(|key| (noise(key) * 3.0, noise(key + 99) * 200.0)).collect();
    let rates = [(1e-5, 2.4), (3e-5, 2.1), (1e-4, 1.7), (3e-4, 1.5), (1e-3, 1.9), (3e-3, 4.5)];
    let spread = |points: &[(f64, f64)]| {
        points.iter().map(|(x, y)| Point { spread: Some((y * 0.9, y * 1.1)), ..Point::new(*x, *y) }).collect()
    };
    vec![
        ("korean", Chart { subtitle: "씨앗 세 개의 평균, 작은 모델".into(), ..against(&korean, &versus) }),
        ("twenty", Chart { series: many.collect(), legend_title: "trial".into(), ..base("Twenty series") }),
        (
            "long-names",
            Chart {
                series: long_named.collect(),
                subtitle: format!("{long} {long} {long}"),
                notes: vec![format!(
                    "{long} and a note that goes on until it has to be broken into lines, and then on"
                )],
                ..base(&format!("A title so long that it cannot stand on one line: {long}, and again {long}"))
            },
        ),
        ("one-point", Chart { series: vec![plain("only", &[(8.0, 1.25)])], ..base("One point") }),
        (
            "all-equal",
            Chart { series: vec![plain("flat", &[(1.0, 2.5), (2.0, 2.5), (3.0, 2.5)])], ..base("All equal") },
        ),
        (
            "missing",
            Chart {
                series: vec![plain(
                    "some",
                    &[(1.0, 1.0), (2.0, f64::NAN), (3.0, 3.0), (4.0, f64::INFINITY), (5.0, 2.0)],
                )],
                ..base("Missing points")
            },
        ),
        (
            "tiny-numbers",
            Chart {
                series: vec![plain("s", &[(1e-9, 1.0000001), (2e-9, 1.0000003), (4e-9, 1.0000002)])],
                ..base("Tiny numbers")
            },
        ),
        (
            "huge-numbers",
            Chart { series: vec![plain("s", &[(1e6, -4e17), (2e9, 2e17), (8e9, 9e17)])], ..base("Huge numbers") },
        ),
        (
            "wide-log",
            Chart {
                series: vec![plain("s", &[(1e-12, 1e-9), (1.0, 1.0), (1e12, 1e15)])],
                x: Axis::new("x (log10)", Scale::Log10),
                y: Axis::new("y (log10)", Scale::Log10),
                ..base("Many decades")
            },
        ),
        (
            "learning-rate",
            Chart {
                series: vec![Series { points: spread(&rates), ..plain("", &[]) }],
                x: Axis::new("learning rate", Scale::Log10),
                y: Axis::new("eval loss", Scale::Log2),
                lines: vec![
                    Line::Horizontal { y: 2.3, label: "base model without adapter".into() },
                    Line::Vertical { x: 2e-4, label: "default".into() },
                ],
                annotations: vec![Annotation { x: 3e-4, y: 1.5, text: "best".into(), ..Annotation::default() }],
                ..base("Learning rate")
            },
        ),
        (
            "scatter",
            Chart {
                series: vec![
                    Series { mark: Mark::Points, ..plain("one", &scatter[..30]) },
                    Series { mark: Mark::Points, ..plain("two", &scatter[30..]) },
                ],
                ..base("Scatter")
            },
        ),
        (
            "named",
            Chart {
                series: vec![Series {
                    mark: Mark::Points,
                    points: spread(&[(0.0, 1.3), (1.0, 1.1), (2.0, 1.2)]),
                    ..plain("", &[])
                }],
                x: Axis {
                    ticks: Ticks::Named(vec![
                        (0.0, "constant".into()),
                        (1.0, "cosine".into()),
                        (2.0, "linear with a very long name that cannot fit".into()),
                    ]),
                    ..Axis::new("schedule", Scale::Linear)
                },
                ..base("A key that is no number")
            },
        ),
        (
            "every-rank",
            Chart {
                series: vec![plain(
                    "",
                    &(1..=16).map(|rank| (f64::from(rank), 2.0 / f64::from(rank))).collect::<Vec<_>>(),
                )],
                x: Axis { ticks: Ticks::At((1..=16).map(f64::from).collect()), ..Axis::new("rank", Scale::Log2) },
                ..base("Every rank from 1 to 16")
            },
        ),
        (
            "band",
            Chart {
                series: [0.0, 0.8]
                    .iter()
                    .map(|shift| {
                        let points: Vec<(f64, f64)> = (0..50)
                            .map(|step| (f64::from(step), shift + (f64::from(step) * 0.2).sin() + 2.0))
                            .collect();
                        Series {
                            points: spread(&points),
                            spread: Spread::Band,
                            mark: Mark::Line,
                            ..plain(if *shift == 0.0 { "low" } else { "high" }, &[])
                        }
                    })
                    .collect(),
                ..base("Bands that overlap")
            },
        ),
        (
            "clipped",
            Chart {
                series: vec![plain("a", &[(0.0, 0.0), (1.0, 9.0), (2.0, 1.0), (3.0, -5.0), (4.0, 2.0)])],
                y: Axis {
                    low: Some(0.0),
                    high: Some(4.0),
                    numbers: Numbers::Plain,
                    ..Axis::new("y from 0 to 4", Scale::Linear)
                },
                ..base("Clipped")
            },
        ),
        (
            "small",
            Chart {
                width: 300,
                height: 220,
                legend: Legend::Side,
                ..against(
                    &korean,
                    &VersusOptions { title: "Small".into(), y: "loss".into(), ..VersusOptions::default() },
                )
            },
        ),
    ]
}
