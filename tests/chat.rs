//! Chat templates and assistant spans against transformers; see tests/golden/chat/generate.py.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json};
use common::needs::assets;
use lorhai::data::example::Chat;
use lorhai::data::{
    spans, tokenize, AssistantSpan, ChatTemplate, Dataset, LossOn, Row, TemplateProfile, TokenizeOptions,
};
use lorhai::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

fn read(name: &str) -> Value {
    read_json(golden("chat").join(name))
}

fn template_text(name: &str) -> String {
    std::fs::read_to_string(golden("chat/templates").join(format!("{name}.jinja"))).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))[..24].to_owned()
}

fn special(name: &str) -> Row {
    let of_family = [
        ("llama", json!({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})),
        ("gemma", json!({"bos_token": "<bos>", "eos_token": "<end_of_turn>", "pad_token": "<pad>"})),
        ("phi", json!({"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})),
        ("qwen", json!({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})),
    ];
    let tokens = of_family.into_iter().find(|(family, _)| name.starts_with(family)).unwrap().1;
    tokens.as_object().unwrap().clone()
}

fn chat(item: &Value) -> Chat {
    let mut variables = Row::from_iter([("date_string".to_owned(), json!("26 Jul 2024"))]);
    variables.extend(item.get("kwargs").and_then(Value::as_object).cloned().unwrap_or_default());
    Chat {
        messages: item["messages"].as_array().unwrap().clone(),
        prompt: None,
        tools: item.get("tools").cloned(),
        variables,
    }
}

fn qwen() -> Tokenizer {
    Tokenizer::from_folder(&assets("tokenizers/qwen2.5/qwen2.5-0.5b-instruct")).unwrap()
}

fn plain() -> TokenizeOptions {
    TokenizeOptions { max_length: None, cache: false, audit: false, ..TokenizeOptions::default() }
}

#[test]
fn renderings_are_those_of_transformers_byte_for_byte() {
    let conversations = read("conversations.json");
    let renderings = read("renderings.json");
    let (mut compared, mut refused, mut wrong) = (0, 0, Vec::new());
    for (name, rows) in renderings.as_object().unwrap() {
        let template = ChatTemplate::with_tokens(&template_text(name), special(name)).unwrap();
        assert_eq!(template.has_generation_tags(), name.ends_with("_training"), "{name}");
        for (index, (item, expected)) in
            conversations.as_array().unwrap().iter().zip(rows.as_array().unwrap()).enumerate()
        {
            let chat = chat(item);
            let prompt = item.get("add_generation_prompt") == Some(&json!(true));
            let rendered = template.render(&chat, chat.messages.len(), prompt);
            match (rendered, expected.as_array()) {
                (Err(_), None) => refused += 1,
                (Err(error), Some(_)) => wrong.push(format!("{name} {index}: {error}")),
                (Ok(rendered), None) => {
                    wrong.push(format!("{name} {index}: rendered, but Jinja2 refuses: {:?}", rendered.text))
                }
                (Ok(rendered), Some(expected)) => {
                    compared += 1;
                    let characters = |byte: usize| rendered.text[..byte].chars().count();
                    let spans: Vec<[usize; 2]> =
                        rendered.generated.iter().map(|span| [characters(span.start), characters(span.end)]).collect();
                    if expected[0] != json!(digest(rendered.text.as_bytes())) {
                        wrong.push(format!("{name} {index}: other text\n{}", rendered.text));
                    } else if expected.get(2).is_some_and(|expected| *expected != json!(spans)) {
                        wrong.push(format!("{name} {index}: spans {spans:?}, expected {}", expected[2]));
                    }
                }
            }
        }
    }
    println!("{compared} renderings equal, {refused} refused by both");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 800);
}

/// The ids of one conversation and which of them are trained on; `None` if it is refused.
fn tokens(item: &Value, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Option<(Vec<u32>, Vec<bool>)> {
    let row: Row = item.as_object().unwrap().clone();
    let tokenized = tokenize(&Dataset::from_rows([row]), tokenizer, options).ok()?;
    let row = tokenized.row(0)?;
    Some((row.ids().to_vec(), row.trained()))
}

fn runs(mask: &[bool]) -> Vec<[usize; 2]> {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for (at, _) in mask.iter().enumerate().filter(|(_, &bit)| bit) {
        match runs.last_mut() {
            Some(run) if run[1] == at => run[1] = at + 1,
            _ => runs.push([at, at + 1]),
        }
    }
    runs
}

/// The templates of Llama 2 and Mistral have no generation prompt. The model writes the space before the answer.
#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn the_space_before_an_answer_is_trained_if_generation_starts_before_it() {
    let tokenizer = qwen();
    let plainly = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}";
    let item = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "Hello you"},
        {"role": "user", "content": "r"}, {"role": "assistant", "content": "Bye"}]});
    let options =
        TokenizeOptions { chat_template: Some(plainly.to_owned()), loss_on: Some(LossOn::Assistant), ..plain() };
    assert_eq!(trained_text(&tokenizer, item.clone(), &options), [" Hello you<|im_end|>", " Bye<|im_end|>"]);
    // A header that the template writes is not part of the answer.
    let headed = plainly.replace("{% else %} ", "{% else %}Answer: ");
    let options = TokenizeOptions { chat_template: Some(headed), audit: false, ..options };
    assert!(trained_text(&tokenizer, item, &options).iter().all(|text| !text.contains("Answer")));
}

