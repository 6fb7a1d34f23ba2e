//! The script functions: one file per area, named as the folder that it binds.
//!
//! A new function: write it in the file of its area, with a first line that stands alone,
//! its options with their defaults, and an example. `tests/api_docs.rs` runs the example.
//! A new area: a file here and an entry in [`AREAS`].

pub(super) mod data;
mod evaluate;
mod export;
mod generate;
mod host;
mod memory;
mod model;
mod numbers;
mod spectrum;
mod sweep;
mod tensor;
mod train;

use super::guard::Guarded;
use rhai::plugin::ModuleManifest;
use rhai::{exported_module, Engine, FuncRegistration, Module};

/// A group of functions: one file here, one chapter of the reference.
pub struct Area {
    pub title: &'static str,
    /// One sentence for the reference.
    pub about: &'static str,
    /// The functions themselves.
    manifest: &'static ModuleManifest,
    /// The functions with their doc comments, for the reference and for error messages.
    pub(super) documented: fn() -> Module,
    /// What an exported module cannot hold: iterators.
    extend: fn(&mut Module),
}

/// All areas, in the order of the reference.
pub const AREAS: &[Area] = &[
    Area {
        title: "Script and files",
        about: "Settings from the command line, and reading and writing files.",
        manifest: &host::functions::RHAI_MANIFEST,
        documented: || exported_module!(host::functions),
        extend: |_| {},
    },
    Area {
        title: "Models and adapters",
        about: "Loading models, adding, choosing and saving LoRA adapters.",
        manifest: &model::functions::RHAI_MANIFEST,
        documented: || exported_module!(model::functions),
        extend: |_| {},
    },
    Area {
        title: "Merging and export",
        about: "Adapters merged into weights, with a certificate; files for llama.cpp and Ollama.",
        manifest: &export::functions::RHAI_MANIFEST,
        documented: || exported_module!(export::functions),
        extend: |_| {},
    },
    Area {
        title: "Data",
        about: "Rows, their tokens and labels, and batches of them.",
        manifest: &data::functions::RHAI_MANIFEST,
        documented: || exported_module!(data::functions),
        extend: data::register_loops,
    },
    Area {
        title: "Training and evaluation",
        about: "The primitives of a training loop, the trainer made of them, and evaluation.",
        manifest: &train::functions::RHAI_MANIFEST,
        documented: || exported_module!(train::functions),
        extend: |_| {},
    },
    Area {
        title: "Generation",
        about: "Continuing texts, answering messages, and answers of several adapters side by side.",
        manifest: &generate::functions::RHAI_MANIFEST,
        documented: || exported_module!(generate::functions),
        extend: |_| {},
    },
    Area {
        title: "Evaluation",
        about: "Perplexity, multiple choice, KoBEST, answers in text, and how sure the numbers are.",
        manifest: &evaluate::functions::RHAI_MANIFEST,
        documented: || exported_module!(evaluate::functions),
        extend: |_| {},
    },
    Area {
        title: "Sweeps and charts",
        about: "Many trials over one base; their table, charts and report.",
        manifest: &sweep::functions::RHAI_MANIFEST,
        documented: || exported_module!(sweep::functions),
        extend: |_| {},
    },
    Area {
        title: "Memory",
        about: "What a training step will need of memory, and what one takes.",
        manifest: &memory::functions::RHAI_MANIFEST,
        documented: || exported_module!(memory::functions),
        extend: |_| {},
    },
    Area {
        title: "Rank spectra",
        about: "What adapters learnt, layer by layer, and adapters cut to a lower rank.",
        manifest: &spectrum::functions::RHAI_MANIFEST,
        documented: || exported_module!(spectrum::functions),
        extend: |_| {},
    },
    Area {
        title: "Tensors",
        about: "Arithmetic with gradients, to build losses from logits.",
        manifest: &tensor::functions::RHAI_MANIFEST,
        documented: || exported_module!(tensor::functions),
        extend: |_| {},
    },
    Area {
        title: "Numbers",
        about: "What the language lacks for looking at results.",
        manifest: &numbers::functions::RHAI_MANIFEST,
        documented: || exported_module!(numbers::functions),
        extend: |_| {},
    },
];

/// Registers every function, each guarded against panics.
pub fn register(engine: &mut Engine) {
    for area in AREAS {
        engine.register_global_module(guarded(area).into());
    }
}

fn guarded(area: &Area) -> Module {
    let mut module = Module::new();
    area.manifest.init_eager(&mut module);
    area.manifest.for_each_fn(true, &mut |entry| {
        entry.with_param_types(&mut |types| {
            let func = Guarded { name: entry.name(), func: entry.func() };
            let registration = FuncRegistration::new(entry.name()).with_namespace(entry.namespace());
            registration.set_into_module_raw(&mut module, types, func.into());
        });
    });
    (area.extend)(&mut module);
    module
}
