//! What is written out of habit from Python, and what it is called here: names of peft,
//! transformers, trl, datasets and torch, options of theirs, and Python's grammar.
//!
//! Hints only: what is wrong, and where, others have found. Names of options that work here too
//! are in `settings`.

use super::brackets;

/// Names, and what to do instead.
const NAMES: &[(&[&str], &str)] = &[
    (&["True"], "in this language it is written `true`"),
    (&["False"], "in this language it is written `false`"),
    (&["None"], "in this language it is written `()`"),
    (
        &["AutoModelForCausalLM", "AutoModel", "FastLanguageModel", "from_pretrained"],
        "a model is loaded by load_model(name), an adapter by model.load_adapter(folder)",
    ),
    (&["AutoTokenizer", "tokenizer"], "a model brings its tokenizer along: load_model(name)"),
    (&["LoraConfig", "get_peft_model"], "an adapter is added by model.add_lora(#{ r: 8, alpha: 16 })"),
    (&["PeftModel", "AutoPeftModelForCausalLM"], "load the base by load_model(name), then model.load_adapter(folder)"),
    (&["BitsAndBytesConfig"], "it is an option of loading: load_model(name, #{ load_in_4bit: true })"),
    (&["TrainingArguments", "SFTConfig"], "they are the options of train(model, data, #{ epochs: 3, lr: 2e-4 })"),
    (&["Trainer", "SFTTrainer", "trainer"], "there is no trainer: train(model, data, #{ steps: 100 }) trains"),
    (&["train"], "train(model, data, #{ steps: 100 }) trains; forward(batch) is ready for training at all times"),
    (&["eval"], "leave it out: evaluate(…), generate(…) and the like use no dropout and keep no gradients"),
    (
        &["prepare_model_for_kbit_training", "DataCollatorForLanguageModeling", "DataCollatorForSeq2Seq", "DataLoader"],
        "leave it out: it is done without being asked for",
    ),
    (&["tqdm"], "leave it out: progress is shown without being asked for"),
    (&["save_pretrained"], "model.save_adapter(folder) saves the adapter, model.save_merged(folder) the model with it"),
    (&["merge_and_unload"], "model.merge() merges in memory, model.save_merged(folder) into files"),
    (&["push_to_hub"], "save into a folder and upload that with `hf upload owner/name FOLDER`"),
    (&["gradient_checkpointing_enable"], "it is an option: train(model, data, #{ gradient_checkpointing: true })"),
    (
        &["to", "cuda", "cpu", "half", "bfloat16"],
        "device and dtype are chosen when loading: load_model(name, #{ device: \"cuda\", dtype: \"bf16\" })",
    ),
    (
        &["set_seed", "manual_seed", "random"],
        "seeds are options: add_lora(#{ seed: 1 }), train(…, #{ seed: 1 }), shuffle(1)",
    ),
    (&["AdamW", "Adam", "SGD"], "the optimizer is adamw(model, #{ lr: 1e-4 })"),
    (
        &["get_scheduler", "get_linear_schedule_with_warmup", "get_cosine_schedule_with_warmup"],
        "a schedule is lr_schedule(\"cosine\", #{ steps: 100, warmup: 10 })",
    ),
    (&["torch", "nn"], "there is no torch: models come from load_model(name), tensors from tensor([1.0, 2.0])"),
    (&["np", "numpy"], "there is no numpy: lists have mean(list) and stdev(list), and tensor(list) calculates"),
    (&["pd", "pandas"], "tables are read by load_dataset(\"rows.csv\")"),
    (&["plt", "sns"], "lines are drawn by line_chart(#{ … }).save(\"chart.svg\"), a sweep by result.chart(#{ … })"),
    (&["wandb"], "leave it out: with `out`, train writes its logs, TensorBoard's too"),
    (&["pipeline"], "text is written by model.generate(prompt, #{ … }) and model.chat(message, #{ … })"),
    (&["train_test_split"], "rows are held out by .split(#{ test: 0.1, seed: 0 })"),
    (&["open"], "files are read by read_text(path) and read_json(path)"),
    (&["append"], "one value is added by list.push(value); .append joins two lists"),
    (&["extend"], "two lists are joined by list.append(other)"),
    (&["items"], "keys are looped over: for key in map.keys() { print(map[key]); }"),
    (&["get"], "it takes the key alone; with a default: map.get(\"lr\") ?? 1e-4"),
    (&["print"], "it takes one value: print(`loss ${loss}`)"),
    (&["format"], "values stand inside a text between backticks: `rank ${rank}`"),
    (&["str"], "values stand inside a text between backticks: `rank ${rank}`; or value.to_string()"),
    (&["int"], "a text is read by parse_int(text); int(x) takes a float"),
    (&["float"], "a text is read by parse_float(text); an int turns into a float by .to_float()"),
    (&["range"], "from 0 to 9: 0..10, or range(0, 10)"),
    (&["enumerate", "zip"], "with the index: for (value, index) in list { … }; of two lists: a.zip(b, |x, y| [x, y])"),
    (&["sorted"], "a list is sorted in its place by list.sort()"),
    (&["sum"], "of a list: list.reduce(|total, x| total + x, 0.0); of a tensor: x.sum()"),
    (&["max", "min"], "they take two values; of a list: list.reduce(|a, x| max(a, x), list[0])"),
    (&["isinstance"], "the type of a value is type_of(value)"),
    (&["assert"], "write if !(…) { throw \"what is wrong\"; }"),
    (&["raise"], "an error is raised by throw \"what is wrong\";"),
    (&["pass"], "leave it out: an empty block is { }"),
    (&["__name__"], "leave it out: a script runs from its first line to its last"),
    (&["self"], "there are no classes: values that belong together are a map, #{ rank: 8 }"),
];

