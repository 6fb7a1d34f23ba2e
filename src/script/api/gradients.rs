//! Trained parameters as tensors, and code that runs without gradients or with other adapters: what optimizers,
//! reference models and distillation in a script are made of.

use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::train::by_hand;
use crate::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map};

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;

    /// The trained parameters by name, as a map of tensors: those of the active adapter, or all after `train_all`.
    ///
    /// They are the model's own: what `add_`, `sub_`, `mul_` and `copy_` write into them is used by the next forward
    /// pass. `grad` has the gradients that `backward` added up.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// let parameters = model.named_parameters();
    /// for batch in data.batches(#{}) {
    ///     model.forward(batch).loss.backward();
    ///     for name in parameters.keys() {
    ///         let p = parameters[name];
    ///         p.sub_(p.grad * 0.1);
    ///     }
    ///     model.zero_grad();
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn named_parameters(model: &mut Model) -> RhaiResultOf<Map> {
        let model = model.read()?;
        let parameters = by_hand::parameters(&model.adapted)?.into_iter();
        Ok(parameters.map(|(name, leaf)| (name.into(), Dynamic::from(Handle::new(leaf)))).collect())
    }

    /// Set the gradients of the trained parameters to zero.
    ///
    /// For loops without an optimizer of lorhai's; `opt.zero_grad()` does the same.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.zero_grad();
    /// ```
    #[rhai_fn(name = "zero_grad", global, pure, return_raw, volatile)]
    pub fn zero_grad_of_model(model: &mut Model) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.trainable_mut()?.zero_gradients()?)
    }

    /// Call a function without recording gradients; returns what it returns.
    ///
    /// ```rhai
    /// let x = tensor([2.0], #{ requires_grad: true });
    /// let y = no_grad(|| x * 3);
    /// print(y.item());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn no_grad(context: NativeCallContext, function: FnPtr) -> RhaiResultOf<Dynamic> {
        let callback = Callback::new(&context, function);
        let value = tch::no_grad(|| callback.call_for_any([]));
        callback.settle(value)
    }

    /// Call a function with another adapter of the model, or with `[]` the base alone; returns what it returns.
    ///
    /// Afterwards the model has the adapter that it had, also where the function fails. Write the model as the first
    /// argument: in `model.with_adapters(…)` the function could not use `model`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     let reference = no_grad(|| with_adapters(model, [], || model.forward(batch, #{ train: false }).loss));
    ///     print((model.forward(batch).loss - reference).item());
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn with_adapters(
        context: NativeCallContext,
        model: Model,
        names: Array,
        function: FnPtr,
    ) -> RhaiResultOf<Dynamic> {
        let name = match names.as_slice() {
            [] => None,
            [name] => Some(name.clone().into_string().map_err(|kind| {
                Error::input(format!("with_adapters: expected the name of an adapter, found {kind}"))
            })?),
            _ => return Err(several(names.len()).into()),
        };
        let before = model.write()?.adapted.choose(name.as_deref())?;
        let callback = Callback::new(&context, function);
        let value = callback.call_for_any([]);
        model.write()?.adapted.choose_again(before);
        callback.settle(value)
    }
}

fn several(count: usize) -> Error {
    Error::input(format!("with_adapters: expected at most one adapter, found {count}"))
        .with_hint("one adapter takes part in a forward pass: call with_adapters for each")
}
