//! Options of `load_dataset`, `train_test_split`, `map` and the collators, and methods of
//! `datasets.Dataset`.

use super::hints::Hints;

const IN_MEMORY: &str = "leave it out: rows are held in memory, and tokens in a cache on disk";
const SPLIT_COUNT: &str = "it is called `test`: a fraction of the rows if below 1, otherwise a number of rows";
const TOKENIZED: &str = "rows become tokens by data.tokenize(model, #{})";

pub const OPTIONS: Hints = &[
    (&["path"], "load_dataset", "the path is the first argument: load_dataset(\"rows.jsonl\")"),
    (&["features"], "", "leave it out: types are read from the rows"),
    (
        &[
            "download_config",
            "download_mode",
            "verification_mode",
            "keep_in_memory",
            "save_infos",
            "storage_options",
            "config_kwargs",
            "load_from_cache_file",
            "train_indices_cache_file_name",
            "test_indices_cache_file_name",
            "cache_file_name",
            "writer_batch_size",
            "train_new_fingerprint",
            "test_new_fingerprint",
            "new_fingerprint",
        ],
        "",
        IN_MEMORY,
    ),
    (&["val_set_size", "validation_split", "test_ratio", "val_size", "eval_split"], "", SPLIT_COUNT),
    (&["generator"], "split", "it is called `seed`"),
    (&["random_state"], "split", "it is called `seed`"),
    (
        &["shuffle"],
        "split",
        "leave it out: rows are always drawn at random, by `seed`; data.take(n) and data.skip(n) keep their order",
    ),
    (
        &["with_indices", "with_rank", "input_columns", "drop_last_batch", "fn_kwargs", "suffix_template", "desc"],
        "",
        "data.map(|row| …) takes the function alone, and what that returns is the new row",
    ),
    (&["try_original_type", "on_mixed_types", "disable_nullable"], "", "leave it out: types are read from the rows"),
    (&["cutoff_len", "max_seq_len", "model_max_length", "block_size"], "tokenize", "it is called `max_length`"),
    (&["dataset_text_field"], "tokenize", "it is called `text_column`"),
    (&["train_on_inputs"], "tokenize", "write loss_on: \"everything\" for true, \"completion\" for false"),
    (
        &["mlm", "mlm_probability", "whole_word_mask", "mask_replace_prob", "random_replace_prob"],
        "",
        "masked language models are not supported: the labels are the next tokens",
    ),
    (&["return_tensors", "label_pad_token_id"], "", "leave it out: batches are made of tokens and labels"),
    (
        &["add_special_tokens"],
        "",
        "leave it out: the tokenizer's own rules are followed; `append_eos` puts the end token",
    ),
    (
        &["add_generation_prompt", "apply_chat_template", "continue_final_message"],
        "tokenize",
        "leave it out: `messages` are put through the model's chat template",
    ),
    (
        &["tokenizer", "model", "data_collator"],
        "tokenize",
        "leave it out: the first argument is the model, which brings its tokenizer along",
    ),
    (&["seed"], "tokenize", "leave it out: nothing is drawn at random here"),
    (&["tools"], "tokenize", "tools are a column of the rows, or template_variables: #{ tools: […] }"),
    (&["batch"], "batches", "it is called `size`"),
    (&["seed"], "batches", "it is called `shuffle`: the seed of the order"),
    (
        &["collate_fn", "num_workers", "pin_memory", "sampler"],
        "",
        "leave it out: batches(#{ size: 8 }) pads and labels by itself",
    ),
];

/// What a method of `datasets.Dataset` is here.
pub fn method(name: &str) -> Option<&'static str> {
    Some(match name {
        "train_test_split" => "rows are held out by .split(#{ test: 0.1, seed: 0 })",
        "add_column"
        | "cast"
        | "cast_column"
        | "class_encode_column"
        | "align_labels_with_mapping"
        | "flatten"
        | "set_transform"
        | "with_transform" => "columns are made by data.map(|row| { row.length = row.text.len; row })",
        "rename_column" | "rename_columns" => "a column is renamed by data.rename(\"old\", \"new\")",
        "column_names" | "features" | "num_columns" => "the columns are data.columns",
        "num_rows" | "shape" => "the number of rows is data.len",
        "set_format" | "with_format" | "reset_format" | "format" | "formatted_as" | "to_tf_dataset" | "batch" => {
            TOKENIZED
        }
        "iter" | "to_list" | "to_dict" | "to_pandas" | "to_polars" | "to_iterable_dataset" => {
            "rows are looped over: for row in data { … }"
        }
        "to_json" | "to_csv" | "to_parquet" | "to_sql" | "save_to_disk" => {
            "rows are written by write_json(path, rows), with rows from a loop: for row in data { rows.push(row); }"
        }
        "push_to_hub" => "save into a folder and upload that with `hf upload owner/name FOLDER --repo-type dataset`",
        "from_dict" | "from_list" | "from_pandas" | "from_polars" | "from_generator" | "from_buffer" => {
            "rows of a script become data by dataset([#{ text: \"…\" }])"
        }
        "from_csv" | "from_json" | "from_parquet" | "from_text" | "from_file" | "load_from_disk" | "from_sql"
        | "from_spark" => "a file is read by load_dataset(path)",
        "unique" => "collect them: let seen = #{}; for row in data { seen[row.name] = true; } seen.keys()",
        "sort" => "rows are chosen by index: data.select(indices), with the indices sorted by a key",
        "repeat" => {
            "rows are put together by data.concatenate(data); train(…, #{ epochs: 3 }) reads them several times"
        }
        "shard" => "parts are data.skip(100).take(100)",
        "info"
        | "description"
        | "citation"
        | "license"
        | "homepage"
        | "builder_name"
        | "config_name"
        | "version"
        | "supervised_keys"
        | "dataset_size"
        | "size_in_bytes"
        | "download_size"
        | "download_checksums"
        | "data"
        | "cache_files"
        | "cleanup_cache_files"
        | "flatten_indices" => "data.describe() says what is in the rows",
        other if other.contains("index") || other.contains("search") || other.contains("nearest") => {
            "rows cannot be searched by vectors: data.filter(|row| …) chooses rows"
        }
        _ => return None,
    })
}