/// Options, the one function they stand for something else in (or none: anywhere), and what
/// to do instead.
const OPTIONS: &[(&[&str], &str, &str)] = &[
    (&["fp16", "bf16"], "", "the dtype is the model's: load_model(name, #{ dtype: \"bf16\" }), or \"f16\""),
    (&["torch_dtype"], "", "it is called `dtype`: \"f32\", \"bf16\" or \"auto\""),
    (&["device_map"], "", "it is called `device`: \"cpu\", \"cuda\" or \"auto\""),
    (&["quantization_config"], "", "write its options themselves: load_in_4bit: true"),
    (&["load_in_8bit"], "", "8 bits are not supported; load_in_4bit: true takes less memory still"),
    (&["bnb_4bit_compute_dtype"], "", "the option `dtype` says what is computed in"),
    (&["trust_remote_code"], "", "leave it out: code from the hub is never run"),
    (&["token", "use_auth_token"], "", "set the environment variable HF_TOKEN"),
    (&["cache_dir"], "", "set the environment variable HF_HOME"),
    (
        &[
            "task_type",
            "inference_mode",
            "fan_in_fan_out",
            "attn_implementation",
            "use_cache",
            "low_cpu_mem_usage",
            "remove_unused_columns",
            "dataloader_num_workers",
            "num_proc",
            "batched",
        ],
        "",
        "leave it out: it is not needed here",
    ),
    (&["output_dir"], "", "it is called `out`"),
    (
        &["report_to", "logging_dir", "run_name"],
        "",
        "leave it out: with `out`, the logs are written there, TensorBoard's too",
    ),
    (
        &["save_steps", "save_strategy", "save_total_limit"],
        "",
        "leave it out: the adapter is saved at the end, or the best one with keep_best: true",
    ),
    (&["logging_strategy"], "", "write log_every: 10 to log every 10 steps"),
    (
        &[
            "max_seq_length",
            "max_length",
            "packing",
            "dataset_text_field",
            "assistant_only_loss",
            "completion_only_loss",
        ],
        "train",
        "rows are made before: data.tokenize(model, #{ max_length: 512, packing: true })",
    ),
    (&["max_seq_length"], "tokenize", "it is called `max_length`"),
    (&["chat_template"], "generate", SET_TEMPLATE),
    (&["chat_template"], "chat", SET_TEMPLATE),
    (&["chat_template"], "compare", SET_TEMPLATE),
    (&["chat_template"], "score_generation", SET_TEMPLATE),
    (&["apply_chat_template"], "score_generation", "it is called `chat`"),
    (&["num_beams"], "", "beam search is not supported: leave it out"),
    (
        &["num_return_sequences"],
        "",
        "give the prompt several times: model.generate([prompt, prompt], #{ do_sample: true })",
    ),
    (
        &["data_files", "data_dir"],
        "",
        "give the path, or an array of paths, in place of the name: load_dataset(\"train.jsonl\")",
    ),
    (
        &["name", "config", "config_name"],
        "load_dataset",
        "a configuration is a pattern of files: #{ files: \"boolq/*\" }",
    ),
    (&["sep"], "load_dataset", "it is called `delimiter`"),
    (&["column_names", "names"], "load_dataset", "give the names by `header: [\"…\"]`"),
    (&["usecols"], "load_dataset", "it is called `columns`"),
    (&["encoding"], "load_dataset", "files are read as UTF-8: iconv -f CP949 -t UTF-8 old.csv > new.csv"),
    (&["stratify_by_column"], "", "it is called `stratify`"),
    (&["streaming"], "", "leave it out: all rows are held in memory"),
    (&["test_size"], "", "it is called `test`: a share, or a number of rows"),
    (&["train_size"], "", "give the other part: `test`, a share or a number of rows"),
];

