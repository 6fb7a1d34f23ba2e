//! Every script once more: on a model of another family and size, whose tokenizer has no chat template, and on
//! rows of another shape; the article on rows of every shape.

use super::{name, of_lines, quick, root, run, scripts, text};
use serde_json::{json, Value};
use std::fs;
use std::path::Path;

/// Llama with an untied head, where `scripts/tiny` is Qwen2 with a tied one; weights are random.
fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1024, "hidden_size": 48,
        "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3,
        "hidden_act": "silu", "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "tie_word_embeddings": false, "bos_token_id": null, "eos_token_id": 2, "pad_token_id": 0,
    })
}

/// Makes the model in `second`.
fn make_model(folder: &Path) {
    let made = folder.join("made");
    fs::create_dir_all(&made).unwrap();
    let tiny = root().join("scripts/tiny");
    fs::copy(tiny.join("tokenizer.json"), made.join("tokenizer.json")).unwrap();
    let settings = fs::read_to_string(tiny.join("tokenizer_config.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&settings).unwrap();
    tokenizer.as_object_mut().unwrap().remove("chat_template").unwrap();
    fs::write(made.join("tokenizer_config.json"), tokenizer.to_string()).unwrap();
    fs::write(made.join("config.json"), config().to_string()).unwrap();
    let lines = r#"
        let model = random_model("made", #{ seed: 7 });
        if model.chat_template != () { throw "a template"; }
        model.save("second");
    "#;
    let output = of_lines(folder, lines).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Questions and answers of different lengths, in words of the tokenizer.
fn pairs(count: usize) -> Vec<(String, String)> {
    let words = ["the", "small", "fox", "sees", "a", "red", "bird", "near", "old", "bridge", "young", "crow"];
    let phrase = |from: usize, length: usize| {
        (0..length).map(|at| words[(from * 5 + at * 7) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    (0..count).map(|row| (phrase(row, 3 + row % 9), phrase(row + 3, 1 + row % 5))).collect()
}

/// The same rows in each shape that is recognised.
fn shapes() -> Vec<(&'static str, Vec<Value>)> {
    let rows = pairs(40);
    let turns = |user: &str, assistant: &str, names: [&str; 4]| -> Value {
        let [role, content, user_name, assistant_name] = names;
        json!([{ role: user_name, content: user }, { role: assistant_name, content: assistant }])
    };
    let openai = ["role", "content", "user", "assistant"];
    let shape = |of: &dyn Fn(&str, &str) -> Value| rows.iter().map(|(ask, answer)| of(ask, answer)).collect();
    vec![
        ("messages", shape(&|ask, answer| json!({ "messages": turns(ask, answer, openai) }))),
        (
            "conversations",
            shape(&|ask, answer| json!({ "conversations": turns(ask, answer, ["from", "value", "human", "gpt"]) })),
        ),
        (
            "prompt and completion of messages",
            shape(&|ask, answer| {
                let all = turns(ask, answer, openai);
                json!({ "prompt": [all[0]], "completion": [all[1]] })
            }),
        ),
        ("prompt and completion", shape(&|ask, answer| json!({ "prompt": ask, "completion": format!(" {answer}") }))),
        (
            "instruction, input and output",
            shape(&|ask, answer| json!({ "instruction": "repeat", "input": ask, "output": answer })),
        ),
        ("text", shape(&|ask, answer| json!({ "text": format!("{ask} {answer}") }))),
    ]
}

fn write_rows(path: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

fn settings(all: &[&str]) -> Vec<String> {
    all.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect()
}

/// What a script is to be run on; those that are not named here take `model` and `data`.
fn on_second(script: &str) -> Vec<&'static str> {
    match script {
        "count_parameters" => vec!["models=second", "ranks=4,8"],
        "pretrain_tiny" => vec!["from=second", "data=pairs.csv", "loss_on=completion", "held_out=6"],
        "e2e" => vec!["model=second", "train=e2e.csv", "test=e2e.csv", "ranks=1,2", "seeds=2", "steps=2", "batch=2"],
        "dpo" => vec!["model=second", "data=preferences.csv"],
        "gallery" => vec![],
        "grpo" => vec!["model=second", "data=pairs.csv", "column=prompt"],
        _ => vec!["model=second", "data=pairs.csv"],
    }
}

#[test]
fn every_script_runs_on_another_model_and_other_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_model(folder);
    let rows = pairs(60);
    let csv = |names: &str| {
        let lines: Vec<String> = rows.iter().map(|(ask, answer)| format!("{ask}, {answer}")).collect();
        format!("{names}\n{}\n", lines.join("\n"))
    };
    fs::write(folder.join("pairs.csv"), csv("prompt,completion")).unwrap();
    fs::write(folder.join("e2e.csv"), csv("mr,ref")).unwrap();
    let preferences = rows.iter().map(|(ask, answer)| format!("{ask}, {answer}, {answer} {answer}"));
    let preferences: Vec<String> = std::iter::once("prompt,chosen,rejected".to_owned()).chain(preferences).collect();
    fs::write(folder.join("preferences.csv"), preferences.join("\n")).unwrap();
    let mut failed = Vec::new();
    let mut count = 0;
    for script in scripts() {
        let all = [quick(&name(&script)), on_second(&name(&script))].concat();
        let output = run(folder, &script, &settings(&all));
        if !output.status.success() {
            failed.push(format!("{}\n{}", name(&script), text(&output)));
        }
        count += 1;
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(count >= 14, "{count}");
}

/// Each shape on either model: by one of the scripts that ask the rows' questions, in turn.
#[test]
fn questions_are_asked_of_rows_of_every_shape_with_and_without_a_chat_template() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_model(folder);
    let mut failed = Vec::new();
    for (at, (shape, rows)) in shapes().into_iter().enumerate() {
        write_rows(&folder.join("rows.jsonl"), &rows);
        for (model, other) in [("second", at % 2), ("scripts/tiny", 1 - at % 2)] {
            let (script, out) = [("article", "runs/article"), ("before_after", "runs/before-after")][other];
            let all = [quick(script), vec!["data=rows.jsonl"]].concat();
            let all = [settings(&all), settings(&[&format!("model={model}")])].concat();
            let output = run(folder, Path::new(&format!("{script}.rhai")), &all);
            let page = folder.join(out).join("before_after.html");
            if !output.status.success() || !page.is_file() {
                failed.push(format!("{script}: {shape} on {model}\n{}", text(&output)));
            }
            let _ = fs::remove_file(page);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// The function in `scripts/custom_loss.rhai`, on two rows of different lengths, against torch.
#[test]
fn the_divergence_of_the_custom_loss_is_a_mean_over_tokens() {
    let golden = root().join("tests/golden/training");
    let expected: Value = serde_json::from_str(&fs::read_to_string(golden.join("divergence.json")).unwrap()).unwrap();
    let script = fs::read_to_string(root().join("scripts/custom_loss.rhai")).unwrap();
    let begin = script.find("fn divergence(").unwrap();
    let end = begin + script[begin..].find("\n}").unwrap() + 2;
    let rows: Vec<Value> = expected["texts"].as_array().unwrap().iter().map(|text| json!({ "text": text })).collect();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_rows(&folder.join("rows.jsonl"), &rows);
    let lines = format!(
        r#"{}
        let model = load_model("scripts/tiny", #{{ dtype: "f32", device: "cpu" }});
        model.load_adapter({:?});
        let data = load_dataset("rows.jsonl").tokenize(model, #{{ audit: false }});
        for batch in data.batches(#{{ size: 2 }}) {{
            model.disable_adapters();
            let base = model.forward(batch, #{{ train: false }}).logits.log_softmax(-1);
            model.enable_adapters();
            let output = model.forward(batch, #{{ train: false }});
            let ours = output.logits.log_softmax(-1);
            print(divergence(ours, base, output.mask).item());
            print(output.mask.sum().item());
            print(output.mask.shape);
        }}
        "#,
        &script[begin..end],
        golden.join("divergence").display().to_string(),
    );
    let output = of_lines(folder, &lines).arg("--quiet").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut printed = printed.lines();
    let found: f64 = printed.next().unwrap().parse().unwrap();
    let per_token = expected["per_token"].as_f64().unwrap();
    println!("{found} against {per_token}");
    assert!((found / per_token - 1.0).abs() < 1e-4, "{found} against {per_token}");
    let lengths: Vec<usize> =
        expected["ids"].as_array().unwrap().iter().map(|ids| ids.as_array().unwrap().len()).collect();
    let tokens: f64 = printed.next().unwrap().parse().unwrap();
    assert_eq!(tokens as usize, lengths.iter().sum::<usize>());
    assert_eq!(printed.next().unwrap(), format!("[2, {}]", lengths.iter().max().unwrap()));
    // What the mean over all positions would be, padding included, is far off.
    assert!((expected["with_padding"].as_f64().unwrap() / per_token - 1.0).abs() > 0.1);
}
