//! Labels of conversations: with every available chat template, no word of another speaker is trained on and no answer is
//! lost. The templates that trl ships are compared with transformers' masks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, tiny_folder};
use common::needs::python;
use common::session::prints;
use lorhai::data::example::Chat;
use lorhai::data::{
    audit, ensure_supervised, spans, tokenize, AssistantSpan, ChatTemplate, Dataset, LossOn, Row, TemplateProfile,
    TokenizeOptions, TokenizedDataset,
};
use lorhai::hub::tokenizer::Tokenizer;
use lorhai::hub::weights::Weights;
use lorhai::lora::peft;
use lorhai::model::{load, Config};
use lorhai::options::OptionType;
use lorhai::train::schedule::{Schedule, SchedulerType};
use lorhai::train::update::{update, StepSettings};
use lorhai::train::{AdamW, AdamWConfig};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::process::{Command, Stdio};

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn said(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn options(source: &str) -> TokenizeOptions {
    TokenizeOptions {
        max_length: None,
        cache: false,
        audit: false,
        loss_on: Some(LossOn::Assistant),
        chat_template: Some(source.to_owned()),
        ..TokenizeOptions::default()
    }
}

fn rows(values: &[Value]) -> Dataset {
    Dataset::from_rows(values.iter().map(|value| value.as_object().unwrap().clone()))
}

/// The tokenizer of scripts/tiny, with a token for every tag of a template.
fn tokenizer_for(source: &str) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(tiny_folder().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let tag = regex::Regex::new(r"<[|/｜]?[a-zA-Z_0-9▁:]+[|｜]?>|\[/?[A-Z_]+\]").unwrap();
    let mut tags: Vec<&str> = tag.find_iter(source).map(|tag| tag.as_str()).collect();
    tags.extend(["<s>", "</s>", "<pad>"]);
    tags.sort_unstable();
    tags.dedup();
    let token = |(id, tag): (usize, &&str)| {
        let token = json!({"content": tag, "special": true, "normalized": false, "lstrip": false, "rstrip": false,
            "single_word": false});
        ((5000 + id).to_string(), token)
    };
    let added: Row = tags.iter().enumerate().map(token).collect();
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "added_tokens_decoder": added});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    (folder, tokenizer)
}

/// A template, and the conversations as transformers renders and masks them, if known.
struct Template {
    name: String,
    source: String,
    stock: Option<String>,
    rows: Option<Vec<Value>>,
}

/// The templates of tests/golden/chat.
fn golden_templates() -> Vec<Template> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(golden("chat/templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "jinja") {
            let name = format!("golden {}", path.file_stem().unwrap().to_str().unwrap());
            found.push(Template { name, source: std::fs::read_to_string(path).unwrap(), stock: None, rows: None });
        }
    }
    found
}

/// The templates that trl ships, with what transformers makes of the conversations.
fn trl_templates(conversations: &[Conversation]) -> Vec<Template> {
    let conversations: Vec<&Value> = conversations.iter().map(|(_, item, _)| item).collect();
    let script = golden("chat/trl_masks.py");
    let mut peer =
        Command::new(python("PEER_PYTHON")).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    peer.stdin.take().unwrap().write_all(json!(conversations).to_string().as_bytes()).unwrap();
    let output = peer.wait_with_output().unwrap();
    assert!(output.status.success());
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let template = |template: &Value| Template {
        name: template["name"].as_str().unwrap().to_owned(),
        source: template["source"].as_str().unwrap().to_owned(),
        stock: template["stock"].as_str().map(str::to_owned),
        rows: template["rows"].as_array().cloned(),
    };
    made.as_array().unwrap().iter().map(template).collect()
}

/// Its name, its row, and the answers in it.
type Conversation = (&'static str, Value, Vec<&'static str>);

/// Words that only others say, and those of answers: each answer's in its order.
const FOREIGN: &str = "zebra";

