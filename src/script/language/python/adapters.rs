//! Options of `LoraConfig` and of the scripts that fill it.

use super::hints::Hints;

const OTHER_METHOD: &str = "this variant is not supported: docs/variants.md lists those that are";
const IN_THE_FILE: &str = "leave it out: it is written into adapter_config.json where it belongs";

pub const OPTIONS: Hints = &[
    (&["lora_rank", "lora_r", "lora_dim"], "", "it is called `r`"),
    (&["lora_target_modules", "lora_targets", "lora_target"], "", "it is called `target_modules`"),
    (&["lora_modules_to_save"], "", "it is called `modules_to_save`"),
    (&["rs_lora", "use_rs_lora"], "", "it is called `use_rslora`"),
    (&["adapter_name"], "", "it is called `name`"),
    (&["peft_type", "peft_version", "auto_mapping", "base_model_name_or_path"], "", IN_THE_FILE),
    (&["revision"], "add_lora", "the base's revision is an option of load_model(name, #{ revision: \"…\" })"),
    (
        &["layers_pattern"],
        "",
        "leave it out: layers are counted in the model's own list; layers_to_transform chooses them",
    ),
    (&["megatron_config", "megatron_core", "runtime_config", "velora_config"], "", OTHER_METHOD),
    (&["loftq_config"], "", "LoftQ is not supported; init: \"pissa\" initialises A and B from the weights too"),
    (
        &["eva_config", "corda_config", "lora_ga_config"],
        "",
        "this initialisation is not supported: `init` lists those that are",
    ),
    (&["alora_invocation_tokens", "use_qalora", "qalora_group_size", "monteclora_config"], "", OTHER_METHOD),
    (&["use_bdlora", "arrow_config", "kasa_config"], "", OTHER_METHOD),
    (&["layer_replication"], "", "layers are not repeated: the adapter has the layers of its base"),
    (&["target_parameters"], "", "only linear layers carry adapters: name them in `target_modules`"),
    (&["use_gradient_checkpointing"], "add_lora", "it is `gradient_checkpointing` of train"),
    (&["random_state"], "add_lora", "it is called `seed`"),
];
