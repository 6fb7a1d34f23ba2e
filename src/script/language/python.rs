//! What is written out of habit from Python, and what it is called here: names of peft,
//! transformers, trl, datasets and torch, options of theirs, and Python's grammar.
//!
//! Hints only: what is wrong, and where, others have found. Names of options that work here too
//! are aliases in the declarations of options.

mod adapters;
mod data;
mod generation;
mod grammar;
mod hints;
mod loading;
mod training;

use crate::eval::config::GenerationConfig;
use crate::lora::LoraSpec;
use crate::options::{OptionSet, Table};
use crate::suggest;
use crate::train::TrainConfig;
use grammar::BACKTICKS;
use hints::Hints;

pub use grammar::grammar;

/// Those below come first, then the areas' own.
const AREAS: [Hints; 5] = [training::OPTIONS, adapters::OPTIONS, loading::OPTIONS, generation::OPTIONS, data::OPTIONS];

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
    (&["AdamW", "Adam", "adam", "AdamW8bit"], "the optimizer is adamw(model, #{ lr: 1e-4 })"),
    (&["SGD", "sgd", "Adafactor", "Lion", "RMSprop"], "AdamW is the only optimizer: adamw(model, #{ lr: 1e-4 })"),
    (
        &["get_scheduler", "get_linear_schedule_with_warmup", "get_cosine_schedule_with_warmup"],
        "a schedule is lr_schedule(\"cosine\", #{ steps: 100, warmup: 10 })",
    ),
    (&["torch", "nn"], "there is no torch: models come from load_model(name), tensors from tensor([1.0, 2.0])"),
    (
        &["np", "numpy"],
        "there is no numpy: lists have .sum(), .min(), .max(), .argmin(), mean(list) and stdev(list); tensor(list) calculates",
    ),
    (&["pd", "pandas"], "tables are read by load_dataset(\"rows.csv\")"),
    (&["plt", "sns"], "any data is drawn by chart(#{ line: #{ x: …, y: … } }).save(\"chart.svg\"), a sweep by result.chart(#{ … })"),
    (&["wandb"], "leave it out: with `out`, train writes its logs, TensorBoard's too"),
    (&["pipeline"], "text is written by model.generate(prompt, #{ … }) and model.chat(message, #{ … })"),
    (&["train_test_split"], "rows are held out by .split(#{ test: 0.1, seed: 0 })"),
    (&["open"], "files are read by read_text(path) and read_json(path)"),
    (&["append"], "one value is added by list.push(value); .append joins two lists"),
    (&["extend"], "two lists are joined by list.append(other)"),
    (&["items"], "keys are looped over: for key in map.keys() { print(map[key]); }"),
    (&["get"], "it takes the key alone; with a default: map.get(\"lr\") ?? 1e-4"),
    (&["print"], "it takes one value: print(`loss ${loss}`)"),
    (&["format"], "a number as text: format(loss, \".3f\"), inside a text `loss ${format(loss, 3)}`"),
    (&["str"], "values stand inside a text between backticks: `rank ${rank}`; or value.to_string()"),
    (&["int"], "a text is read by parse_int(text); int(x) takes a float"),
    (&["float"], "a text is read by parse_float(text); an int turns into a float by .to_float()"),
    (&["range"], "from 0 to 9: 0..10, or range(0, 10)"),
    (&["enumerate", "zip"], "with the index: for (value, index) in list { … }; of two lists: a.zip(b, |x, y| [x, y])"),
    (&["sorted"], "a list is sorted in its place by list.sort(), a sorted copy is list.order()"),
    (&["strip", "lstrip", "rstrip"], "text.trim() trims a text in its place: text.trim(); and then use text"),
    (&["lower", "upper"], "it is called to_lower() or to_upper()"),
    (&["startswith", "endswith"], "it is called starts_with() or ends_with()"),
    (&["join"], "texts are joined in a loop, or by list.reduce(|all, x| `${all}, ${x}`)"),
    (&["apply_chat_template"], "rows get the template by data.tokenize(model, #{}), messages by model.chat(messages)"),
    (&["compute_metrics"], "train(model, data, #{ metrics: |model| #{ accuracy: … } }) measures at every evaluation"),
    (&["TrainerCallback"], "train takes functions: on_step: |report| …, on_eval: |report| …; they may return \"stop\""),
    (&["save_to_disk", "load_from_disk"], "rows are read by load_dataset(path)"),
    (&["argsort"], "sort a list of indices: indices.order(|i| values[i])"),
    (&["max", "min"], "of two numbers: max(a, b); of a list: list.max()"),
    (&["any"], "of a list: list.some(|x| x > 0)"),
    (&["len"], "of a list, a text or data: value.len"),
    (&["bool"], "write the comparison out: x != 0"),
    (&["list", "dict", "tuple", "set"], "a list is written [1, 2], a map #{ a: 1 }"),
    (&["resume"], "`lorhai doc train` lists the options of train"),
    (&["isinstance"], "the type of a value is type_of(value)"),
    (&["assert"], "write if !(…) { throw \"what is wrong\"; }"),
    (&["raise"], "an error is raised by throw \"what is wrong\";"),
    (&["pass"], "leave it out: an empty block is { }"),
    (&["__name__"], "leave it out: a script runs from its first line to its last"),
    (&["self"], "there are no classes: values that belong together are a map, #{ rank: 8 }"),
];

