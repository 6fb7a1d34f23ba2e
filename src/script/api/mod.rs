//! The script functions: a file or two per area, named as what they bind.
//!
//! A new function: write it in the file of its area, with a first line that stands alone and an example, which
//! `tests/api_docs.rs` runs; and its options as a declared struct, listed in the file's `OPTIONS`.
//! A new area: a file here and an entry in [`AREAS`].

mod arithmetic;
mod arrays;
mod chart;
mod comparison;
mod data;
mod evaluate;
mod export;
mod generate;
mod host;
mod memory;
mod model;
mod numbers;
mod spectrum;
mod step;
mod sweep;
mod tensor;
pub(super) mod tokens;
mod train;

use crate::script::engine::guard::Guarded;
pub use crate::script::values::options::OptionsOfFunction;
use rhai::plugin::ModuleManifest;
use rhai::{exported_module, Engine, FuncRegistration, Module};

/// A group of functions: a file or two here, one chapter of the reference.
pub struct Area {
    pub title: &'static str,
    /// One sentence for the reference.
    pub about: &'static str,
    /// The functions themselves.
    manifests: &'static [&'static ModuleManifest],
    /// The options that they take.
    pub(super) options: &'static [&'static [OptionsOfFunction]],
    /// The functions with their doc comments, for the reference and for error messages.
    pub(super) documented: fn() -> Vec<Module>,
    /// What an exported module cannot hold: iterators.
    extend: fn(&mut Module),
}

/// All areas, in the order of the reference.
pub const AREAS: &[Area] = &[
    Area {
        title: "Script and files",
        about: "Settings from the command line, and reading and writing files.",
        manifests: &[&host::functions::RHAI_MANIFEST],
        options: &[],
        documented: || vec![exported_module!(host::functions)],
        extend: |_| {},
    },
    Area {
        title: "Models and adapters",
        about: "Loading models, adding, choosing and saving LoRA adapters.",
        manifests: &[&model::functions::RHAI_MANIFEST],
        options: &[model::OPTIONS],
        documented: || vec![exported_module!(model::functions)],
        extend: |_| {},
    },
    Area {
        title: "Merging and export",
        about: "Adapters merged into weights, with a certificate; files for llama.cpp and Ollama.",
        manifests: &[&export::functions::RHAI_MANIFEST],
        options: &[export::OPTIONS],
        documented: || vec![exported_module!(export::functions)],
        extend: |_| {},
    },
    Area {
        title: "Data",
        about: "Rows, their tokens and labels, and batches of them.",
        manifests: &[&data::functions::RHAI_MANIFEST, &tokens::functions::RHAI_MANIFEST],
        options: &[data::OPTIONS, tokens::OPTIONS],
        documented: || vec![exported_module!(data::functions), exported_module!(tokens::functions)],
        extend: |module| {
            data::register_loops(module);
            tokens::register_loops(module);
        },
    },
    Area {
        title: "Training and evaluation",
        about: "The primitives of a training loop, the trainer made of them, and evaluation.",
        manifests: &[&step::functions::RHAI_MANIFEST, &train::functions::RHAI_MANIFEST],
        options: &[step::OPTIONS, train::OPTIONS],
        documented: || vec![exported_module!(step::functions), exported_module!(train::functions)],
        extend: |_| {},
    },
    Area {
        title: "Generation",
        about: "Continuing texts, answering messages, and answers of several adapters side by side.",
        manifests: &[&generate::functions::RHAI_MANIFEST],
        options: &[generate::OPTIONS],
        documented: || vec![exported_module!(generate::functions)],
        extend: |_| {},
    },
    Area {
        title: "Evaluation",
        about: "Perplexity, multiple choice, KoBEST, answers in text, and how sure the numbers are.",
        manifests: &[&evaluate::functions::RHAI_MANIFEST],
        options: &[evaluate::OPTIONS],
        documented: || vec![exported_module!(evaluate::functions)],
        extend: |_| {},
    },
    Area {
        title: "Sweeps and charts",
        about: "Many trials over one base; their table, charts and report.",
        manifests: &[&sweep::functions::RHAI_MANIFEST, &chart::functions::RHAI_MANIFEST],
        options: &[sweep::OPTIONS, chart::OPTIONS],
        documented: || vec![exported_module!(sweep::functions), exported_module!(chart::functions)],
        extend: |_| {},
    },
    Area {
        title: "Memory",
        about: "What a training step will need of memory, and what one takes.",
        manifests: &[&memory::functions::RHAI_MANIFEST],
        options: &[memory::OPTIONS],
        documented: || vec![exported_module!(memory::functions)],
        extend: |_| {},
    },
    Area {
        title: "Rank spectra",
        about: "What adapters learnt, layer by layer, and adapters cut to a lower rank.",
        manifests: &[&spectrum::functions::RHAI_MANIFEST],
        options: &[spectrum::OPTIONS],
        documented: || vec![exported_module!(spectrum::functions)],
        extend: |_| {},
    },
    Area {
        title: "Tensors",
        about: "Arithmetic with gradients, to build losses from logits.",
        manifests: &[
            &tensor::functions::RHAI_MANIFEST,
            &arithmetic::functions::RHAI_MANIFEST,
            &comparison::functions::RHAI_MANIFEST,
        ],
        options: &[],
        documented: || {
            vec![
                exported_module!(tensor::functions),
                exported_module!(arithmetic::functions),
                exported_module!(comparison::functions),
            ]
        },
        extend: |_| {},
    },
    Area {
        title: "Numbers and arrays",
        about: "What the language lacks for looking at results, and functions of arrays that do what Python's do.",
        manifests: &[&numbers::functions::RHAI_MANIFEST, &arrays::functions::RHAI_MANIFEST],
        options: &[],
        documented: || vec![exported_module!(numbers::functions), exported_module!(arrays::functions)],
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
    for manifest in area.manifests {
        manifest.init_eager(&mut module);
        manifest.for_each_fn(true, &mut |entry| {
            entry.with_param_types(&mut |types| {
                let func = Guarded { name: entry.name(), func: entry.func() };
                let registration = FuncRegistration::new(entry.name()).with_namespace(entry.namespace());
                registration.set_into_module_raw(&mut module, types, func.into());
            });
        });
    }
    (area.extend)(&mut module);
    module
}
