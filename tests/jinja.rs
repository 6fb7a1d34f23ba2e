//! Chat templates against Jinja2 in transformers' environment; see tests/golden/chat/battery.py.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::read_json;
use common::needs::python;
use lorhai::data::example::Chat;
use lorhai::data::jinja::{Cause, Template};
use lorhai::data::{ChatTemplate, Row};
use serde_json::{json, Value};
use std::path::PathBuf;

fn golden() -> PathBuf {
    common::files::golden("chat")
}

/// Snippets that differ from Python, with the reason. All are refused here; none renders another text.
const DIFFERENT: [(&str, &str); 5] = [
    ("{{ d.items }}", "a method is printed: the text holds an address"),
    ("{{ d.keys }}", "a method is printed: the text holds an address"),
    ("{{ s.upper ~ '' }}", "a method is printed: the text holds an address"),
    ("{{ (-8) ** (1/3) }}", "complex numbers"),
    ("{{ '\\N{BULLET}' if no else 1 }}", "characters by name"),
];

#[test]
fn snippets_render_as_in_jinja2_or_are_refused_as_there() {
    let battery: Value = read_json(golden().join("battery.json"));
    let context = battery["context"].as_object().unwrap();
    let (mut equal, mut refused, mut wrong, mut different) = (0, 0, Vec::new(), Vec::new());
    for snippet in battery["snippets"].as_array().unwrap() {
        let (source, expected) = (snippet[0].as_str().unwrap(), snippet[1].as_str());
        match (Template::compile(source).and_then(|template| template.render(context)), expected) {
            (Ok(text), Some(expected)) if text == expected => equal += 1,
            (Err(_), None) => refused += 1,
            (Err(_), Some(_)) if DIFFERENT.iter().any(|(listed, _)| *listed == source) => different.push(source),
            (result, _) => wrong.push(format!("{source:?}\n  expected {expected:?}\n  found {result:?}")),
        }
    }
    println!("{equal} snippets equal, {refused} refused by both, {} listed", different.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(different.len(), DIFFERENT.len(), "no longer different: {DIFFERENT:?} against {different:?}");
    assert!(equal + refused > 1300);
}

fn chat(item: &Value) -> Chat {
    // As in transformers, a key whose value is null is absent.
    let mut messages = item["messages"].as_array().unwrap().clone();
    for message in &mut messages {
        message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    Chat {
        messages,
        prompt: None,
        tools: item.get("tools").cloned(),
        variables: item.get("variables").and_then(Value::as_object).cloned().unwrap_or_default(),
    }
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn trl_s_templates_render_as_in_transformers() {
    let run =
        std::process::Command::new(python("PEER_PYTHON")).arg(golden().join("trl_templates.py")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let peer: Value = serde_json::from_slice(&run.stdout).unwrap();
    let (mut equal, mut refused, mut wrong) = (0, 0, Vec::new());
    let conversations = peer["conversations"].as_array().unwrap();
    for template in peer["templates"].as_array().unwrap() {
        let name = template["name"].as_str().unwrap();
        let source = template["source"].as_str().unwrap();
        let compiled = ChatTemplate::with_tokens(source, peer["tokens"].as_object().unwrap().clone()).unwrap();
        for (index, (item, expected)) in conversations.iter().zip(template["texts"].as_array().unwrap()).enumerate() {
            let prompt = item.get("add_generation_prompt").is_some();
            let chat = chat(item);
            match (compiled.render(&chat, chat.messages.len(), prompt), expected.as_str()) {
                (Ok(rendered), Some(expected)) if rendered.text == expected => equal += 1,
                (Err(_), None) => refused += 1,
                (result, _) => wrong.push(format!("{name} {index}: {result:?}\n  expected {expected:?}")),
            }
        }
    }
    println!("{equal} renderings equal, {refused} refused by both");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal + refused >= 60 * 24, "{equal} {refused}");
}

fn refusal(source: &str, item: Value) -> String {
    let template = match ChatTemplate::with_tokens(source, Row::new()) {
        Ok(template) => template,
        Err(error) => return error.to_string(),
    };
    let chat = chat(&item);
    template.render(&chat, chat.messages.len(), false).unwrap_err().to_string()
}

#[test]
fn a_template_that_always_fails_is_blamed() {
    let plain = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]});
    for source in [
        "{{ messages[0].content.nope() }}",
        "{{ messages | nope }}",
        "{{ messages is nope }}",
        "{% for m in messages %}{{ m.content | nope }}{% endfor %}",
        "{% if true %}{{ 'a' | nope }}{% endif %}",
        "{{ unknown.name }}",
        "{{ unknown + 'a' }}",
        "{{ 'a' + 1 }}",
        "{{ [].append(1) }}",
        "{% include 'other' %}",
        "{% for m in messages %}{{ 1 + 'a' }}{% endfor %}",
        "{% for m in messages %}",
    ] {
        let refusal = refusal(source, plain.clone());
        assert!(refusal.contains("the chat template itself is wrong"), "{source}: {refusal}");
        assert!(!refusal.contains("turn"), "{source}: {refusal}");
    }
}