fn conversations() -> Vec<Conversation> {
    let asks = |tail: &str| user(&format!("{FOREIGN}{tail} please {FOREIGN}"));
    let system = json!({"role": "system", "content": format!("be {FOREIGN} now")});
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "c1", "name": "look", "content": text});
    let call = |arguments: Value| {
        json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}]})
    };
    let tools = json!([{"type": "function", "function": {"name": "look", "description": "Look at a thing.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string", "description": "what"}}}}}]);
    let found = format!("{{\"found\": \"{FOREIGN}\"}}");
    let thinking =
        |answer: &str, thought: &str| json!({"role": "assistant", "content": answer, "reasoning_content": thought});
    vec![
        ("one", json!({"messages": [asks(""), said("alpha one.")]}), vec!["alpha one."]),
        ("system", json!({"messages": [system, asks("?"), said("alpha\n\n beta")]}), vec!["alpha\n\n beta"]),
        (
            "turns",
            json!({"messages": [asks("a"), said("alpha"), asks("b"), said("beta."), asks("c"), said("gamma!")]}),
            vec!["alpha", "beta.", "gamma!"],
        ),
        (
            "open end",
            json!({"messages": [asks("a"), said("alpha"), asks("b"), said("beta."), asks("c")]}),
            vec!["alpha", "beta."],
        ),
        (
            "tools",
            json!({"messages": [asks("a"), call(json!({"at": "delta"})), result(&found), said("alpha"), asks("b"),
                call(json!({"at": "epsilon"})), result(&found), said("beta.")], "tools": tools}),
            vec!["delta", "alpha", "epsilon", "beta."],
        ),
        (
            "calls as text",
            json!({"messages": [asks("a"), call(json!("{\"at\": \"delta\"}")), result(FOREIGN), said("alpha")],
                "tools": tools}),
            vec!["delta", "alpha"],
        ),
        (
            "two answers",
            json!({"messages": [asks("a"), said("alpha"), said("beta."), asks("b"), said("gamma")]}),
            vec!["alpha", "beta.", "gamma"],
        ),
        (
            "reasoning",
            json!({"messages": [asks("a"), thinking("alpha", "delta"), asks("b"), thinking("beta.", "eta")]}),
            vec!["alpha", "beta."],
        ),
        ("thoughts", json!({"messages": [asks("a"), said("<think>\ndelta\n</think>\n\nalpha")]}), vec!["alpha"]),
        ("empty", json!({"messages": [asks("a"), said(""), asks("b"), said("beta.")]}), vec!["beta."]),
        ("white space", json!({"messages": [asks("a"), said(" \n"), asks("b"), said("  beta. \n")]}), vec!["beta."]),
        (
            "marks",
            json!({"messages": [user("\u{fdd0}zebra\u{fdd1} \u{13000}\u{13001}"), said("alpha \u{fdd0}\u{13002}one")]}),
            vec!["alpha \u{fdd0}\u{13002}one"],
        ),
        (
            "tags",
            json!({"messages": [user("<tool_response>\nzebra\n</tool_response>"), said("<b>alpha</b> <i>x</i>"),
            user("<b>zebra</b>"), said("[INST] beta")]}),
            vec!["<b>alpha</b> <i>x</i>", "[INST] beta"],
        ),
    ]
}

/// The texts of the runs of trained tokens.
fn trained(tokenized: &TokenizedDataset, tokenizer: &Tokenizer) -> Vec<String> {
    let row = tokenized.row(0).unwrap();
    let (ids, labels) = (row.ids(), row.trained());
    let mut runs: Vec<Vec<u32>> = vec![Vec::new()];
    for (id, on) in ids.iter().zip(labels) {
        if on {
            runs.last_mut().unwrap().push(*id);
        } else if !runs.last().unwrap().is_empty() {
            runs.push(Vec::new());
        }
    }
    runs.iter().filter(|run| !run.is_empty()).map(|run| tokenizer.decode(run, false).unwrap()).collect()
}

/// Tokens that end a turn, of all families.
const ENDS: [&str; 14] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "</s>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|eot|>",
    "<|eom|>",
];

/// The token that ends an answer, if only white space and tags are in between.
fn end_token<'a>(text: &'a str, answer: &str, from: usize) -> Option<&'a str> {
    let at = from + text[from..].find(answer)? + answer.len();
    let mut ends = ENDS.iter().filter_map(|end| Some((text[at..].find(end)?, end.len())));
    let (position, length) = ends.by_ref().min_by_key(|(position, _)| *position)?;
    let between = &text[at..at + position];
    (!between.contains(FOREIGN) && between.trim().is_empty()).then(|| &text[at + position..at + position + length])
}

