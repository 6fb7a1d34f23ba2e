//! Options of `TrainingArguments`, `SFTConfig`, `Trainer` and `SFTTrainer`, and of the scripts
//! around them.

use super::hints::Hints;

const ONLY_SPEED: &str = "leave it out: it changes speed or memory, not the numbers";
const PROCESSES: &str = "leave it out: lorhai run FILE --processes N splits the rows of a step among N processes";
const LOGS: &str = "leave it out: with `out`, the logs are written there, TensorBoard's too";
const HUB: &str = "save into a folder (`out`) and upload that with `hf upload owner/name FOLDER`";
const CALLBACKS: &str = "write a function for each: on_step: |report| …, on_eval: |report| …; they may return \"stop\"";
const LOSS: &str = "loss: |model, batch| … returns the loss of a micro-batch";
const LOSS_KEPT: &str = "leave it out: evaluation keeps the loss alone, so no logits gather in memory";
const CHECKPOINTS: &str = "leave it out: the folder `out` holds the adapter alone, which load_adapter(folder) reads";
const TOKENIZE: &str = "an option of tokenizing: data.tokenize(model, #{ max_length: 512, packing: true })";
const LOSS_ON: &str =
    "which tokens are trained on is chosen by tokenize: data.tokenize(model, #{ loss_on: \"completion\" })";
const LOADER: &str = "leave it out: rows are tokenized and in memory before training begins";

