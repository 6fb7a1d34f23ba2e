//! From data files to batches: tokenizers, readers, labels, packing, cache, audit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json};
use common::needs::assets;
use lorhai::data::{
    audit, ensure_supervised, tokenize, Dataset, LoadOptions, LossOn, Row, Severity, TokenizeOptions, TokenizedDataset,
    TokenizedInfo, TokenizedRow, Truncation, IGNORE,
};
use lorhai::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

fn rows(values: &[Value]) -> Dataset {
    Dataset::from_rows(values.iter().map(|value| value.as_object().unwrap().clone()))
}

fn options() -> TokenizeOptions {
    TokenizeOptions { cache: false, ..TokenizeOptions::default() }
}

/// A tokenizer with one token a character: ids are `a`=10, `b`=11, …
fn char_tokenizer(config: &str) -> (tempfile::TempDir, Tokenizer) {
    let mut vocab: Row = [("<s>", 0), ("</s>", 1), ("<pad>", 2), ("?", 3), ("ab", 4), ("\n", 5), (" ", 6), (":", 7)]
        .into_iter()
        .map(|(token, id)| (token.to_owned(), json!(id)))
        .collect();
    vocab.extend(('a'..='z').enumerate().map(|(index, c)| (c.to_string(), json!(10 + index))));
    let added: Vec<Value> = ["<s>", "</s>", "<pad>"]
        .iter()
        .enumerate()
        .map(|(id, content)| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}))
        .collect();
    let bos = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": null, "post_processor": bos, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b"], "unk_token": "?"}});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    (folder, tokenizer)
}

const PLAIN: &str = r#"{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}"#;

/// Knuth's MMIX generator, as in tests/golden/tokens/generate.py.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(limit)) as u32
    }
}

const RANGES: [(u32, u32); 24] = [
    (0x20, 0x7E),
    (0x20, 0x20),
    (0x09, 0x0D),
    (0xAC00, 0xD7A3),
    (0x1100, 0x11FF),
    (0x3131, 0x318E),
    (0x4E00, 0x9FFF),
    (0x3041, 0x30FE),
    (0xA0, 0x24F),
    (0x300, 0x36F),
    (0x400, 0x4FF),
    (0x600, 0x6FF),
    (0x2000, 0x206F),
    (0x2190, 0x22FF),
    (0x1F300, 0x1F64F),
    (0x1F1E6, 0x1F1FF),
    (0xFE00, 0xFE0F),
    (0x30, 0x39),
    (0x61, 0x7A),
    (0xE000, 0xE0FF),
    (0x1D400, 0x1D7FF),
    (0xFF00, 0xFFEF),
    (0x0, 0x1F),
    (0x10000, 0x10FFFF),
];

fn random_text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(12) {
        let (low, high) = RANGES[random.below(RANGES.len() as u32) as usize];
        for _ in 0..=random.below(9) {
            text.push(char::from_u32(low + random.below(high - low + 1)).unwrap());
        }
    }
    text
}