/// Every message of other speakers has a word that no answer has: it is never trained on. Every answer is, including the token
/// that ends it.
#[test]
fn no_word_of_another_speaker_is_trained_on_and_no_answer_is_lost() {
    answers_alone_are_trained_on(&golden_templates(), &conversations());
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn no_word_of_another_speaker_is_trained_on_and_no_answer_is_lost_in_trls_templates() {
    let conversations = conversations();
    answers_alone_are_trained_on(&trl_templates(&conversations), &conversations);
}

fn answers_alone_are_trained_on(templates: &[Template], conversations: &[Conversation]) {
    let (mut compared, mut tokens, mut answers, mut refused, mut wrong) = (0, 0, 0, 0, Vec::new());
    let (mut left_out, mut unclear) = (0, Vec::new());
    for Template { name, source, .. } in templates {
        let (_folder, tokenizer) = tokenizer_for(source);
        let Ok(template) = ChatTemplate::new(source, &tokenizer) else {
            refused += conversations.len();
            continue;
        };
        for (which, item, said) in conversations {
            let chat = Chat {
                messages: item["messages"].as_array().unwrap().clone(),
                tools: item.get("tools").cloned(),
                ..Chat::default()
            };
            let Ok(rendered) = template.render(&chat, chat.messages.len(), false) else {
                refused += 1;
                continue;
            };
            let tokenized = match tokenize(&rows(std::slice::from_ref(item)), &tokenizer, &options(source)) {
                Ok(tokenized) => tokenized,
                Err(error) => {
                    unclear.push(format!("{name}, {which}: {error}"));
                    continue;
                }
            };
            let runs = trained(&tokenized, &tokenizer);
            compared += 1;
            tokens += tokenized.token_count();
            if runs.iter().any(|run| run.contains(FOREIGN)) {
                wrong.push(format!("{name}, {which}: another speaker's word is trained on: {runs:?}"));
            }
            let codes: Vec<&str> = audit(&tokenized, &tokenizer).iter().map(|finding| finding.code).collect();
            let mut from = 0;
            for answer in said {
                let Some(place) = rendered.text[from..].find(answer) else {
                    // At least it is reported.
                    left_out += 1;
                    if !codes.iter().any(|code| ["answer_lost", "part_lost", "no_label"].contains(code)) {
                        wrong.push(format!("{name}, {which}: `{answer}` is left out without a word"));
                    }
                    continue;
                };
                answers += 1;
                let end = end_token(&rendered.text, answer, from);
                let holds = |run: &String| {
                    run.split_once(answer).is_some_and(|(_, after)| end.is_none_or(|end| after.contains(end)))
                };
                if !runs.iter().any(holds) {
                    wrong.push(format!("{name}, {which}: `{answer}` is not trained to `{end:?}`: {runs:?}"));
                }
                from += place + answer.len();
            }
        }
    }
    println!(
        "{} templates x {} conversations: {compared} compared, {tokens} tokens, {answers} answers; {refused} refused by \
         the template, {} here; {left_out} answers left out by the template and reported",
        templates.len(),
        conversations.len(),
        unclear.len()
    );
    println!("{}", unclear.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unclear.is_empty(), "{} unclear", unclear.len());
    assert!(compared >= 90, "{compared}");
}

/// With generation tags, labels are those of transformers. Without them, but with a training template of trl that writes the
/// same text, they are those of that template, except for white space and headers at the edges.
#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn labels_are_those_of_trls_training_templates() {
    let conversations = conversations();
    let templates = trl_templates(&conversations);
    let (mut tagged, mut stock, mut other, mut wrong) = (0, 0, Vec::new(), Vec::new());
    let tag = regex::Regex::new(r"<[^<>\s]+>").unwrap();
    for training in templates.iter().filter(|template| template.rows.is_some()) {
        let (_folder, tokenizer) = tokenizer_for(&training.source);
        let find = |source: &str, item: &Value| {
            let template = ChatTemplate::new(source, &tokenizer).ok()?;
            let profile = TemplateProfile::probe(&template, &tokenizer);
            let chat = Chat {
                messages: item["messages"].as_array().unwrap().clone(),
                tools: item.get("tools").cloned(),
                ..Chat::default()
            };
            spans::find(&template, &chat, &profile, LossOn::Assistant, AssistantSpan::Generated).ok()
        };
        let own = training.stock.as_ref().and_then(|stock| templates.iter().find(|found| found.name == *stock));
        for ((which, item, _), row) in conversations.iter().zip(training.rows.as_ref().unwrap()) {
            let Some(text) = row[0].as_str() else { continue };
            let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let place = |value: &Value| bytes[value.as_u64().unwrap() as usize];
            let expected: Vec<&str> = row[1]
                .as_array()
                .unwrap()
                .iter()
                .map(|span| &text[place(&span[0])..place(&span[1])])
                .filter(|span| !span.is_empty())
                .collect();
            if expected.is_empty() {
                continue;
            }
            if let Some(found) = find(&training.source, item).filter(|found| found.text() == text) {
                let spans: Vec<&str> = found.trained().iter().map(|span| &text[span.clone()]).collect();
                tagged += 1;
                if spans != expected && !found.lost.answer {
                    wrong.push(format!("{}, {which}: {spans:?}, expected {expected:?}", training.name));
                }
            }
            let Some(found) = own.and_then(|own| find(&own.source, item)).filter(|found| found.text() == text) else {
                continue;
            };
            stock += 1;
            // trl also marks parts of the prompt: a header, or the start of a block of thoughts. It leaves out white space.
            let mut labels = vec![[false; 2]; text.len()];
            let theirs = row[1].as_array().unwrap().iter().map(|span| place(&span[0])..place(&span[1]));
            found.trained().iter().for_each(|span| labels[span.clone()].iter_mut().for_each(|label| label[0] = true));
            theirs.for_each(|span| labels[span].iter_mut().for_each(|label| label[1] = true));
            let only = |which: [bool; 2]| -> String {
                let bytes = text.bytes().zip(&labels).filter(|(_, label)| **label == which).map(|(byte, _)| byte);
                tag.replace_all(&String::from_utf8(bytes.collect()).unwrap(), "").replace("assistant", "")
            };
            let (ours, theirs) = (only([true, false]), only([false, true]));
            if !(ours.trim().is_empty() && theirs.trim().is_empty()) {
                other.push(format!("{}, {which}: only here {ours:?}, only in trl {theirs:?}", own.unwrap().name));
            }
        }
    }
    println!("{tagged} conversations with generation tags, {stock} without: {} otherwise", other.len());
    println!("{}", other.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tagged > 250 && stock > 150, "{tagged} {stock}");
    assert!(other.len() < 5, "{} of {stock}", other.len());
}

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\
                      {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

fn tiny() -> Tokenizer {
    Tokenizer::from_folder(&tiny_folder()).unwrap()
}

fn runs_of(row: Value, source: &str) -> Vec<String> {
    let tokenized = tokenize(&rows(&[row]), &tiny(), &options(source)).unwrap();
    trained(&tokenized, &tiny())
}

#[test]
fn answers_with_weight_zero_are_context() {
    let row = |key: &str, value: Value| {
        let mut bad = said("bad");
        bad[key] = value;
        json!({"messages": [user("a"), bad, user("b"), said("good")]})
    };
    let tagged = CHATML.replace(
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}",
        "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}\
         {% endgeneration %}{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}",
    );
    assert!(tagged != CHATML);
    for source in [CHATML, &tagged] {
        for (key, value) in [("weight", json!(0)), ("weight", json!(0.0)), ("train", json!(false))] {
            assert_eq!(runs_of(row(key, value), source), ["good<|im_end|>"]);
        }
        for (key, value) in [("weight", json!(1)), ("weight", Value::Null), ("train", json!(true))] {
            assert_eq!(runs_of(row(key, value), source), ["bad<|im_end|>", "good<|im_end|>"]);
        }
    }
    let everything = TokenizeOptions { loss_on: Some(LossOn::Everything), ..options(CHATML) };
    let tokenized = tokenize(&rows(&[row("weight", json!(0))]), &tiny(), &everything).unwrap();
    let runs = trained(&tokenized, &tiny());
    assert!(runs.iter().all(|run| !run.contains("bad")) && runs.concat().contains("good"), "{runs:?}");
    let error = tokenize(&rows(&[row("weight", json!(0.5))]), &tiny(), &options(CHATML)).unwrap_err();
    assert!(error.message.contains("row 0: message 1: `weight`: expected 0 or 1"), "{error}");
}