/// A template may open its generation tags before the end of the generation prompt.
#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn an_answer_that_starts_inside_the_prompt_is_trained_from_its_end() {
    let tokenizer = qwen();
    let options = TokenizeOptions {
        chat_template: Some(template_text("qwen2_5_training")),
        loss_on: Some(LossOn::Assistant),
        ..plain()
    };
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let item = json!({"prompt": [turn("user", "q")],
        "completion": [turn("assistant", "one"), turn("user", "r"), turn("assistant", "two")]});
    let answers = trained_text(&tokenizer, item, &options);
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(
        answers[0].starts_with("one<|im_end|>") && answers[1].trim_start().starts_with("two<|im_end|>"),
        "{answers:?}"
    );
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn assistant_masks_are_those_of_transformers_with_and_without_generation_tags() {
    let tokenizer = qwen();
    let (conversations, masks) = (read("conversations.json"), read("masks.json"));
    let tagged = TokenizeOptions {
        chat_template: Some(template_text("qwen2_5_training")),
        loss_on: Some(LossOn::Assistant),
        ..plain()
    };
    let stock = TokenizeOptions { assistant_span: AssistantSpan::Turn, chat_template: None, ..tagged.clone() };
    let (mut compared, mut strict) = (0, 0);
    for (index, (item, expected)) in conversations.as_array().unwrap().iter().zip(masks.as_array().unwrap()).enumerate()
    {
        let Some(expected) = expected.as_array() else { continue };
        for options in [&tagged, &stock] {
            let Some((ids, trained)) = tokens(item, &tokenizer, options) else {
                strict += 1;
                continue;
            };
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(json!(digest(&bytes)), expected[0], "ids of conversation {index}");
            assert_eq!(json!(runs(&trained)), expected[2], "mask of conversation {index}\n{item}");
            compared += 1;
        }
    }
    println!("{compared} masks equal; {strict} conversations refused here and taken by transformers");
    assert!(compared >= 136 && strict <= 2, "{compared} {strict}");
}