fn digest(encoded: &[Vec<u32>]) -> String {
    let mut hash = Sha256::new();
    for ids in encoded {
        hash.update((ids.len() as u32).to_le_bytes());
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    format!("{:x}", hash.finalize())[..24].to_owned()
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn token_ids_are_those_of_the_python_package() {
    let golden = read_json(golden("tokens/ids.json"));
    let mut compared = 0;
    for (name, expected) in golden["tokenizers"].as_object().unwrap() {
        let tokenizer = Tokenizer::from_folder(&assets(name)).unwrap();
        let encode = |text: &str| tokenizer.encode(text, true).unwrap();
        for (text, expected) in golden["texts"].as_array().unwrap().iter().zip(expected["texts"].as_array().unwrap()) {
            let text = text.as_str().unwrap();
            let encodings = [encode(text), tokenizer.encode(text, false).unwrap()];
            assert_eq!(&json!(digest(&encodings)), expected, "{name}: {text:?} gives {encodings:?}");
            assert_eq!(tokenizer.encode_with_offsets(text, true).unwrap().ids, encodings[0]);
            compared += 1;
        }
        let mut random = Random(20_261_124);
        for (block, expected_ids) in expected["random"].as_array().unwrap().iter().enumerate() {
            let texts: Vec<String> = (0..100).map(|_| random_text(&mut random)).collect();
            let ids: Vec<Vec<u32>> = texts.iter().map(|text| encode(text)).collect();
            assert_eq!(&json!(digest(&ids)), expected_ids, "{name}: random block {block}");
            let decoded: Vec<Vec<u32>> = texts
                .iter()
                .map(|text| tokenizer.encode(text, false).unwrap())
                .map(|ids| tokenizer.decode(&ids, true).unwrap().bytes().map(u32::from).collect())
                .collect();
            assert_eq!(json!(digest(&decoded)), expected["decoded"][block], "{name}: decoded block {block}");
            compared += texts.len();
        }
        for (file, expected) in expected["files"].as_object().unwrap() {
            let text = std::fs::read_to_string(assets(file)).unwrap();
            let ids: Vec<Vec<u32>> = text.split('\n').map(encode).collect();
            assert_eq!(&json!(digest(&ids)), expected, "{name}: {file}");
            compared += ids.len();
        }
    }
    println!("{compared} texts have the ids of the Python package");
    assert!(compared > 25_000);
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn every_shared_data_file_is_read() {
    let expected = [
        ("data/e2e/devset.csv", 4672, "mr,ref"),
        ("data/korean_chatbot/ChatbotData.csv", 11823, "Q,A,label"),
        ("data/wikisql_mlx/train.jsonl", 1000, "text"),
        ("data/llama-factory-demo/alpaca_en_demo.json", 999, "instruction,input,output"),
        ("data/kobest/COPA/test.tsv", 1000, ""),
        ("data/chatml_messages/toy_chat_fine_tuning.jsonl", 10, "messages"),
    ];
    for (file, count, columns) in expected {
        let data = Dataset::load(assets(file)).unwrap();
        let names = data.columns().join(",");
        println!("{file}: {} rows, {names}", data.len());
        assert_eq!(data.len(), count, "{file}");
        assert!(columns.is_empty() || names == columns, "{file}: {names}");
    }
}

fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn formats_agree_on_the_same_table() {
    let expected = rows(&[json!({"q": "가, \"나\"", "n": 1, "f": 0.5}), json!({"q": "x\ny", "n": null, "f": 2.0})]);
    let files: [(&str, &str); 6] = [
        ("a.csv", "q,n,f\n\"가, \"\"나\"\"\",1,0.5\n\"x\ny\",,2.0\n"),
        ("a.tsv", "q\tn\tf\r\n\"가, \"\"나\"\"\"\t1\t0.5\r\n\"x\ny\"\t\t2.0\r\n"),
        ("a.jsonl", "\u{feff}{\"q\":\"가, \\\"나\\\"\",\"n\":1,\"f\":0.5}\n\n{\"q\":\"x\\ny\",\"n\":null,\"f\":2.0}"),
        ("a.json", "[{\"q\":\"가, \\\"나\\\"\",\"n\":1,\"f\":0.5},{\"q\":\"x\\ny\",\"n\":null,\"f\":2.0}]"),
        ("b.json", "{\"version\":\"1\",\"data\":[{\"q\":\"가, \\\"나\\\"\",\"n\":1,\"f\":0.5},{\"q\":\"x\\ny\",\"n\":null,\"f\":2.0}]}"),
        ("c.json", "{\"q\":[\"가, \\\"나\\\"\",\"x\\ny\"],\"n\":[1,null],\"f\":[0.5,2.0]}"),
    ];
    for (name, text) in files {
        let (_folder, path) = written(name, text.as_bytes());
        let data = Dataset::load(&path).unwrap();
        let rows = |data: &Dataset| data.iter().map(|row| row.unwrap().into_owned()).collect::<Vec<_>>();
        assert_eq!(rows(&data), rows(&expected), "{name}");
        assert_eq!(data.columns(), ["q", "n", "f"], "{name}");
    }
    let (_folder, path) = written("a.txt", "한 줄\n\nlast".as_bytes());
    let text: Vec<Value> = Dataset::load(&path).unwrap().iter().map(|row| row.unwrap()["text"].clone()).collect();
    assert_eq!(text, [json!("한 줄"), json!(""), json!("last")]);
}

#[test]
fn large_arrays_are_read_value_by_value_as_lines_are() {
    // Several batches, whose texts look like the ends of values.
    let row = |n: usize| json!({"n": n, "text": "\\\"], [{가".repeat(n % 90), "list": [[n], {"k": "}"}]});
    let table: Vec<Value> = (0..4500).map(row).collect();
    let texts: Vec<Value> = table.iter().map(|row| row["text"].clone()).collect();
    let chats = vec![json!([{"role": "user", "content": "q"}]); 3];
    let read = |name: &str, bytes: &[u8]| {
        let (_folder, path) = written(name, bytes);
        let data = Dataset::load(&path)?;
        data.iter().map(|row| Ok(Value::Object(row?.into_owned()))).collect::<lorhai::Result<Vec<Value>>>()
    };
    let pretty = format!("\u{feff}\n {}\n", serde_json::to_string_pretty(&table).unwrap());
    assert!(pretty.len() > 2_500_000);
    assert!(read("a.json", pretty.as_bytes()).unwrap() == table);
    assert!(read("a.jsonl", Value::from(table.clone()).to_string().as_bytes()).unwrap() == table);
    let under =
        |column: &str, values: &[Value]| values.iter().map(|value| json!({ column: value })).collect::<Vec<_>>();
    assert!(read("a.json", Value::from(texts.clone()).to_string().as_bytes()).unwrap() == under("text", &texts));
    assert_eq!(read("a.json", Value::from(chats.clone()).to_string().as_bytes()).unwrap(), under("messages", &chats));

    let pretty = serde_json::to_string_pretty(&table[..100]).unwrap();
    let open = pretty.strip_suffix(']').unwrap();
    let lines = pretty.lines().count();
    for (end, expected) in [
        (", 7]", "row 100: expected an object, found a number".to_owned()),
        (", {\"a\": }]", format!("not valid JSON: expected a value (line {lines}")),
        (", {\"a\": 1}", format!("(line {lines}")),
        ("] []", "expected an array of objects, found an array".to_owned()),
    ] {
        let error = read("a.json", format!("{open}{end}").as_bytes()).unwrap_err();
        assert!(error.message.contains(&expected), "{end}: {error}");
    }
}

#[test]
fn numbers_that_would_be_written_differently_stay_text() {
    let (_folder, path) =
        written("a.csv", b"zip,exp,big,mixed,flag,price,part,said\n007,1e5,12345678901234567890,1,true,1.50,3,True\n010,2,1,x,false,2.00,2.5,FALSE\n");
    let row = Dataset::load(path).unwrap().row(0).unwrap().clone();
    assert_eq!(
        Value::Object(row),
        json!({"zip": "007", "exp": "1e5", "big": "12345678901234567890", "mixed": "1", "flag": true, "price": "1.50", "part": 3, "said": "True"})
    );
}

#[test]
fn parquet_written_by_pyarrow_is_read() {
    let path = golden("data/nested.parquet");
    let data = Dataset::load(path).unwrap();
    assert_eq!(data.len(), 3);
    let first = json!({"id": 1, "text": "가나다", "score": 0.5, "ok": true,
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": null}], "tags": ["a", "b"]});
    assert_eq!(Value::Object(data.row(0).unwrap().clone()), first);
    let third = data.row(2).unwrap();
    assert_eq!(
        (third["text"].clone(), third["messages"].clone(), third["tags"].clone()),
        (Value::Null, json!([]), Value::Null)
    );
}

#[test]
fn errors_of_unreadable_files_name_file_and_line() {
    let cases: [(&str, &[u8], &str); 19] = [
        ("a.jsonl", b"{\"a\":1}\n{\"a\":", "line 2: not valid JSON"),
        ("a.jsonl", b"{\"a\":1}\n[1]\n", "line 2: expected a JSON object, found an array"),
        ("a.jsonl", b"{\"a\":\"\xff\"}\n", "line 1"),
        ("a.jsonl", b"", "no rows"),
        ("a.json", b"[{\"a\":1}, 3]", "row 1: expected an object, found a number"),
        ("a.json", b"{\"a\":[1,2],\"b\":[1]}", "column `b` has 1 values"),
        ("a.json", b"\"text\"", "expected an array of objects"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3: expected 2 fields as in the header, found 3"),
        ("a.csv", b"a,a\n1,2\n", "twice"),
        ("a.csv", b"", "empty"),
        ("a.csv", b"id,text\n1,\"oops\n2,b\n3,c\n", "line 2: a double quote opens a field"),
        ("a.csv", b"text\n\"oops\nb\n", "line 2: a double quote opens a field"),
        ("a.csv", b"text\n", "no rows"),
        ("a.csv", b"a\n\xff\n", "line 2: not UTF-8"),
        ("a.txt", b"ok\n\xff\n", "line 2: not UTF-8"),
        ("a.parquet", b"PAR1 nothing PAR1", "not readable as parquet"),
        ("a.parquet", b"", "not readable as parquet"),
        ("a.docx", b"x", "cannot tell the format"),
        ("a", b"x", "cannot tell the format"),
    ];
    for (name, bytes, expected) in cases {
        let (_folder, path) = written(name, bytes);
        let error = Dataset::load(&path).unwrap_err();
        assert!(error.message.contains(expected) && error.message.contains(name), "{name}: {error}");
    }
    assert!(Dataset::load("/nowhere/x.jsonl").unwrap_err().message.contains("/nowhere/x.jsonl"));
    assert!(Dataset::load_with(
        "/dev/zero",
        &LoadOptions { format: Some(lorhai::data::read::Format::Csv), ..LoadOptions::default() }
    )
    .is_err());
}

#[test]
fn a_damaged_parquet_file_never_panics() {
    let path = golden("data/nested.parquet");
    let bytes = std::fs::read(path).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(11) {
        for changed in [bytes[..at].to_vec(), {
            let mut b = bytes.clone();
            b[at] ^= 0x55;
            b
        }] {
            let (_folder, path) = written("x.parquet", &changed);
            refused += usize::from(Dataset::load(path).is_err());
        }
    }
    assert!(refused > bytes.len() / 11, "{refused}");
}

#[test]
fn a_folder_is_its_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("data/train-1.jsonl", "{\"a\":2}"),
        ("data/train-0.jsonl", "{\"a\":1}"),
        ("data/test.jsonl", "{\"a\":3}"),
        ("README.md", "x"),
    ] {
        std::fs::create_dir_all(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let values = |data: Dataset| data.iter().map(|row| row.unwrap()["a"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(values(Dataset::load(folder.path()).unwrap()), [1, 2]);
    let test = LoadOptions { split: Some("test".into()), ..LoadOptions::default() };
    assert_eq!(values(Dataset::load_with(folder.path(), &test).unwrap()), [3]);
    // If some files name their split, those without one are left out.
    std::fs::write(folder.path().join("more.csv"), "a\n1\n").unwrap();
    assert_eq!(values(Dataset::load(folder.path()).unwrap()), [1, 2]);
    std::fs::write(folder.path().join("data/train-2.csv"), "a\n1\n").unwrap();
    assert!(Dataset::load(folder.path()).unwrap_err().message.contains("several formats: csv, jsonl"));
}

#[test]
fn texts_and_completions_get_one_bos_and_one_eos() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let data = rows(&[json!({"text": "ca"}), json!({"text": "<s>ca</s>"})]);
    let tokenized = tokenize(&data, &tokenizer, &options()).unwrap();
    assert_eq!(tokenized.row(0).unwrap().ids(), [0, 12, 10, 1]);
    assert_eq!(tokenized.row(1).unwrap().ids(), [0, 12, 10, 1]);
    assert_eq!(tokenized.row(0).unwrap().trained(), [false, true, true, true]);
    let pair = rows(&[json!({"prompt": "q:", "completion": "ab"})]);
    let tokenized = tokenize(&pair, &tokenizer, &options()).unwrap();
    assert_eq!(tokenized.row(0).unwrap().ids(), [0, 26, 7, 4, 1]);
    assert_eq!(tokenized.row(0).unwrap().trained(), [false, false, false, true, true]);
    let batch = tokenized.batch(&[0]).unwrap();
    assert_eq!(batch.labels, [IGNORE, IGNORE, IGNORE, 4, 1]);
}

/// A tokenizer whose post-processor adds the end token.
#[test]
fn an_end_token_that_the_tokenizer_adds_is_trained() {
    let (folder, _) = char_tokenizer(PLAIN);
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    json["post_processor"]["single"].as_array_mut().unwrap().push(end);
    json["post_processor"]["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [1], "tokens": ["</s>"]});
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let tokenized = tokenize(&rows(&[json!({"prompt": "q:", "completion": "ab"})]), &tokenizer, &options()).unwrap();
    assert_eq!(tokenized.row(0).unwrap().ids(), [0, 26, 7, 4, 1]);
    assert_eq!(tokenized.row(0).unwrap().trained(), [false, false, false, true, true]);
}

#[test]
fn json_columns_may_have_objects_and_be_empty() {
    let (_folder, path) = written("a.json", br#"{"text": ["a", "b"], "meta": [{"id": 1}, {"id": 2}]}"#);
    assert_eq!(Dataset::load(path).unwrap().row(1).unwrap()["meta"], json!({"id": 2}));
    let (_folder, path) = written("a.json", br#"{"errors": [], "data": [{"text": "a"}]}"#);
    assert_eq!(Dataset::load(path).unwrap().row(0).unwrap()["text"], "a");
}

#[test]
fn truncation_keeps_the_start_or_the_end() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let pair = rows(&[json!({"prompt": "xyz", "completion": "c"})]);
    let of = |truncation| {
        let options = TokenizeOptions { max_length: Some(3), truncation, audit: false, ..options() };
        tokenize(&pair, &tokenizer, &options).unwrap().row(0).unwrap().ids().to_vec()
    };
    assert_eq!(of(Truncation::KeepStart), [0, 33, 34]);
    assert_eq!(of(Truncation::KeepEnd), [35, 12, 1]);
    let dropped = TokenizeOptions { max_length: Some(3), drop_unlabelled: true, ..options() };
    let error = tokenize(&pair, &tokenizer, &dropped).unwrap_err();
    assert!(error.message.contains("no row has anything to train on"), "{error}");
}

#[test]
fn packed_rows_have_whole_documents_and_every_label() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let texts: Vec<Value> = (1..60).map(|n| json!({"prompt": "q", "completion": "c".repeat(n % 11 + 1)})).collect();
    let data = rows(&texts);
    let alone = tokenize(&data, &tokenizer, &options()).unwrap();
    let packed =
        tokenize(&data, &tokenizer, &TokenizeOptions { packing: true, max_length: Some(32), ..options() }).unwrap();
    assert_eq!((packed.token_count(), packed.label_count()), (alone.token_count(), alone.label_count()));
    assert!(packed.len() * 2 < alone.len() && packed.longest() <= 32);
    let order: Vec<u32> = (0..packed.len() as u32).collect();
    let batch = packed.batch(&order).unwrap();
    let segments = batch.segments.unwrap();
    for cell in 0..batch.rows * batch.seq_len {
        let new = cell % batch.seq_len == 0 || segments[cell] != segments[cell - 1];
        if new || segments[cell] < 0 {
            assert_eq!((batch.labels[cell], batch.position_ids[cell]), (IGNORE, 0));
        } else {
            assert_eq!(batch.position_ids[cell], batch.position_ids[cell - 1] + 1);
        }
    }
    assert!(tokenize(&data, &tokenizer, &TokenizeOptions { packing: true, max_length: None, ..options() }).is_err());
}

/// The error of the audit.
fn refusal(data: &Dataset, tokenizer: &Tokenizer, options: &TokenizeOptions) -> String {
    tokenize(data, tokenizer, options).unwrap_err().to_string()
}

#[test]
fn the_audit_fails_on_broken_supervision_and_shows_the_row() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let empty =
        rows(&[json!({"prompt": "q:", "completion": "a"}), json!({"prompt": "long prompt", "completion": "a"})]);
    let text = refusal(&empty, &tokenizer, &TokenizeOptions { max_length: Some(6), ..options() });
    assert!(text.contains("1 of 2 rows have no token to train on: truncation left no answer"), "{text}");
    assert!(text.contains("row 1: 6 tokens, 0 trained on\n    -   <s>│l│o│n│g│"), "{text}");

    let cut = rows(&[json!({"prompt": "q", "completion": "aaaaaaaa"})]);
    let text = refusal(&cut, &tokenizer, &TokenizeOptions { max_length: Some(6), ..options() });
    assert!(
        text.contains("no end token (`</s>`) is trained on in any row") && text.contains("  train a│a│a│a"),
        "{text}"
    );

    let merged = rows(&[json!({"prompt": "xa", "completion": "bc"})]);
    let text = refusal(&merged, &tokenizer, &options());
    assert!(text.contains("one token spans the end of the prompt") && text.contains("  train ab│c│</s>"), "{text}");

    let doubled = rows(&[json!({"text": "<s><s>a"})]);
    let text = refusal(&doubled, &tokenizer, &options());
    assert!(text.contains("begin with two BOS tokens"), "{text}");

    assert!(tokenize(&rows(&[json!({"text": "a"})]), &tokenizer, &options()).is_ok());
    let everything = TokenizeOptions { loss_on: Some(LossOn::Everything), ..options() };
    assert!(tokenize(&merged, &tokenizer, &everything).is_ok(), "a boundary matters only to the loss on completions");
}

#[test]
fn pad_equal_to_eos_may_not_mask_the_eos() {
    let (_folder, tokenizer) = char_tokenizer(r#"{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}"#);
    let origin = TokenizedInfo { pad_id: 1, end_ids: vec![1], end_expected: true, ..TokenizedInfo::default() };
    let masked =
        TokenizedRow { ids: vec![0, 10, 11, 1], trained: vec![false, true, true, false], ..TokenizedRow::default() };
    let data = TokenizedDataset::from_rows([masked], origin).unwrap();
    let error = ensure_supervised(&data, &tokenizer).unwrap_err();
    assert!(error.message.contains("pad and eos are the same token"), "{error}");
    // Padding is masked by position, so the real eos keeps its label.
    let ours = tokenize(&rows(&[json!({"text": "a"}), json!({"text": "abc"})]), &tokenizer, &options()).unwrap();
    assert!(audit(&ours, &tokenizer).is_empty());
    let batch = ours.batch(&[0, 1]).unwrap();
    assert_eq!(batch.labels, [IGNORE, 10, 1, IGNORE, IGNORE, 4, 12, 1]);
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn an_added_system_prompt_is_a_warning() {
    let tokenizer = Tokenizer::from_folder(&assets("tokenizers/qwen2.5/qwen2.5-0.5b-instruct")).unwrap();
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    let tokenized = tokenize(&rows(&[json!({"messages": turns})]), &tokenizer, &options()).unwrap();
    let findings = ensure_supervised(&tokenized, &tokenizer).unwrap();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.code, finding.severity, finding.rows), ("added_system", Severity::Warning, 1));
    assert!(finding.message.contains("You are Qwen"));
    let with_system = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    let tokenized = tokenize(&rows(&[json!({"messages": with_system})]), &tokenizer, &options()).unwrap();
    assert!(audit(&tokenized, &tokenizer).is_empty());
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn real_conversations_tokenise_and_pass_the_audit() {
    let tokenizer = Tokenizer::from_folder(&assets("tokenizers/qwen2.5/qwen2.5-0.5b-instruct")).unwrap();
    for file in [
        "chatml_messages/toy_chat_fine_tuning.jsonl",
        "llama-factory-demo/alpaca_en_demo.json",
        "llama-factory-demo/alpaca_zh_demo.json",
        "llama-factory-demo/glaive_toolcall_en_demo.json",
        "llama-factory-demo/identity.json",
    ] {
        let data = Dataset::load(assets("data").join(file)).unwrap();
        let assistant = TokenizeOptions { loss_on: Some(LossOn::Assistant), max_length: None, ..options() };
        let tokenized = tokenize(&data, &tokenizer, &assistant).unwrap();
        println!(
            "{file}: {} rows, {} tokens, {} trained on",
            tokenized.len(),
            tokenized.token_count(),
            tokenized.label_count()
        );
        assert_eq!(tokenized.len(), data.len());
    }
}

#[test]
fn the_cache_returns_the_same_tokens_and_survives_damage() {
    // One test sets the variable, so no other can read it in between.
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let cache = tempfile::tempdir().unwrap();
    std::env::set_var("LORHAI_CACHE", cache.path());
    let data = rows(&[json!({"text": "abc"}), json!({"text": "cab"})]);
    let cached = TokenizeOptions { cache: true, ..options() };
    let first = tokenize(&data, &tokenizer, &cached).unwrap();
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder.join("tokenized"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default()
    };
    let [entry] = &entries(cache.path())[..] else { panic!("one entry") };
    let whole = std::fs::read(entry).unwrap();
    assert_eq!(tokenize(&data, &tokenizer, &cached).unwrap().fingerprint(), first.fingerprint());
    for damage in [whole[..whole.len() / 2].to_vec(), Vec::new(), b"{}\n".to_vec(), [&whole[..], b"x"].concat()] {
        std::fs::write(entry, &damage).unwrap();
        assert_eq!(tokenize(&data, &tokenizer, &cached).unwrap().fingerprint(), first.fingerprint());
        assert_eq!(std::fs::read(entry).unwrap(), whole, "the entry is made again");
    }
    tokenize(
        &data,
        &tokenizer,
        &TokenizeOptions { append_eos: false, loss_on: Some(LossOn::Everything), ..cached.clone() },
    )
    .unwrap();
    tokenize(&data.take(1), &tokenizer, &cached).unwrap();
    tokenize(&data, &tokenizer, &TokenizeOptions { audit: false, ..cached.clone() }).unwrap();
    assert_eq!(entries(cache.path()).len(), 3, "other options and rows are other entries; the audit is none");
    // A cache that cannot be written costs only time.
    std::env::set_var("LORHAI_CACHE", "/proc/nowhere");
    assert!(tokenize(&data, &tokenizer, &cached).is_ok());
    std::env::remove_var("LORHAI_CACHE");
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let data = rows(&(0..5000).map(|n| json!({"text": "ab".repeat(n % 13 + 1)})).collect::<Vec<_>>());
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| tokenize(&data, &tokenizer, &options()).unwrap().fingerprint().to_owned())
    };
    assert_eq!(with(1), with(7));
}

#[test]
fn errors_name_the_first_row_that_is_wrong() {
    let (_folder, tokenizer) = char_tokenizer(PLAIN);
    let mut values: Vec<Value> = (0..3000).map(|_| json!({"text": "a"})).collect();
    values[2500] = json!({"text": null});
    values[2900] = json!({"text": [1]});
    let error = tokenize(&rows(&values), &tokenizer, &options()).unwrap_err();
    assert_eq!(error.message, "row 2500: column `text` is empty");
    let error = tokenize(&rows(&[json!({"messages": [{"role": "user", "content": "a"}]})]), &tokenizer, &options())
        .unwrap_err();
    assert!(error.message.contains("no chat template") && error.hint.unwrap().contains("prompt"));
    let error = tokenize(
        &rows(&[json!({"text": "a"})]),
        &tokenizer,
        &TokenizeOptions { loss_on: Some(LossOn::Assistant), ..options() },
    )
    .unwrap_err();
    assert!(error.hint.unwrap().contains("everything"));
    assert!(tokenize(&Dataset::default(), &tokenizer, &options()).unwrap_err().message.contains("no rows"));
}