#[test]
fn the_spans_of_a_long_conversation_take_few_renderings() {
    let template = ChatTemplate::new(CHATML, &tiny()).unwrap();
    let profile = TemplateProfile::probe(&template, &tiny());
    let mut counts = Vec::new();
    for turns in [4, 1600] {
        let messages = (0..turns).flat_map(|turn| [user(&format!("q {turn}")), said(&format!("a {turn}"))]).collect();
        let chat = Chat { messages, ..Chat::default() };
        let before = template.renderings();
        let found = spans::find(&template, &chat, &profile, LossOn::Assistant, AssistantSpan::Generated).unwrap();
        counts.push(template.renderings() - before);
        let texts: Vec<&str> = found.trained().iter().map(|span| &found.text()[span.clone()]).collect();
        let expected: Vec<String> = (0..turns).map(|turn| format!("a {turn}<|im_end|>")).collect();
        assert_eq!(texts, expected);
    }
    println!("renderings of 8 and 3,200 messages: {counts:?}");
    assert!(counts[0] == counts[1] && counts[1] <= 6, "{counts:?}");
    // Calls whose arguments differ, with results.
    let source = std::fs::read_to_string(golden("chat/templates/qwen3.jinja")).unwrap();
    let (_folder, tokenizer) = tokenizer_for(&source);
    let template = ChatTemplate::new(&source, &tokenizer).unwrap();
    let call = |turn: usize| {
        let function = json!({"name": "look", "arguments": {"at": format!("place {turn}"), "n": turn}});
        json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": function}]})
    };
    let result = |turn: usize| json!({"role": "tool", "content": format!("{turn} miles")});
    let messages = std::iter::once(user("q")).chain((0..400).flat_map(|turn| [call(turn), result(turn)]));
    let chat = Chat { messages: messages.chain([said("done")]).collect(), ..Chat::default() };
    let profile = TemplateProfile::probe(&template, &tokenizer);
    let before = template.renderings();
    let found = spans::find(&template, &chat, &profile, LossOn::Assistant, AssistantSpan::Generated).unwrap();
    assert_eq!(found.trained().len(), 401);
    assert!(found.trained().iter().all(|span| found.text()[span.clone()].ends_with("<|im_end|>")));
    println!("renderings of 802 messages with calls: {}", template.renderings() - before);
    assert!(template.renderings() - before <= 12, "{}", template.renderings() - before);
}