pub const OPTIONS: Hints = &[
    (&["num_steps", "n_steps", "total_steps", "num_training_steps", "train_steps"], "", "it is called `steps`"),
    (&["num_epochs", "n_epochs", "max_epochs"], "", "it is called `epochs`"),
    (&["train_batch_size", "micro_batch_size", "per_gpu_train_batch_size"], "", "it is called `batch`"),
    (&["grad_accum", "grad_accum_steps", "accumulate_grad_batches"], "", "it is called `accumulation`"),
    (&["scheduler", "lr_scheduler"], "", "it is called `schedule`: \"linear\", \"cosine\" or \"constant\""),
    (&["num_warmup_steps"], "", "it is called `warmup`: a number of steps, or a fraction of them if below 1"),
    (&["lr_scheduler_kwargs"], "", "leave it out: the schedules take nothing but `steps` and `warmup`"),
    (&["optim_args"], "", "the optimizer is AdamW: its options are beta1, beta2, eps and weight_decay"),
    (&["optim_target_modules"], "", "GaLore and its like are not supported: the optimizer is AdamW over the adapter"),
    (&["optimizer", "optimizers", "optimizer_cls_and_kwargs"], "", "leave it out: AdamW is the only optimizer"),
    (&["average_tokens_across_devices"], "", "leave it out: the loss is the mean over all labels of a step"),
    (
        &["label_smoothing_factor", "label_smoothing"],
        "",
        "train has no label smoothing; to write the loss yourself, use forward(batch).logits, see scripts/custom_loss.rhai",
    ),
    (&["bf16_full_eval", "fp16_full_eval", "tf32"], "", "leave it out: the model's dtype is used throughout"),
    (&["activation_checkpointing", "use_gradient_checkpointing"], "", "it is called `gradient_checkpointing`"),
    (
        &["activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"],
        "",
        "leave it out: gradient_checkpointing: true is all there is to choose",
    ),
    (
        &[
            "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config",
            "torch_empty_cache_steps", "activation_offloading",
        ],
        "",
        ONLY_SPEED,
    ),
    (
        &["neftune_noise_alpha"],
        "",
        "NEFTune is not supported: without it the embeddings are trained on without noise",
    ),
    (
        &["auto_find_batch_size"],
        "",
        "memory_plan(model, #{}) says what a batch needs, check_memory(model, #{}) measures it",
    ),
    (&["logging_first_step"], "", "write log_every: 1 to log every step"),
    (&["logging_nan_inf_filter"], "", "leave it out: losses are logged as they are"),
    (&["include_num_input_tokens_seen"], "", "leave it out: the result has `tokens`"),
    (&["log_level", "log_level_replica", "disable_tqdm", "verbose"], "", "lorhai run --quiet shows no progress"),
    (&["log_on_each_node", "save_on_each_node", "local_rank", "debug"], "", PROCESSES),
    (
        &[
            "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
            "ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "accelerator_config", "parallelism_config",
            "eval_use_gather_object",
        ],
        "",
        PROCESSES,
    ),
    (
        &[
            "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "wandb_project",
            "wandb_run_name",
        ],
        "",
        LOGS,
    ),
    (&["eval_delay"], "", "the first evaluation is after `eval_every` steps; a later one is not supported"),
    (&["eval_on_start"], "", "call evaluate(model, data, #{}) before train"),
    (
        &[
            "prediction_loss_only", "eval_do_concat_batches", "eval_accumulation_steps", "include_for_metrics",
            "preprocess_logits_for_metrics", "include_inputs_for_metrics",
        ],
        "",
        LOSS_KEPT,
    ),
    (
        &["batch_eval_metrics"],
        "",
        "metrics: |model| #{ accuracy: … } measures the whole held-out rows at every evaluation",
    ),
    (&["callbacks"], "", CALLBACKS),
    (&["compute_loss"], "", LOSS),
    (&["model_init"], "", "several trainings from the same start are a sweep(base, data, #{ … })"),
    (&["save_only_model", "restore_callback_states_from_checkpoint", "enable_jit_checkpoint"], "", CHECKPOINTS),
    (
        &["push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"],
        "",
        HUB,
    ),
    (&["ignore_data_skip"], "", "leave it out: a run that goes on takes the rows that come next"),
    (
        &["overwrite_output_dir"],
        "",
        "leave it out: a finished run in `out` is replaced; resume: false begins an unfinished one anew",
    ),
    (
        &["metric_for_best_model", "greater_is_better"],
        "",
        "leave it out: keep_best and early_stopping compare held-out losses",
    ),
    (&["early_stopping_threshold"], "", "leave it out: every lower held-out loss is an improvement"),
    (&["full_determinism"], "", "leave it out: the same seed gives the same numbers on the same machine"),
    (&["data_seed", "random_state", "random_seed"], "", "it is called `seed`"),
    (&["use_cpu", "no_cuda", "use_mps_device"], "", "the device is chosen when loading: load_model(name, #{ device: \"cpu\" })"),
    (
        &["dataloader_drop_last"],
        "",
        "leave it out: the last batch of an epoch is trained on too, weighted by its labels",
    ),
    (
        &[
            "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
            "dataloader_multiprocessing_context", "dataloader_in_order", "skip_memory_metrics",
        ],
        "",
        LOADER,
    ),
    (&["label_names", "length_column_name"], "", "leave it out: labels and lengths are known from tokenizing"),
    (&["do_train", "do_eval", "do_predict"], "", "leave it out: call train, evaluate or generate where it is to be done"),
    // SFTConfig and SFTTrainer
    (&["model_init_kwargs"], "", "they are options of load_model(name, #{ dtype: \"bf16\" })"),
    (&["router_aux_loss_coef"], "", "leave it out: the auxiliary loss of the router is not computed"),
    (&["chat_template_path"], "", "an option of tokenizing: data.tokenize(model, #{ chat_template: read_text(path) })"),
    (
        &["dataset_text_field"],
        "",
        "the column is named where rows are tokenized: data.tokenize(model, #{ text_column: \"text\" })",
    ),
    (&["formatting_func"], "", "rows are rewritten before: data.map(|row| #{ text: `…${row.question}…` })"),
    (&["dataset_kwargs", "dataset_num_proc", "dataset_batch_size"], "", LOADER),
    (&["eos_token"], "", "leave it out: the model's own end token closes a row, see `append_eos` of tokenize"),
    (&["pad_token", "pad_to_multiple_of", "padding_free", "padding", "padding_side"], "", "leave it out: padding never counts"),
    (&["truncation_mode"], "", "it is `truncation` of tokenize: \"keep_start\" or \"keep_end\""),
    (&["shuffle_dataset"], "", "leave it out: rows are shuffled anew each epoch, by `seed`"),
    (&["packing_strategy", "eval_packing"], "", "leave it out: tokenize(model, #{ packing: true }) packs best-fit"),
    (&["cutoff_len", "model_max_length", "block_size", "max_source_length"], "train", TOKENIZE),
    (&["cutoff_len", "model_max_length", "block_size", "max_source_length"], "", "it is called `max_length`"),
    (
        &[
            "train_on_inputs", "train_on_source", "mask_prompt", "response_template", "train_on_responses_only",
            "assistant_only_loss", "completion_only_loss",
        ],
        "",
        LOSS_ON,
    ),
    (
        &["assistant_only_loss"],
        "tokenize",
        "write loss_on: \"assistant\", which is the default for `messages`",
    ),
    (&["completion_only_loss"], "tokenize", "write loss_on: \"completion\", the default for prompts with completions"),
    (&["loss_type"], "", "leave it out: the loss is the cross-entropy of the labels"),
    (&["train_dataset", "eval_dataset"], "", "data is the second argument: train(model, data.split(#{ test: 0.1 }), #{ … })"),
    (&["model", "args", "processing_class", "tokenizer", "data_collator"], "train", "leave it out: train(model, data, #{ lr: 2e-4 }) knows model and data by their place"),
    (&["peft_config"], "", "an adapter is added before: model.add_lora(#{ r: 8 })"),
];