/// Options of several areas.
const OPTIONS: Hints = &[
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
    (&["logging_strategy"], "", "write log_every: 10 to log every 10 steps"),
    (
        &["max_seq_length", "max_length", "packing"],
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
    (&["test_size"], "", "it is called `test`: a fraction of the rows, or a number of rows"),
    (&["train_size"], "", "give the other part: `test`, a fraction or a number of rows"),
];

/// What a name of Python's world is here.
pub fn name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(names, _)| names.contains(&name)).map(|(_, hint)| *hint)
}

const SET_TEMPLATE: &str = "set it on the model before: model.chat_template = template";

/// What an option of Python's world is here, in a call of `function`: what is said of this function
/// comes before what is said of all.
pub fn option(function: &str, name: &str) -> Option<&'static str> {
    let all = || [OPTIONS].into_iter().chain(AREAS).flatten();
    let hint_of =
        |of: &str| all().find(|(names, known, _)| *known == of && names.contains(&name)).map(|(.., hint)| *hint);
    hint_of(function).or_else(|| hint_of(""))
}

/// What to say of an option of `function` that is not there: what Python's name is here, a slip
/// of the hand, the function that has it, or the names there are. `others` are not listed.
pub fn unknown_option<'a>(
    function: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    others: impl IntoIterator<Item = &'a str>,
) -> String {
    let (known, others): (Vec<&str>, Vec<&str>) = (known.into_iter().collect(), others.into_iter().collect());
    if let Some(hint) = option(function, name) {
        return hint.to_string();
    }
    let near = suggest::nearest(name, known.iter().chain(&others).copied());
    match elsewhere(name).filter(|(of, _)| near.is_none() && *of != function) {
        Some((of, short)) => format!("`{short}` is an option of `{of}`"),
        None => suggest::hint_beside(name, known, others),
    }
}

/// The function that has the option, and its name there.
fn elsewhere(name: &str) -> Option<(&'static str, &'static str)> {
    let of = |table: &'static Table, function| table.find(name).map(|option| (function, option.name));
    let training = of(LoraSpec::table(), "add_lora").or_else(|| of(TrainConfig::table(), "train"));
    training.or_else(|| of(GenerationConfig::table(), "generate"))
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
        ("Tensor", "numpy" | "tolist" | "cpu" | "numel") => {
            Some("the numbers are x.to_array(), of one number x.item()")
        }
        ("Tensor", "mm" | "bmm" | "dot") => Some("the matrix product is a.matmul(b)"),
        ("Dataset", other) => data::method(other),
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
        ("Tokenized", "int") => "a row is shown by data.show(0); the first ones are data.take(5)",
        ("Tokenized", "string") => "tokens are shown by data.show(0); of a split the parts are .train and .test",
        ("Dataset", "range") => "the first rows are data.take(5), those behind them data.skip(5)",
        ("Tensor", "int") => "one entry is x.narrow(0, index, 1), all are x.to_array()",
        ("TokenizedSplit" | "Split", "string") => "its parts are .train and .test",
        _ => return None,
    })
}