#[test]
fn an_answer_that_the_template_leaves_out_is_reported_and_not_trained_on() {
    let parts = json!({"role": "assistant", "content": [{"type": "text", "text": "hi"}]});
    let texts_only = CHATML.replace("m.content +", "(m.content if m.content is string else '') +");
    let call = json!({"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {}}}]});
    let old_call = json!({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}});
    let null = json!({"role": "assistant", "content": null});
    for lost in [parts, call, old_call, null] {
        let alone = rows(&[json!({"messages": [user("q"), lost]})]);
        let tokenized = tokenize(&alone, &tiny(), &options(&texts_only)).unwrap();
        assert_eq!(tokenized.label_count(), 0, "{lost}");
        let error = ensure_supervised(&tokenized, &tiny()).unwrap_err();
        assert!(error.message.contains("the chat template leaves out their answers"), "{error}");
        let more = rows(&[json!({"messages": [user("q"), lost, user("r"), said("yes")]})]);
        let tokenized = tokenize(&more, &tiny(), &options(&texts_only)).unwrap();
        assert_eq!(trained(&tokenized, &tiny()), ["yes<|im_end|>"]);
        assert!(audit(&tokenized, &tiny()).iter().any(|finding| finding.code == "answer_lost"), "{lost}");
    }
    // The error of the template names the row.
    let silent = rows(&[json!({"messages": [{"role": "user", "content": null}, said("a")]})]);
    let error = tokenize(&silent, &tiny(), &options(CHATML)).unwrap_err();
    assert!(error.message.contains("row 0: message 0 has no text"), "{error}");
}

#[test]
fn a_completion_that_the_template_leaves_out_is_not_trained_on() {
    let texts_only = CHATML.replace("m.content +", "(m.content if m.content is string else '') +");
    let parts = json!({"role": "assistant", "content": [{"type": "text", "text": "hi"}]});
    let completion = TokenizeOptions { loss_on: None, ..options(&texts_only) };
    let row = json!({"prompt": [user("q")], "completion": [parts]});
    let tokenized = tokenize(&rows(&[row]), &tiny(), &completion).unwrap();
    assert!(trained(&tokenized, &tiny()).concat().trim().is_empty(), "{:?}", trained(&tokenized, &tiny()));
    let row = json!({"prompt": [user("q")], "completion": [parts, user("r"), said("yes")]});
    let tokenized = tokenize(&rows(&[row]), &tiny(), &completion).unwrap();
    let runs = trained(&tokenized, &tiny());
    assert!(runs.concat().ends_with("yes<|im_end|>") && !runs[0].starts_with("<|im_end|>"), "{runs:?}");
}

#[test]
fn generation_tags_work_inside_macros() {
    let source = "{% macro turn(m) %}{{ m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}\
                  {% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endmacro %}\
                  {% for m in messages %}{{ turn(m) + '\\n' }}{% endfor %}";
    assert_eq!(
        runs_of(json!({"messages": [user("q"), said("one"), user("r"), said("two")]}), source),
        ["one<|im_end|>", "two<|im_end|>"]
    );
}

/// A tokenizer with one token a character, and one for two line breaks.
fn merging() -> (tempfile::TempDir, Tokenizer) {
    let signs = ('a'..='z').chain('A'..='Z').map(String::from);
    let tokens = ["</s>", "<think>", "</think>", "<|im_start|>", "<|im_end|>", "\n", "\n\n", " ", ":", " y", "?"];
    let vocab: Row = tokens.map(String::from).into_iter().chain(signs).zip(0..).map(|(t, id)| (t, json!(id))).collect();
    let added: Vec<Value> = tokens[..5]
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["\n", "\n"], [" ", "y"]], "unk_token": "?"}});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    (folder, tokenizer)
}

