//! Functions of tensors in scripts against torch (`golden/tensors/generate.py`): results and gradients, in f32 and bf16.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json};
use common::session::prints;
use serde_json::Value;

/// The rounding of a result, relative to it, and absolute near 0.
fn tolerance(dtype: &str) -> f64 {
    match dtype {
        "f32" => 2e-6,
        // Half a unit in the last of 8 binary digits, twice: in the result and in what it is computed from.
        _ => 2.0_f64.powi(-8),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(|truth| f64::from(u8::from(truth))));
    value.as_array().unwrap().iter().map(|value| number(value).unwrap()).collect()
}

/// `tensor([…]).reshape([…])`, with a gradient where torch has one.
fn made(name: &str, argument: &Value, dtype: &str, has_gradient: bool) -> String {
    let (values, shape) = (&argument["numbers"], &argument["shape"]);
    format!(
        "let {name}_flat = tensor({values}, #{{ dtype: \"{dtype}\", requires_grad: {has_gradient} }});\n\
         let {name} = {name}_flat.reshape({shape});\n"
    )
}

/// The lines that a case prints: shape, result, and the gradients in the order of their names.
fn script(case: &Value) -> String {
    let (dtype, gradients) = (case["dtype"].as_str().unwrap(), case["gradients"].as_object());
    let mut text = String::new();
    for (name, argument) in case["arguments"].as_object().unwrap() {
        text += &made(name, argument, dtype, gradients.is_some_and(|gradients| gradients.contains_key(name)));
    }
    text += &format!("let y = {};\nprint(y.shape);\nprint(y.to_array());\n", case["script"].as_str().unwrap());
    if let Some(gradients) = gradients {
        text += &format!("(y.to(\"f32\").flatten() * tensor({})).sum().backward();\n", case["weights"]);
        gradients.keys().for_each(|name| text += &format!("print({name}_flat.grad.to_array());\n"));
    }
    text
}

fn agrees(actual: &[f64], expected: &[f64], tolerance: f64) -> bool {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * b.abs().max(1.0);
    actual.len() == expected.len() && actual.iter().zip(expected).all(close)
}