/// What a name of Python's world is here.
pub fn name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(names, _)| names.contains(&name)).map(|(_, hint)| *hint)
}

const SET_TEMPLATE: &str = "set it on the model before: model.chat_template = template";

/// What an option of Python's world is here, in a call of `function`.
pub fn option(function: &str, name: &str) -> Option<&'static str> {
    let fits = |(names, of, _): &&(&[&str], &str, &str)| names.contains(&name) && (of.is_empty() || *of == function);
    OPTIONS.iter().find(fits).map(|(.., hint)| *hint)
}

/// Lines that no script of this language has: how they begin, what that is, what to do.
const LINES: &[(&str, &str, &str)] = &[
    ("from ", "Python's `import`", IMPORT),
    ("import ", "Python's `import`", IMPORT),
    ("!pip ", "a command of a notebook", "leave it out: nothing has to be installed"),
    ("%", "a command of a notebook", "leave it out"),
    ("@", "a decorator", "leave it out: there are none"),
    ("def ", "Python's `def`", "a function is written fn double(x) { 2 * x }"),
    ("class ", "Python's `class`", "there are no classes: values that belong together are a map, #{ rank: 8 }"),
    ("with ", "Python's `with`", "leave it out: evaluate(…), generate(…) and the like keep no gradients"),
    ("try:", "Python's `try:`", "write try { … } catch (error) { … }"),
    ("except", "Python's `except`", "write try { … } catch (error) { … }"),
    ("raise ", "Python's `raise`", "an error is raised by throw \"what is wrong\";"),
    ("elif ", "Python's `elif`", "write } else if … {"),
    ("} elif ", "Python's `elif`", "write } else if … {"),
];

const IMPORT: &str =
    "leave it out: every function is there already; a script of yours is imported by import \"name\" as name;";

const MAP: &str = "a map is written #{ r: 8, alpha: 16 }";
const BRANCH: &str = "write if quick { 10 } else { 200 }";
const BACKTICKS: &str = "values stand inside a text between backticks: `rank ${rank}`";

/// What begins at the place of the error, what that is, what to do.
const PLACES: &[(&str, &str, &str)] = &[
    ("# ", "Python's comment", "a comment begins with //"),
    ("#!", "a line for the shell", "leave it out: a script is run by lorhai run FILE"),
    ("f\"", "Python's f-string", BACKTICKS),
    ("f'", "Python's f-string", BACKTICKS),
    ("\"\"\"", "Python's triple quotes", "a text over several lines stands between backticks, `…`"),
    ("(**", "Python's `**`", "hand the map over as it is: model.add_lora(config)"),
    ("and ", "Python's `and`", "write &&"),
    ("or ", "Python's `or`", "write ||"),
    ("not ", "Python's `not`", "write !done, and !in for `not in`"),
    ("is ", "Python's `is`", "write == or !=; nothing is ()"),
    ("lambda ", "Python's `lambda`", "a function without a name is written |p| 2 * p.rank"),
    ("? ", "`?`", BRANCH),
    ("++", "`++`", "write step += 1"),
    ("--", "`--`", "write step -= 1"),
    ("“", "a typographic quote", "a text stands between plain quotes: \"…\""),
    ("”", "a typographic quote", "a text stands between plain quotes: \"…\""),
    ("‘", "a typographic quote", "a text stands between plain quotes: \"…\""),
];