/// The prompt ends with a line break and the answer starts with one. Both are one token, which TRL trains on.
#[test]
fn a_token_of_white_space_in_prompt_and_answer_is_trained_with_a_warning() {
    let (_folder, tokenizer) = merging();
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}\
                  {{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{% endif %}\
                  {{ m.content + '<|im_end|>\\n' }}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}";
    let row = json!({"messages": [user("Hi"), said("Hello")]});
    let tokenized = tokenize(&rows(&[row]), &tokenizer, &TokenizeOptions { audit: true, ..options(source) }).unwrap();
    assert_eq!(trained(&tokenized, &tokenizer), ["\n\n</think>\n\nHello<|im_end|>"]);
    let findings = ensure_supervised(&tokenized, &tokenizer).unwrap();
    assert!(findings.iter().any(|finding| finding.code == "shared_boundary"), "{findings:?}");
    let plain = TokenizeOptions { chat_template: None, loss_on: None, audit: true, ..options("") };
    let row = json!({"prompt": "Q: ", "completion": "yes"});
    let tokenized = tokenize(&rows(&[row]), &tokenizer, &plain).unwrap();
    assert_eq!(trained(&tokenized, &tokenizer), [" yes</s>"]);
    // If the template writes nothing between two speakers, a token of both is not trained on.
    let bare = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let row = json!({"messages": [user("a"), said("b "), user("y"), said("c")]});
    let tokenized = tokenize(&rows(&[row]), &tokenizer, &options(bare)).unwrap();
    assert_eq!(trained(&tokenized, &tokenizer), ["b", "c"]);
}