#[test]
fn functions_of_tensors_are_those_of_torch() {
    let cases = read_json(golden("tensors/cases.json"));
    let cases = cases.as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let text = script(case);
        let printed = match prints(&text) {
            Ok(printed) => printed,
            Err(error) => {
                wrong.push(format!("{}: {error}", case["script"]));
                continue;
            }
        };
        let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let tolerance = tolerance(case["dtype"].as_str().unwrap());
        let gradients = case["gradients"].as_object().into_iter().flat_map(|gradients| gradients.values());
        let expected: Vec<&Value> = [&case["shape"], &case["result"]].into_iter().chain(gradients).collect();
        let agree = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(a, b)| agrees(&numbers(a), &numbers(b), tolerance));
        if !agree {
            wrong.push(format!("{} in {}: {lines:?}, expected {expected:?}", case["script"], case["dtype"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ from torch:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 200, "{}", cases.len());
}

#[test]
fn mistakes_with_tensors_say_what_was_expected() {
    for (script, expected) in [
        ("tensor([1, 2]) + tensor([1, 2, 3]);", "the size of tensor a (2) must match the size of tensor b (3)"),
        ("tensor([16777217]);", "tensor: f32 cannot hold 16777217: it would be rounded"),
        ("tensor([257], #{ dtype: \"bf16\" });", "tensor: bf16 cannot hold 257"),
        ("tensor([1.5], #{ dtype: \"i64\" });", "tensor: expected whole numbers, found 1.5"),
        ("tensor([2], #{ dtype: \"bool\" });", "tensor: expected true or false, found 2"),
        ("tensor([\"a\"]);", "tensor: expected numbers, found string \"a\""),
        ("tensor([1], #{ dtype: \"int8\" });", "option `dtype`: expected"),
        ("tensor([1, 2])[2];", "index 2 is out of bounds: expected -2 to 1, for shape [2]"),
        ("tensor([1, 2])[-3];", "index -3 is out of bounds"),
        ("tensor([1, 2])[-1..0];", "index: expected a range from 0 to 2, found -1..0"),
        ("tensor([1, 2])[0.5];", "index: expected a whole number, a range, an array or a tensor, found float 0.5"),
        ("tensor([1, 2])[[0, 5]];", "out of"),
        ("tensor([1.0]).sum()[0];", "index: expected a tensor with a dimension, found one number"),
        ("tensor([1, 2]).gather(0, tensor([0.5]));", "gather: expected whole numbers as the index"),
        ("tensor([1, 2]).masked_mean(tensor([0, 0]));", "masked_mean: expected a mask with an entry that is not 0"),
        ("tensor([1, 2]).reshape([3]);", "shape"),
        ("cat([tensor([1]), 2], 0);", "cat: expected an array of tensors, found int 2 in it"),
        ("tensor([1, 2]).to(\"int8\");", "to: the dtype or device: expected"),
        ("rand([-1], 0);", "rand: expected sizes of at least 0, found -1"),
        ("let x = tensor([1.0]); x.add_(tensor([1.0, 2.0]));", "doesn't match the broadcast shape [2]"),
        ("where(tensor([1]), \"a\", 0);", "where"),
        ("if tensor([1, 2]) < 2 { }", "expected a tensor of one number, found shape [2]"),
    ] {
        let error = prints(script).unwrap_err();
        assert!(error.contains(expected), "{script}\n{error}");
        assert!(!error.contains("mistake in lorhai"), "{script}\n{error}");
    }
}

#[test]
fn random_numbers_have_their_seeds() {
    let script = "print(rand([500], 1).to_array() == rand([500], 1).to_array());\n\
                  print(randn([500], 1).to_array() == randn([500], 2).to_array());\n\
                  let x = rand([20000], 3); print((x.mean() - 0.5).abs() < 0.01 && x.min() >= 0 && x.max() < 1);\n\
                  let x = randn([20000], 3); print(x.mean().abs() < 0.03 && (x.std() - 1).abs() < 0.03);\n\
                  print(randn([0], 1).shape);";
    assert_eq!(prints(script).unwrap(), "true\nfalse\ntrue\ntrue\n[0]\n");
}

const MODEL: &str = "let model = load_model(\"scripts/tiny\", #{ dtype: \"f32\" });\n\
    model.add_lora(#{ r: 4, dropout: 0.0, seed: 1 });\n\
    let rows = [#{ prompt: \"the small fox\", completion: \" sees a red ball\" }, #{ prompt: \"a\", completion: \" b\" }];\n\
    let data = dataset(rows).tokenize(model, #{});\n";

/// SGD with momentum by hand, as torch.optim.SGD: v = 0.9 v + g, p = p - lr v.
#[test]
fn an_optimizer_is_a_few_lines_of_script() {
    let script = format!(
        "{MODEL}let parameters = model.named_parameters();\nlet velocity = #{{}};\nlet losses = [];\n\
         for name in parameters.keys() {{ velocity[name] = zeros_like(parameters[name]); }}\n\
         for step in 0..8 {{ for batch in data.batches(#{{ size: 2 }}) {{\n\
           let loss = model.forward(batch).loss; loss.backward(); losses.push(loss.item());\n\
           for name in parameters.keys() {{\n\
             let p = parameters[name]; let v = velocity[name];\n\
             v.mul_(0.9); v.add_(p.grad); p.sub_(v * 0.5);\n\
           }}\n\
           model.zero_grad();\n\
         }} }}\nprint(losses);"
    );
    let losses: Vec<f64> = serde_json::from_str(prints(&script).unwrap().trim()).unwrap();
    assert!(losses.last().unwrap() + 0.5 < losses[0], "{losses:?}");
}

#[test]
fn no_grad_and_with_adapters_end_with_their_function() {
    let script = format!(
        "{MODEL}model.named_parameters().values().for_each(|| this.add_(0.02));\n\
         for batch in data.batches(#{{ size: 2 }}) {{\n\
           let tuned = model.forward(batch, #{{ train: false }}).loss.item();\n\
           let base = no_grad(|| with_adapters(model, [], || model.forward(batch).loss));\n\
           try {{ with_adapters(model, [], || throw \"x\"); }} catch {{ }}\n\
           try {{ base.backward(); }} catch (e) {{ print(e.message); }}\n\
           print(model.forward(batch, #{{ train: false }}).loss.item() == tuned);\n\
           model.disable_adapters();\n\
           print(model.forward(batch, #{{ train: false }}).loss.item() == base.item());\n\
           print(base.item() == tuned);\n\
         }}\n\
         try {{ with_adapters(model, [\"other\"], || 1); }} catch (e) {{ print(e.message); }}"
    );
    let expected = "backward: this number does not depend on any trainable parameter\ntrue\ntrue\nfalse\n\
                    there is no adapter called `other`\n";
    assert_eq!(prints(&script).unwrap(), expected);
}

/// The mean over labels from the batch's own numbers is the loss of the forward pass.
#[test]
fn a_loss_on_labels_can_be_written_in_a_script() {
    let script = format!(
        "{MODEL}for batch in data.batches(#{{ size: 2 }}) {{\n\
           let output = model.forward(batch);\n\
           let last = batch.seq_len - 1;\n\
           let labels = batch.labels.narrow(1, 1, last);\n\
           let trained = labels.ne(-100);\n\
           let logits = output.logits.narrow(1, 0, last);\n\
           let p = logits.log_softmax(-1).gather(2, labels.maximum(0).unsqueeze(-1)).squeeze(-1);\n\
           print((p.masked_mean(trained) + output.loss).abs() < 1e-5);\n\
           let difference = p * trained - output.token_logprobs.narrow(1, 1, last);\n\
           print(difference.abs().max() < 1e-5);\n\
           print(output.hidden.shape[0] == batch.rows && output.hidden.shape[1] == batch.seq_len);\n\
           print(batch.input_ids.shape == batch.position_ids.shape);\n\
         }}"
    );
    assert_eq!(prints(&script).unwrap(), "true\n".repeat(4));
}

/// Numbers that libtorch refuses are the caller's, not ours.
#[test]
fn numbers_out_of_range_are_refused() {
    for (call, part) in [
        ("arange(-3)", "upper bound and lower bound inconsistent with step sign"),
        ("arange(9000000000000000)", "out of memory"),
        ("let x = tensor([1.0]); x.minimum(1e300)", "without overflow"),
        ("let x = tensor([1.0]); x.sub_(1e300)", "without overflow"),
    ] {
        let error = prints(call).unwrap_err();
        assert!(error.contains(part) && !error.contains("failed inside"), "{call}: {error}");
    }
}
