//! Every registered function with hostile arguments, by the types of its parameters and by its options.

use super::{guarded, Job};
use lorhai::random::Key;
use lorhai::script::catalogue::docs::Form;
use lorhai::script::catalogue::option_list::declared_of;
use lorhai::script::{on_large_stack, Session};

/// Values of the types that functions take; later calls use what earlier ones left of them.
const PRELUDE: &str = r#"
let model = load_model("tiny");
model.add_lora(#{ r: 2, alpha: 4, target_modules: ["q_proj"] });
let rows = load_dataset("tiny/train.jsonl").take(12);
let tokens = rows.tokenize(model, #{ max_length: 32 });
let splits = tokens.split(#{ test: 4 });
let optimizer = adamw(model, #{ lr: 1e-3 });
let run = start_run("runs/loop", #{});
let tensor = ();
let batch = ();
let output = ();
for one in tokens.batches(#{ size: 2 }) { batch = one; }
try { output = model.forward(batch); tensor = output.logits; } catch { }
let chart = line_chart(#{ series: [#{ name: "a", points: [[1, 2], [2, 3]] }], x: "x", y: "y" });
"#;

const INTS: &[&str] =
    &["0", "-1", "1", "9223372036854775807", "(-9223372036854775807 - 1)", "4294967296", "1000000000000"];
const FLOATS: &[&str] = &["0.0", "-1.5", "(0.0 / 0.0)", "(1.0 / 0.0)", "1e308", "5e-324", "0.5"];
const TEXTS: &[&str] = &[
    r#""""#,
    r#""x""#,
    r#""../x""#,
    r#""\x00\x1b[2J""#,
    r#""runs/x""#,
    r#""tiny""#,
    r#""q_proj""#,
    r#""{{ x }}""#,
    r#""(a+)+""#,
];
const ARRAYS: &[&str] = &[
    "[]",
    "[()]",
    "[[[]]]",
    "[1, \"a\", #{}]",
    "[1e308, -1, (0.0 / 0.0)]",
    "[\"x\", \"\"]",
    "[[1, 2], [3]]",
    "[9223372036854775807]",
];
const MAPS: &[&str] = &["#{}", "#{ a: 1 }", "#{ rank: [2] }", "#{ prompt: \"\", completion: () }"];
const FUNCTIONS: &[&str] = &["|x| x", "|x| throw x", "|| 1", "|a, b, c| ()", "Fn(\"none\")"];
const HANDLES: &[&str] =
    &["model", "rows", "tokens", "splits", "optimizer", "run", "tensor", "batch", "output", "chart"];
const OTHERS: &[&str] = &["()", "true", "'x'", "0..3", "0..9223372036854775807", "blob(3)", "timestamp()"];
const CALLS: usize = 40;

pub fn all() -> Vec<Job> {
    on_large_stack(|| {
        let catalog = Session::new().catalog();
        // Those of the language have other tests, and `exit` and `sleep` would only end or wait.
        let left_out = ["exit", "sleep"];
        let functions = catalog.functions().iter().filter(|function| !left_out.contains(&function.name.as_str()));
        functions
            .enumerate()
            .map(|(at, function)| {
                let key = Key::new(at as u64);
                let mut script = PRELUDE.to_string();
                for call in 0..CALLS {
                    let mut draw = Draw { key, at: 1000 * call as u64 };
                    let mut arguments: Vec<String> = Vec::new();
                    for (name, kind) in &function.parameters {
                        arguments.push(match name.as_str() {
                            "options" => draw.options(
                                &declared_of(function).iter().map(|option| option.name.clone()).collect::<Vec<_>>(),
                            ),
                            _ => draw.of(kind),
                        });
                    }
                    let text = written(function.form, &function.name, &arguments);
                    script.push_str(&guarded(call, &text));
                }
                Job { name: format!("{} #{at}", function.name), script }
            })
            .collect()
    })
    .unwrap()
}

fn written(form: Form, name: &str, arguments: &[String]) -> String {
    let (first, rest) = arguments.split_first().map_or((String::new(), &[][..]), |(first, rest)| (first.clone(), rest));
    match form {
        Form::Method => format!("({first}).{name}({})", rest.join(", ")),
        Form::Getter => format!("({first}).{name}"),
        Form::Setter => format!("{{ let x = {first}; x.{name} = {}; }}", rest.join(", ")),
        _ if name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
            format!("{name}({})", arguments.join(", "))
        }
        _ => format!("({first}) {name} ({})", rest.join(", ")),
    }
}

struct Draw {
    key: Key,
    at: u64,
}

impl Draw {
    fn below(&mut self, count: usize) -> usize {
        self.at += 1;
        ((self.key.uniform(self.at) * count as f64) as usize).min(count - 1)
    }

    fn pick(&mut self, list: &[&str]) -> String {
        list[self.below(list.len())].to_string()
    }

    fn any(&mut self) -> String {
        let lists = [INTS, FLOATS, TEXTS, ARRAYS, MAPS, FUNCTIONS, HANDLES, OTHERS];
        let list = lists[self.below(lists.len())];
        self.pick(list)
    }

    /// Mostly a value of the type, sometimes any.
    fn of(&mut self, kind: &str) -> String {
        if self.below(10) == 0 {
            return self.any();
        }
        match kind {
            "int" => self.pick(INTS),
            "float" => self.pick(FLOATS),
            "string" => self.pick(TEXTS),
            "array" => self.pick(ARRAYS),
            "map" => self.pick(MAPS),
            "function" => self.pick(FUNCTIONS),
            "bool" => self.pick(&["true", "false"]),
            "Model" => "model".into(),
            "Dataset" => "rows".into(),
            "Tokens" | "TokenizedDataset" => "tokens".into(),
            "Splits" | "Split" => "splits".into(),
            "Optimizer" => "optimizer".into(),
            "Tensor" => "tensor".into(),
            "Batch" => "batch".into(),
            "Run" => "run".into(),
            "Output" => "output".into(),
            "Chart" => "chart".into(),
            _ => self.any(),
        }
    }

    fn options(&mut self, names: &[String]) -> String {
        if names.is_empty() || self.below(8) == 0 {
            return self.pick(MAPS);
        }
        let count = 1 + self.below(3);
        let options: Vec<String> =
            (0..count).map(|_| format!("\"{}\": {}", names[self.below(names.len())], self.any())).collect();
        // What would run for long is short, unless the option is drawn.
        let short: Vec<&str> = ["steps", "max_new_tokens", "limit"]
            .into_iter()
            .filter(|name| {
                names.iter().any(|known| known == name)
                    && !options.iter().any(|option| option.starts_with(&format!("\"{name}\"")))
            })
            .collect();
        let short = short.into_iter().map(|name| format!("\"{name}\": 2"));
        let mut seen = std::collections::HashSet::new();
        let all: Vec<String> = options
            .into_iter()
            .chain(short)
            .filter(|option| seen.insert(option.split(':').next().unwrap_or_default().to_string()))
            .collect();
        format!("#{{ {} }}", all.join(", "))
    }
}