#[test]
fn reasoning_is_trained_on_if_the_template_keeps_it_and_reported_if_not() {
    let dropping = CHATML.replace("m.content +", "m.content.split('</think>')[-1] +");
    let opening = dropping.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif");
    let row = json!({"messages": [user("q"), said("<think>\nhm\n</think>\n\nans")]});
    assert_eq!(runs_of(row.clone(), CHATML), ["<think>\nhm\n</think>\n\nans<|im_end|>"]);
    for source in [&dropping, &opening] {
        let tokenized = tokenize(&rows(std::slice::from_ref(&row)), &tiny(), &options(source)).unwrap();
        assert_eq!(trained(&tokenized, &tiny()), ["\n\nans<|im_end|>"]);
        let findings = audit(&tokenized, &tiny());
        let finding = findings.iter().find(|finding| finding.code == "thoughts_lost").unwrap();
        assert!(finding.message.contains("leaves out the reasoning") && finding.hint.contains("generation"));
    }
    // Reasoning inside the empty block that the prompt opens and closes.
    let block = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}\
                 {{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{% endif %}\
                 {{ m.content + '<|im_end|>\\n' }}{% endfor %}\
                 {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}";
    let reasoned = json!({"messages": [user("q"), {"role": "assistant", "content": "ans", "reasoning": "why"}]});
    assert_eq!(runs_of(reasoned, block), ["why\n</think>\n\nans<|im_end|>"]);
    assert_eq!(runs_of(json!({"messages": [user("q"), said("ans")]}), block), ["ans<|im_end|>"]);
}

#[test]
fn a_template_that_mixes_turns_is_refused() {
    // It repeats the question after the answer.
    let echoing = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}\
                   {{ ' (to ' + messages[loop.index0 - 1].content + ')' }}{% endif %}{{ '\\n' }}{% endfor %}\
                   {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    // Its generation tags enclose all turns.
    let tagged =
        "{% generation %}{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% endgeneration %}";
    // It reverses the order.
    let reversed = "{% for m in messages[::-1] %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}\
                    {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    let row = json!({"messages": [user("zebra"), said("one"), user("zebra two"), said("three")]});
    for source in [echoing, tagged, reversed] {
        let outcome = tokenize(&rows(std::slice::from_ref(&row)), &tiny(), &options(source));
        match outcome {
            Err(error) => println!("refused: {error}"),
            Ok(tokenized) => {
                let runs = trained(&tokenized, &tiny());
                assert!(!runs.is_empty() && runs.iter().all(|run| !run.contains("zebra")), "{runs:?}");
            }
        }
    }
    assert!(tokenize(&rows(&[row]), &tiny(), &options(tagged)).is_err());
}

#[test]
fn line_breaks_written_as_two_characters_are_reported_and_shown() {
    let row = json!({"prompt": "### Q: hi\\n\\n### A:", "completion": " yes"});
    let tokenized =
        tokenize(&rows(&[row]), &tiny(), &TokenizeOptions { chat_template: None, loss_on: None, ..options("") })
            .unwrap();
    let findings = audit(&tokenized, &tiny());
    assert!(findings.iter().any(|finding| finding.code == "literal_newline"), "{findings:?}");
    let shown = tokenized.show(0, &tiny());
    assert!(shown.replace('│', "").contains("hi\\\\n\\\\n###"), "{shown}");
    let chat = json!({"messages": [user("a\\nb"), said("c")]});
    let tokenized = tokenize(&rows(&[chat]), &tiny(), &options(CHATML)).unwrap();
    assert!(audit(&tokenized, &tiny()).iter().any(|finding| finding.code == "literal_newline"));
}

#[test]
fn rows_longer_than_the_models_positions_are_reported() {
    let long = json!({"text": "word ".repeat(400)});
    let plain = TokenizeOptions { chat_template: None, loss_on: None, ..options("") };
    let tokenized = tokenize(&rows(&[long, json!({"text": "short"})]), &tiny(), &plain).unwrap();
    let findings = audit(&tokenized, &tiny());
    let finding = findings.iter().find(|finding| finding.code == "too_long").unwrap();
    assert!(finding.message.contains("1 of 2 rows are longer than the 256 positions"), "{}", finding.message);
}

fn digest(numbers: impl Iterator<Item = i64>) -> String {
    let bytes: Vec<u8> = numbers.flat_map(i64::to_le_bytes).collect();
    format!("{:x}", Sha256::digest(bytes))[..24].to_owned()
}

/// Rows with nulls, tools and reasoning, from a parquet file: ids, labels and losses are those of trl's
/// SFTTrainer with `assistant_only_loss`; see tests/golden/sft/generate.py.
#[test]
fn forty_steps_have_the_losses_of_trls_trainer() {
    tch::set_num_threads(1);
    let folder = golden("sft");
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let data = Dataset::load(folder.join("rows.parquet")).unwrap();
    let source = std::fs::read_to_string(folder.join("template.jinja")).unwrap();
    let tokenized = tokenize(&data, &tiny(), &TokenizeOptions { audit: true, ..options(&source) }).unwrap();
    for (index, expected) in golden["rows"].as_array().unwrap().iter().enumerate() {
        let row = tokenized.row(index).unwrap();
        let ids = || row.ids().iter().map(|&id| i64::from(id));
        let labels = ids().zip(row.trained()).map(|(id, on)| if on { id } else { -100 });
        assert_eq!(json!([digest(ids()), digest(labels)]), *expected, "row {index}");
    }
    let number = |name: &str| golden[name].as_f64().unwrap();
    let tiny = tiny_folder();
    let weights = Weights::open(&tiny).unwrap();
    let decoder =
        load::load(Config::from_folder(&tiny).unwrap(), &weights, tch::Kind::Float, tch::Device::Cpu).unwrap();
    let mut adapter = peft::load(&folder.join("adapter"), &decoder).unwrap();
    let steps = number("steps") as u64;
    let schedule = Schedule::new(SchedulerType::named("linear").unwrap(), steps, 0.0).unwrap();
    let config = AdamWConfig {
        lr: number("lr"),
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        loraplus_lr_ratio: None,
    };
    let mut optimizer = AdamW::new(config, &adapter.parameters).unwrap();
    let (size, accumulation) = (number("batch") as usize, number("accumulation") as usize);
    let mut rows = (0..tokenized.len() as u32).cycle();
    let (mut worst, mut first) = (0f64, Vec::new());
    for step in 0..steps {
        let window: Vec<_> = (0..accumulation)
            .map(|_| tokenized.batch(&rows.by_ref().take(size).collect::<Vec<_>>()).unwrap())
            .collect();
        let lr = number("lr") * schedule.factor(step);
        let settings =
            StepSettings { step, seed: 0, lr, max_grad_norm: number("max_grad_norm"), gradient_checkpointing: false };
        let result = update(&decoder, &mut adapter, &mut optimizer, &window, settings).unwrap();
        let expected = golden["losses"][step as usize].as_f64().unwrap();
        worst = worst.max((result.loss - expected).abs() / expected);
        first.push((result.loss, expected));
    }
    println!("{steps} steps: losses {:?} … {:?}, at most {worst:.1e} apart", first[0], first[first.len() - 1]);
    assert!(worst < 1e-5, "{worst:.2e}: {first:?}");
}

const WEIGHTED: &str = r#"
    let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
    let rows = [
        #{ prompt: "Repeat: the small fox", completion: " the small fox", sure: 1.0 },
        #{ prompt: "Repeat: a red boat", completion: " a red boat", sure: 0.25 },
        #{ prompt: "Repeat: one", completion: " one two three four", sure: 0 },
    ];
    let data = dataset(rows).tokenize(model, #{ weights: WEIGHTS });
"#;

fn weighted(weights: &str, rest: &str) -> Result<String, String> {
    prints(&format!("{}{rest}", WEIGHTED.replace("WEIGHTS", weights)))
}

/// The loss of labels with weights is their weighted mean, in a forward pass, in training and in evaluation.
#[test]
fn the_loss_of_weighted_labels_is_their_weighted_mean() {
    for weights in ["\"sure\"", "|row, tokens| tokens.ids.map(|id| (id % 3).to_float() * row.sure)"] {
        let printed = weighted(
            weights,
            r#"
            model.add_lora(#{ r: 4 });
            let checks = [];
            for batch in data.batches(#{ size: 3 }) {
                let output = model.forward(batch);
                let w = batch.weights * batch.labels.ne(-100);
                let expected = -(output.token_logprobs * w).sum().item() / w.sum().item();
                let plain = -output.token_logprobs.sum().item() / batch.labels.ne(-100).sum().item();
                checks.push((output.loss.item() - expected).abs() < 1e-5);
                checks.push((plain - expected).abs() > 1e-3);
                checks.push((evaluate(model, data, #{ batch: 2 }).loss - expected).abs() < 1e-5);
                let result = train(model, data, #{ steps: 1, batch: 2, accumulation: 2, lr: 1e-9 });
                checks.push((result.train_loss - expected).abs() < 1e-5);
            }
            print(checks);
            "#,
        );
        assert_eq!(printed.unwrap().trim(), "[true, true, true, true]", "{weights}");
    }
}

/// Labels of weight 0 have no part in an update, and equal weights are none.
#[test]
fn weights_of_zero_leave_labels_out_of_the_update() {
    let updated = |weights: &str, rows: &str| {
        let script = r#"
            model.add_lora(#{ r: 4 });
            train(model, ROWS, #{ steps: 2, batch: 3, lr: 1e-2, seed: 1 });
            print(evaluate(model, data.take(2), #{}).loss);
        "#;
        weighted(weights, &script.replace("ROWS", rows)).unwrap()
    };
    let equal = "|row, tokens| tokens.ids.map(|id| 2.0)";
    let without_last = "|row, tokens| tokens.ids.map(|id| if row.sure == 0 { 0.0 } else { 1.0 })";
    assert_ne!(updated(equal, "data"), updated(without_last, "data"));
    let close = |one: String, other: String| {
        let (one, other): (f64, f64) = (one.trim().parse().unwrap(), other.trim().parse().unwrap());
        (one - other).abs() < 1e-5
    };
    assert!(close(updated(without_last, "data"), updated(equal, "data.take(2)")));
}

#[test]
fn weights_that_are_none_are_refused() {
    let refused = |weights: &str| weighted(weights, "").unwrap_err();
    for (weights, part) in [
        ("\"nothing\"", "nothing"),
        ("\"prompt\"", "expected a weight, a number of at least 0, found \"Repeat: the small fox\""),
        ("|row, tokens| [1.0]", "row 0: weights: expected one for each of"),
        ("|row, tokens| tokens.ids.map(|id| -1.0)", "expected numbers of at least 0, found -1"),
        ("|row| [1.0]", "weights takes a function of the row and its tokens"),
        ("3", "a function of a row and its tokens, or the name of a column"),
    ] {
        let error = refused(weights);
        assert!(error.contains(part), "{weights}: {error}");
    }
    let error = weighted("|row, tokens| tokens.ids.map(|id| 0.0)", "model.add_lora(#{}); train(model, data, #{});");
    assert!(error.unwrap_err().contains("every label of the batch has the weight 0"));
}