fn trained_text(tokenizer: &Tokenizer, item: Value, options: &TokenizeOptions) -> Vec<String> {
    let (ids, trained) = tokens(&item, tokenizer, options).unwrap();
    runs(&trained).iter().map(|&[start, end]| tokenizer.decode(&ids[start..end], false).unwrap()).collect()
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn by_default_the_span_is_what_the_model_writes() {
    let tokenizer = qwen();
    let messages = json!([
        {"role": "user", "content": "안녕"}, {"role": "assistant", "content": " 네. \n"},
        {"role": "user", "content": "답?"}, {"role": "assistant", "content": "예"}]);
    let item = json!({"messages": messages});
    let assistant = TokenizeOptions { loss_on: Some(LossOn::Assistant), ..plain() };
    assert_eq!(trained_text(&tokenizer, item.clone(), &assistant), [" 네. \n<|im_end|>", "예<|im_end|>"]);
    let completion = TokenizeOptions { loss_on: Some(LossOn::Completion), ..plain() };
    assert_eq!(trained_text(&tokenizer, item.clone(), &completion), ["예<|im_end|>"]);
    let turn = TokenizeOptions { assistant_span: AssistantSpan::Turn, ..assistant.clone() };
    assert_eq!(trained_text(&tokenizer, item, &turn), ["\n 네. \n<|im_end|>\n", "\n예<|im_end|>\n"]);

    let prompt = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]);
    let answer = json!([{"role": "assistant", "content": "d"}, {"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]);
    let split = json!({"prompt": prompt, "completion": answer});
    assert_eq!(trained_text(&tokenizer, split.clone(), &assistant), ["d<|im_end|>", "f<|im_end|>"]);
    let whole = ["d<|im_end|>\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\nf<|im_end|>"];
    assert_eq!(trained_text(&tokenizer, split, &plain()), whole);
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn templates_that_change_earlier_turns_are_handled_or_refused() {
    let tokenizer = qwen();
    let thought = json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\nfirst"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "<think>\ny\n</think>\n\nsecond"}]});
    let qwen3 =
        TokenizeOptions { chat_template: Some(template_text("qwen3")), loss_on: Some(LossOn::Assistant), ..plain() };
    let answers = trained_text(&tokenizer, thought.clone(), &qwen3);
    assert_eq!(answers, ["first<|im_end|>", "<think>\ny\n</think>\n\nsecond<|im_end|>"]);
    let data = Dataset::from_rows([thought.as_object().unwrap().clone()]);
    let tokenized = tokenize(&data, &tokenizer, &qwen3).unwrap();
    let findings = lorhai::data::audit(&tokenized, &tokenizer);
    assert!(findings.iter().any(|finding| finding.code == "thoughts_lost"), "{findings:?}");

    // This one writes only the last message, so the answers before it cannot be trained on.
    let lossy = "{% for m in messages %}{% if loop.last %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let chat = Chat { messages: thought["messages"].as_array().unwrap().clone(), ..Chat::default() };
    let template = ChatTemplate::with_tokens(lossy, Row::new()).unwrap();
    let profile = TemplateProfile::default();
    let spans = spans::find(&template, &chat, &profile, LossOn::Assistant, AssistantSpan::Generated).unwrap();
    assert!(spans.lost.answer && spans.prompt_differs);
    assert_eq!(
        spans.trained().iter().map(|span| &spans.text()[span.clone()]).collect::<Vec<_>>(),
        [&spans.text()[11..]]
    );
}

#[test]
fn llama_three_turns_are_the_same_with_and_without_generation_tags() {
    let conversations = read("conversations.json");
    let load = |name: &str| ChatTemplate::with_tokens(&template_text(name), special(name)).unwrap();
    let (stock, tagged) = (load("llama3"), load("llama3_training"));
    let profile = TemplateProfile { turn_end: Some((1, "<|eot_id|>".into())), ..TemplateProfile::default() };
    let mut compared = 0;
    for item in conversations.as_array().unwrap() {
        let chat = chat(item);
        let find = |template| spans::find(template, &chat, &profile, LossOn::Assistant, AssistantSpan::Generated);
        if let (Ok(stock), Ok(tagged)) = (find(&stock), find(&tagged)) {
            assert_eq!(stock.trained(), tagged.trained(), "{item}");
            compared += 1;
        }
    }
    assert!(compared > 75, "{compared}");
}

#[test]
fn a_template_cannot_run_away() {
    let chat = Chat { messages: vec![json!({"role": "user", "content": "x"})], ..Chat::default() };
    let bombs = [
        "{% for i in range(100000000) %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{{ i }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'a' * 10000000000 }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(5000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a | tojson }}",
        "{{ messages | tojson(indent=100000000000) * 1000000 }}",
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        let outcome = ChatTemplate::with_tokens(bomb, Row::new()).and_then(|template| template.render(&chat, 1, false));
        assert!(outcome.is_err(), "{bomb}");
        assert!(start.elapsed().as_secs_f64() < 5.0, "{bomb}: {:?}", start.elapsed());
    }
}

#[test]
fn dates_are_written_as_in_python() {
    let chat = Chat::default();
    let template = ChatTemplate::with_tokens("{{ strftime_now('%Y|%d %b %Y|%%|%H') }}", Row::new()).unwrap();
    let text = template.render(&chat, 0, false).unwrap().text;
    let parts: Vec<&str> = text.split('|').collect();
    assert!(
        template.is_dated()
            && parts[0].parse::<u32>().unwrap() >= 2024
            && parts[1].ends_with(parts[0])
            && parts[2] == "%"
    );
}

#[test]
fn the_message_of_raise_exception_is_shown() {
    let raise = ChatTemplate::with_tokens("{{ raise_exception('roles must alternate') }}", Row::new()).unwrap();
    let error = raise.render(&Chat::default(), 0, false).unwrap_err();
    assert!(error.message.contains("roles must alternate"), "{error}");
    let error = ChatTemplate::with_tokens("{% for %}", Row::new()).unwrap_err();
    assert!(error.hint.unwrap().contains("chat_template"));
}