/// What of Python's grammar an error at `column` (from 1) of `line` may come from: what it is,
/// and what to write instead.
pub fn grammar(line: &str, column: usize) -> Option<(&'static str, String)> {
    let at = line.char_indices().nth(column.checked_sub(1)?).map_or(line.len(), |(at, _)| at);
    let (before, after) = line.split_at(at);
    let (start, before) = (line.trim_start(), before.trim_end());
    let fixed = |(_, what, hint): &(&str, &'static str, &str)| (*what, hint.to_string());
    let begins = |(text, ..): &&(&str, &str, &str)| start.starts_with(text) && !start.contains("import \"");
    let stands = |(text, ..): &&(&str, &str, &str)| after.starts_with(text);
    LINES
        .iter()
        .find(begins)
        .map(fixed)
        .or_else(|| comment(after))
        .or_else(|| PLACES.iter().find(stands).map(fixed))
        .or_else(|| by_context(start, before, after).map(|(what, hint)| (what, hint.to_string())))
        .or_else(|| keyword_argument(before, after))
}

/// `#` and no map.
fn comment(after: &str) -> Option<(&'static str, String)> {
    let is_comment = after.starts_with('#') && !after.starts_with("#{") && !after.starts_with("#!");
    is_comment.then(|| ("Python's comment", "a comment begins with //".to_string()))
}

fn by_context(start: &str, before: &str, after: &str) -> Option<(&'static str, &'static str)> {
    let (colon, comma) = (after.starts_with(':'), after.starts_with(','));
    let word = |text: &str| start.starts_with(text);
    let opens =
        |bracket: char| before.ends_with(bracket) || before.rfind(bracket) > before.rfind(brackets::closing(bracket));
    let found = match () {
        _ if colon && after.trim_end() == ":" && word("for ") => {
            ("Python's `:`", "a block stands between braces: for rank in [2, 4] { … }")
        }
        _ if colon && after.trim_end() == ":" && word("while ") => {
            ("Python's `:`", "a block stands between braces: while step < 10 { … }")
        }
        _ if colon && after.trim_end() == ":" => {
            ("Python's `:`", "a block stands between braces: if rank > 4 { … } else { … }")
        }
        _ if colon && word("let ") && !before.contains('=') => {
            ("the type of a variable", "leave it out: let rank = 8;")
        }
        _ if colon && word("fn ") => {
            ("the type of a parameter", "leave it out, and defaults too: fn scaled(rank, factor) { … }")
        }
        _ if colon && opens('[') => ("Python's slice", "a part of a list: list.extract(0..2)"),
        _ if colon && before.ends_with('"') => ("Python's dict", MAP),
        _ if before.ends_with('{') && !before.ends_with("#{") && names_a_key(after) => ("Python's dict", MAP),
        _ if after.starts_with("if ") && before.contains('=') => ("Python's `if … else`", BRANCH),
        _ if after.contains(" not in ") => ("Python's `not in`", "write !in"),
        _ if comma && word("for ") => ("two names in a loop", "write for (value, index) in list { … }"),
        _ if comma && word("let ") && !before.contains('=') => {
            ("two names for one value", "one `let` declares one name: let parts = …; let train = parts.train;")
        }
        _ if comma && (opens('(') && !before.ends_with('(') || word("return ")) => {
            ("Python's tuple", "several values are a list, [2, 4, 8], or a map")
        }
        _ if opens('[') && after.contains(" for ") && after.contains(" in ") => {
            ("Python's list comprehension", "write [1, 2, 3].map(|i| 2 ** i), or fill a list in a loop by .push(…)")
        }
        _ if after.starts_with('=') && before.contains("#{") => ("`=` in a map", MAP),
        _ => return None,
    };
    Some(found)
}

/// `r: 8`, as behind the brace of a dict.
fn names_a_key(text: &str) -> bool {
    let rest = text.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
    let rest = rest.trim_start();
    rest.len() < text.len() && rest.starts_with(':') && !rest.starts_with("::")
}

/// `r=8` behind a bracket or a comma.
fn keyword_argument(before: &str, after: &str) -> Option<(&'static str, String)> {
    let name: String = after.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    let value = after[name.len()..].trim_start().strip_prefix('=')?;
    let is_one = !name.is_empty() && !value.starts_with('=') && (before.ends_with('(') || before.ends_with(','));
    let value: String = value.trim_start().chars().take_while(|letter| !",)".contains(*letter)).collect();
    is_one.then(|| {
        ("Python's keyword argument", format!("options stand in a map, the last argument: #{{ {name}: {value} }}"))
    })
}

/// What is taken for a value of another type, by the types expected and found.
pub fn in_place_of(expected: &str, found: &str) -> Option<&'static str> {
    Some(match (expected, found) {
        ("Tokenized", "Dataset") => "turn the rows into tokens first: data.tokenize(model, #{})",
        ("TokenizedSplit", "Dataset") => {
            "first turn the rows into tokens: data.tokenize(model, #{}).split(#{ test: 0.1 })"
        }
        ("TokenizedSplit", "Tokenized") => "hold some rows out first: data.split(#{ test: 0.1 })",
        ("Model", "string") => "load it first: load_model(name)",
        ("Tokenized" | "TokenizedSplit", "string") => "load the rows first: load_dataset(name).tokenize(model, #{})",
        ("map", "()") => "an empty map is #{}",
        ("map", "string" | "int" | "float" | "bool" | "array") => "options stand in a map: #{ name: value }",
        _ => return None,
    })
}