/// What is meant by an operator on a text.
pub fn operator(name: &str, left: &str, right: &str) -> Option<&'static str> {
    match (name, left, right) {
        ("%", "string", _) => Some(BACKTICKS),
        ("@", ..) => Some("the matrix product is a.matmul(b)"),
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
    use crate::script::catalogue::function::Catalog;
    use crate::script::catalogue::option_list;
    use std::collections::HashSet;

    #[test]
    fn names_and_options_are_listed_once() {
        let mut seen = HashSet::new();
        assert!(NAMES.iter().flat_map(|(names, _)| *names).all(|name| seen.insert(*name)));
        let mut seen = HashSet::new();
        let all = [OPTIONS].into_iter().chain(AREAS).flatten();
        let options = all.flat_map(|(names, of, _)| names.iter().map(move |name| (*name, *of)));
        assert!(options.into_iter().all(|option| seen.insert(option)));
        assert_eq!(option("chat", "chat_template"), Some(SET_TEMPLATE));
        assert_eq!(option("tokenize", "max_length"), None, "it is an option there");
    }

    /// Every name of the Python tools that `tests/golden/python_names/generate.py` found.
    #[test]
    fn every_name_of_the_python_tools_is_an_option_or_has_a_hint() {
        let catalog = Catalog::of(&rhai::Engine::new());
        let mut silent = Vec::new();
        let mut count = 0;
        for line in include_str!("../../../tests/golden/python_names/names.txt").lines() {
            let (function, name) = line.split_once(' ').unwrap();
            count += 1;
            let is_told = if function == "Dataset" {
                let has =
                    catalog.functions().iter().any(|known| known.receiver() == Some("Dataset") && known.name == name);
                has || method("Dataset", name).is_some()
            } else {
                is_taken(&catalog, function, name) || option(function, name).is_some()
            };
            if !is_told {
                silent.push(line);
            }
        }
        assert!(count > 350, "{count}");
        assert!(silent.is_empty(), "{} of {count}:\n{}", silent.len(), silent.join("\n"));
    }

    /// A hint about an option that exists would never be shown, or be wrong of another function.
    #[test]
    fn no_hint_is_about_an_option_of_its_function() {
        let catalog = Catalog::of(&rhai::Engine::new());
        let mut needless: Vec<&&str> = Vec::new();
        for (names, function, _) in [OPTIONS].into_iter().chain(AREAS).flatten() {
            needless.extend(names.iter().filter(|name| !function.is_empty() && is_taken(&catalog, function, name)));
        }
        assert!(needless.is_empty(), "{needless:?}");
    }

    fn is_taken(catalog: &Catalog, function: &str, name: &str) -> bool {
        option_list::of(catalog, function, &[]).iter().any(|option| option.is_called(name))
    }

    /// A name of the Python tools never leads to an option of another meaning.
    #[test]
    fn no_name_gets_another_as_a_suggestion() {
        let catalog = Catalog::of(&rhai::Engine::new());
        let mut wrong = Vec::new();
        for line in include_str!("../../../tests/golden/python_names/names.txt").lines() {
            let (function, name) = line.split_once(' ').unwrap();
            if function == "Dataset" || is_taken(&catalog, function, name) {
                continue;
            }
            let options = option_list::of(&catalog, function, &[]);
            let aliases = options.iter().flat_map(|option| &option.aliases).map(String::as_str);
            let hint = unknown_option(function, name, options.iter().map(|option| option.name.as_str()), aliases);
            if hint.contains("did you mean") || hint.starts_with("known:") {
                wrong.push(format!("{function} {name}: {hint}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Nor without the tables above: none of these is a slip of another name.
        let known = ["gradient_accumulation_steps", "lr_scheduler_type", "train", "reduce", "max_length", "packing"];
        for name in
            ["eval_accumulation_steps", "lr_scheduler_kwargs", "train_on_inputs", "resume", "completion_only_loss"]
        {
            assert_eq!(suggest::nearest(name, known), None, "{name}");
        }
    }

    #[test]
    fn hints_name_what_does_the_same() {
        for (function, name, part) in [
            ("train", "eval_accumulation_steps", "leave it out"),
            ("train", "lr_scheduler_kwargs", "leave it out"),
            ("train", "completion_only_loss", "loss_on"),
            ("train", "assistant_only_loss", "loss_on"),
            ("train", "train_on_inputs", "loss_on"),
            ("tokenize", "train_on_inputs", "loss_on"),
            ("train", "dataset_text_field", "text_column"),
            ("tokenize", "cutoff_len", "max_length"),
            ("add_lora", "random_state", "`seed`"),
            ("add_lora", "lora_rank", "`r`"),
            ("train", "num_steps", "`steps`"),
            ("train", "lora_alpha", "`alpha` is an option of `add_lora`"),
            ("train", "stpes", "did you mean `steps`?"),
            ("train", "stop_strings", "`stop` is an option of `generate`"),
        ] {
            let hint = unknown_option(function, name, ["steps", "epochs", "lr"], ["max_steps"]);
            assert!(hint.contains(part), "{function} {name}: {hint}");
        }
    }
}
