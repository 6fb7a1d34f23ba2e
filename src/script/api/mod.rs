//! The script functions: a file or two per area, named as what they bind.
//!
//! A new function: write it in the file of its area, with a first line that stands alone and an example, which
//! `tests/api_docs.rs` runs; and its options as a declared struct, listed in the file's `OPTIONS`.
//! A new area: a file here and an entry in [`AREAS`].

mod adapters;
mod arithmetic;
mod arrays;
mod chart;
mod comparison;
mod data;
mod evaluate;
mod export;
mod generate;
mod gradients;
mod host;
mod loops;
mod memory;
mod model;
mod nested;
mod numbers;
mod own_chart;
mod rewards;
mod search;
mod spectrum;
mod step;
mod sweep;
mod sweep_charts;
mod sweep_result;
mod tensor;
mod tensor_entries;
mod tensor_reduction;
mod tensor_shape;
mod tokens;
mod train;

use crate::script::engine::guard::Guarded;
use crate::script::engine::running::for_good;
use crate::script::values::display;
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

/// An [`Area`] of modules, with those of them that have options, and what else is registered.
macro_rules! area {
    ($title:literal, $about:literal, [$($module:ident),*], [$($options:ident),*]) => {
        area!($title, $about, [$($module),*], [$($options),*], |_| {})
    };
    ($title:literal, $about:literal, [$($module:ident),*], [$($options:ident),*], $extend:expr) => {
        Area {
            title: $title,
            about: $about,
            manifests: &[$(&$module::functions::RHAI_MANIFEST),*],
            options: &[$($options::OPTIONS),*],
            documented: || vec![$(exported_module!($module::functions)),*],
            extend: $extend,
        }
    };
}

/// All areas, in the order of the reference.
pub const AREAS: &[Area] = &[
    area!("Script and files", "Settings from the command line, and reading and writing files.", [host], []),
    area!(
        "Models and adapters",
        "Loading models, adding, choosing and saving LoRA adapters.",
        [model, adapters],
        [model, adapters]
    ),
    area!(
        "Merging and export",
        "Adapters merged into weights, with a certificate; files for llama.cpp and Ollama.",
        [export],
        [export]
    ),
    area!("Data", "Rows, their tokens and labels, and batches of them.", [data, tokens], [data, tokens], |module| {
        data::register_loops(module);
        tokens::register_loops(module);
    }),
    area!(
        "Training and evaluation",
        "The primitives of a training loop, the trainer made of them, and evaluation.",
        [step, gradients, loops, train, rewards],
        [step, loops, train]
    ),
    area!(
        "Generation",
        "Continuing texts, answering messages, and answers of several adapters side by side.",
        [generate],
        [generate]
    ),
    area!(
        "Evaluation",
        "Perplexity, multiple choice, KoBEST, answers in text, and how sure the numbers are.",
        [evaluate],
        [evaluate]
    ),
    area!(
        "Sweeps and charts",
        "Many trials over one base; their table, charts and report.",
        [sweep, search, sweep_result, sweep_charts, chart],
        [sweep, sweep_result, sweep_charts, chart]
    ),
    area!(
        "Charts of any data",
        "Lines, points, bars, distributions and heatmaps of a script's own numbers.",
        [own_chart],
        [own_chart]
    ),
    area!("Memory", "What a training step will need of memory, and what one takes.", [memory], [memory]),
    area!(
        "Rank spectra",
        "What adapters learnt, layer by layer, adapters cut to a lower rank, and ranks compared.",
        [spectrum, nested],
        [spectrum, nested]
    ),
    area!(
        "Tensors",
        "Arithmetic with gradients, to write losses and optimizers; names and meaning are torch's.",
        [tensor, tensor_entries, tensor_reduction, tensor_shape, arithmetic, comparison],
        [tensor]
    ),
    area!(
        "Numbers and arrays",
        "What the language lacks for looking at results, and functions of arrays that do what Python's do.",
        [numbers, arrays],
        []
    ),
];

/// Registers every function, each guarded against panics.
pub fn register(engine: &mut Engine) {
    for area in AREAS {
        engine.register_global_module(guarded(area).into());
    }
    display::register(engine);
}

fn guarded(area: &Area) -> Module {
    let mut module = Module::new();
    for manifest in area.manifests {
        manifest.init_eager(&mut module);
        manifest.for_each_fn(true, &mut |entry| {
            entry.with_param_types(&mut |types| {
                let func = Guarded { name: for_good(entry.name()), func: entry.func() };
                let registration = FuncRegistration::new(entry.name()).with_namespace(entry.namespace());
                registration.set_into_module_raw(&mut module, types, func.into());
            });
        });
    }
    (area.extend)(&mut module);
    module
}