/// What a method of Python's is here, for a type that is no list.
pub fn method(of: &str, name: &str) -> Option<&'static str> {
    match (of, name) {
        ("Dataset", "append" | "push" | "add_item" | "extend") => {
            Some("rows are added by data.concatenate(dataset([row]))")
        }
        ("Dataset", "map") => Some("it takes a function alone, which is given one row: data.map(|row| …)"),
        ("Tensor", "size") => Some("sizes are in x.shape, as in x.shape[0]"),
        _ => None,
    }
}

/// What is meant by an element of a value that has none.
pub fn element(of: &str, by: &str) -> Option<&'static str> {
    Some(match (of, by) {
        ("Dataset", "int") => "a row is data.row(0); the first ones are data.take(5)",
        ("Dataset", "string") => {
            "of a data set of several splits one is loaded: load_dataset(name, #{ split: \"train\" })"
        }
        ("TokenizedSplit" | "Split", "string") => "its parts are .train and .test",
        _ => return None,
    })
}

/// What is meant by an operator on a text.
pub fn operator(name: &str, left: &str, right: &str) -> Option<&'static str> {
    match (name, left, right) {
        ("%", "string", _) => Some(BACKTICKS),
        ("+", ..) => None,
        ("*", "string", "int") => Some(
            "a number is read from a text by parse_int(text); a line of dashes: let line = \"\"; line.pad(40, \"-\");",
        ),
        (_, "string", "int" | "float") | (_, "int" | "float", "string") => {
            Some("a text is read as a number by parse_int(text) or parse_float(text)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_options_are_listed_once() {
        let mut seen = HashSet::new();
        assert!(NAMES.iter().flat_map(|(names, _)| *names).all(|name| seen.insert(*name)));
        let mut seen = HashSet::new();
        let options = OPTIONS.iter().flat_map(|(names, of, _)| names.iter().map(move |name| (*name, *of)));
        assert!(options.into_iter().all(|option| seen.insert(option)));
        assert_eq!(option("chat", "chat_template"), Some(SET_TEMPLATE));
        assert_eq!(option("tokenize", "max_length"), None, "it is an option there");
    }

    #[test]
    fn grammar_is_told_by_the_place_of_the_error() {
        for (line, column, what) in [
            ("import torch", 8, "Python's `import`"),
            ("let x = 1;  # one", 13, "Python's comment"),
            ("model.add_lora(r=8)", 16, "Python's keyword argument"),
            ("train(model, data, lr = 1e-4)", 20, "Python's keyword argument"),
            ("f({ r: 8 })", 5, "Python's dict"),
            ("let c = {\"r\": 8};", 13, "Python's dict"),
            ("print(ranks[1:]);", 14, "Python's slice"),
            ("for i in range(10):", 19, "Python's `:`"),
            ("    if a > 2 and b {", 14, "Python's `and`"),
            ("let a, b = f();", 6, "two names for one value"),
            ("let steps = 10 if quick else 200;", 16, "Python's `if … else`"),
            ("let 이름 = x ? 1 : 2;", 12, "`?`"),
        ] {
            assert_eq!(grammar(line, column).map(|(found, _)| found), Some(what), "{line}");
        }
        for (line, column) in [
            ("let c = #{ r: 8 };", 12),
            ("import \"common\" as c;", 8),
            ("rank = 8;", 1),
            ("f(a == b)", 3),
            ("let b = a + * 2;", 13),
            ("", 1),
            ("x", 7),
        ] {
            assert_eq!(grammar(line, column), None, "{line}");
        }
    }
}