#[test]
fn a_turn_that_a_template_cannot_render_is_blamed() {
    let each = "{% for m in messages %}\n{{ m.role + m.content }}{% endfor %}";
    let item = |content: Value| json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]});
    for (source, content, expected) in [
        (each, Value::Null, "line 2: turn 1 has no text"),
        (each, json!(["part"]), "line 2, at turn 1: can only concatenate str"),
        (each, json!({"a": 1}), "line 2, at turn 1: can only concatenate str"),
        (
            "{% for m in messages %}{{ m.content.strip() }}{% endfor %}",
            json!([]),
            "at turn 1: a list has no method `strip`",
        ),
        ("{{ messages[1].reasoning.text }}", json!("x"), "turn 1 has no `reasoning`"),
        ("{{ raise_exception('roles must alternate') }}", json!("x"), "roles must alternate"),
    ] {
        let refusal = refusal(source, item(content));
        assert!(refusal.contains(expected), "{source}: {refusal}");
        assert!(!refusal.contains("itself is wrong"), "{source}: {refusal}");
    }
}

#[test]
fn tools_as_a_list_of_json_texts_are_refused_as_in_transformers() {
    let item = json!({"messages": [{"role": "user", "content": "Hi"}], "tools": [{}, "{\"type\": \"function\"}"]});
    let refusal = refusal("{{ tools }}", item);
    assert!(refusal.contains("tool 1 is a string: tools are JSON schemas"), "{refusal}");
}

#[test]
fn endless_or_endlessly_nested_templates_are_stopped() {
    let context = Row::new();
    for source in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}".into(),
        "{{ 'a' * 10 ** 12 }}".into(),
        "{{ [1] * 10 ** 12 }}".into(),
        "{% set ns = namespace(a='x') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}".into(),
        "{% set ns = namespace(a=[]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}".into(),
        "{% set ns = namespace(a=[], b=[]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}".into(),
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into(),
        "{{ '%999999999d' % 1 }}".into(),
        "{{ '{:999999999}'.format(1) }}".into(),
        "{{ 'a'.ljust(10 ** 12) }}".into(),
        "{{ range(10 ** 30) }}".into(),
        "{{ 9 ** 9 ** 9 }}".into(),
        format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(5000)),
        format!("{{{{ {}1 }}}}", "1 + ".repeat(100_000)),
        format!("{{{{ a{} }}}}", "|upper".repeat(100_000)),
        format!("{}x", "{% if true %}".repeat(5000)),
    ] {
        let failure = Template::compile(&source).and_then(|template| template.render(&context)).unwrap_err();
        assert_ne!(failure.cause, Cause::Raised, "{source:.60}");
    }
    // Deep values are dropped one after another.
    let deep = "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}ok";
    assert_eq!(Template::compile(deep).unwrap().render(&context).unwrap(), "ok");
}

/// Templates made of random pieces either render or fail, and never panic.
#[test]
fn no_template_makes_the_engine_panic() {
    let battery: Value = read_json(golden().join("battery.json"));
    let context = battery["context"].as_object().unwrap();
    let sources: Vec<&str> = battery["snippets"].as_array().unwrap().iter().filter_map(|row| row[0].as_str()).collect();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut rendered = 0;
    for _ in 0..4000 {
        let mut source = String::new();
        for _ in 0..1 + random(3) {
            let chars: Vec<char> = sources[random(sources.len())].chars().collect();
            let (start, end) = (random(chars.len() + 1), random(chars.len() + 1));
            let (start, end) = if random(2) == 0 { (0, end) } else { (start, chars.len()) };
            source.extend(&chars[start.min(end)..end]);
        }
        rendered += usize::from(Template::compile(&source).and_then(|template| template.render(context)).is_ok());
    }
    assert!(rendered > 100, "{rendered}");
}
