//! `train` on rewards: functions of the script say what the samples of each prompt are worth.

use super::train::{run_with, RunRows, TrainOptions};
use crate::data::{Batch, Pace};
use crate::error::{Error, Result};
use crate::eval::config::GenerationConfig;
use crate::eval::generator::Generator;
use crate::eval::prompt::{Prompt, PromptOptions};
use crate::eval::rewards::{draw, rows_of, sampling};
use crate::options::Refusal;
use crate::random::Key;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::handles::Handle;
use crate::script::values::json::to_dynamic;
use crate::script::values::options::Options;
use crate::script::values::prompts::read_prompt;
use crate::script::values::reward_options::RewardOptions;
use crate::script::values::run_functions::RunCallbacks;
use crate::train::callbacks::Callbacks;
use crate::train::grpo::rollout::Rollouts;
use crate::train::objective::Objective;
use crate::{data, lora};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::Value;

/// Why rows that are not tokenized cannot be trained on with these options.
fn problem(options: &TrainOptions) -> Option<Error> {
    if options.config.objective.kind != Objective::Grpo {
        let error = Error::input("train: expected tokenized rows, found a Dataset");
        let hint = "turn the rows into tokens first: data.tokenize(model, #{}); objective: \"grpo\" alone takes rows as they are";
        return Some(error.with_hint(hint));
    }
    refusal(options).map(|refusal| refusal.error("train"))
}

fn refusal(options: &TrainOptions) -> Option<Refusal> {
    if options.rewards.reward.is_none() {
        let hint = "as in reward: |answer, row| answer == row.wanted";
        return Some(Refusal::new("reward", "a function with objective \"grpo\"", "none").with_hint(hint));
    }
    if options.functions.loss.is_some() {
        let refusal = Refusal::new("loss", "none with objective \"grpo\"", "a function");
        return Some(refusal.with_hint("write the loop yourself, as in scripts/grpo.rhai"));
    }
    let is_evaluated = options.config.eval_every.is_on_the_way();
    let refusal = || Refusal::new("eval_every", "none with objective \"grpo\"", "evaluations on the way");
    is_evaluated.then(|| refusal().with_hint("the rewards are logged; measure the model in on_step, or after the run"))
}

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Rows of named columns.
    pub type Dataset = crate::data::Dataset;
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;

    /// Train the active adapter on rewards: functions say what its own answers are worth.
    ///
    /// `data` has rows with a `prompt`, a text or messages. At each step `num_generations` answers to each of
    /// `batch` × `accumulation` / `num_generations` prompts are drawn, rewarded, and compared within their group (GRPO).
    /// Options and defaults are those of TRL's GRPOConfig, except for the learning rate. docs/rewards.md explains them.
    ///
    /// The result has also `reward`, `reward_std`, `frac_reward_zero_std`, `completions/mean_length`,
    /// `clip_ratio/region_mean` and, with `beta`, `kl`: means over the steps since the row of the log before the last.
    /// They are logged under these names.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "Repeat: the small fox", wanted: "the small fox" }]);
    /// let result = train(model, data, #{
    ///     objective: "grpo", reward: |answer, row| answer == row.wanted, chat: true,
    ///     num_generations: 4, batch: 4, max_completion_length: 8, steps: 2, lr: 1e-3,
    /// });
    /// print(result.reward);
    /// ```
    #[rhai_fn(name = "train", return_raw, volatile)]
    pub fn train_on_rewards(
        context: NativeCallContext,
        model: Model,
        data: Dataset,
        options: Map,
    ) -> RhaiResultOf<Map> {
        let options: TrainOptions = Options::read("train", options)?;
        if let Some(error) = problem(&options) {
            return Err(error.into());
        }
        let rewards = Rewards::new(&context, &options.rewards)?;
        let functions = RunCallbacks::new(&context, &model, options.functions.clone())?;
        let result = run(&State::of(&context)?, &model, &data, options, &functions, &rewards);
        functions.settle(&rewards.callbacks, result)
    }
}

/// The functions that give rewards.
struct Rewards<'a> {
    names: Vec<String>,
    weights: Vec<f64>,
    callbacks: Vec<Callback<'a>>,
}

impl<'a> Rewards<'a> {
    fn new(context: &'a NativeCallContext<'a>, options: &RewardOptions) -> Result<Self> {
        let functions = options.reward.clone().map(|reward| reward.functions()).unwrap_or_default();
        let (names, functions): (Vec<String>, Vec<_>) = functions.into_iter().unzip();
        if let Some(unknown) =
            options.reward_weights.keys().find(|name| !names.iter().any(|known| known == name.as_str()))
        {
            let expected = format!("names of functions in `reward` ({})", names.join(", "));
            return Err(Refusal::new("reward_weights", expected, format!("`{unknown}`")).error("train"));
        }
        let weight = |name: &String| match options.reward_weights.get(name.as_str()) {
            None => Ok(1.0),
            Some(weight) => f64::from_script(weight)
                .filter(|weight| weight.is_finite())
                .ok_or_else(|| Refusal::new("reward_weights", "finite numbers", describe(weight)).error("train")),
        };
        let weights = names.iter().map(weight).collect::<Result<_>>()?;
        let hint = "a reward takes an answer and the row of its prompt: |answer, row| answer == row.wanted";
        let callbacks = functions.into_iter().map(|function| Callback::new(context, function).with_arity_hint(hint));
        Ok(Rewards { callbacks: callbacks.collect(), names, weights })
    }

    /// By the names of the functions; NaN where one cannot say.
    fn of(&self, answer: &str, row: &data::Row) -> Result<Vec<(String, f64)>> {
        let all = self.names.iter().zip(&self.weights).zip(&self.callbacks);
        let rewards = all.map(|((name, weight), callback)| {
            let value = callback.call_for_any([answer.into(), to_dynamic(&Value::Object(row.clone()))])?;
            let number = || f64::from_script(&value).or_else(|| Some(f64::from(bool::from_script(&value)?)));
            let reward = if value.is_unit() { Some(f64::NAN) } else { number().filter(|reward| reward.is_finite()) };
            let reward = reward.ok_or_else(|| {
                Error::input(format!("`{name}` must return a finite number, a bool or (), found {}", describe(&value)))
            })?;
            Ok((name.clone(), weight * reward))
        });
        rewards.collect()
    }
}

/// In a rehearsal two small steps are taken; files are redirected.
fn rehearsed(options: &mut TrainOptions) {
    let config = &mut options.config;
    config.steps = if config.steps == 0 { 2 } else { config.steps.min(2) };
    config.objective.grpo.num_generations = 2;
    config.objective.grpo.max_completion_length = config.objective.grpo.max_completion_length.min(4);
    (config.batch, config.accumulation, config.warmup) = (2, 1, 0.0);
}

fn run(
    state: &State,
    model: &Handle<lora::Model>,
    data: &data::Dataset,
    mut train: TrainOptions,
    functions: &RunCallbacks,
    rewards: &Rewards,
) -> Result<Map> {
    let prompts = train.rewards.prompts;
    if state.pace() == Pace::Rehearsal {
        rehearsed(&mut train);
    }
    let (prompts, config) = prompts_and_ends(state, &*model.read()?, data, prompts)?;
    let objective = train.config.objective.grpo_loss();
    let sampling = sampling(config, &objective.options);
    let reward = |row: usize, answer: &str| rewards.of(answer, &*data.row(row)?);
    let draw = |model: &lora::Model, rows: &[u32], seed: u64| {
        let sampling = GenerationConfig { seed, ..sampling.clone() };
        draw(model, &prompts, rows, objective.options.num_generations, &sampling, &reward)
    };
    let clone = model.read()?.shallow_clone()?;
    let rollouts = Rollouts::new(clone, objective.clone(), train.config.batch, train.config.seed, &draw)?;
    let loss = |batch: &Batch, key: Key| rollouts.loss(batch, key);
    let step_metrics = || rollouts.take_metrics();
    let callbacks = Callbacks {
        rollout: Some(&rollouts),
        loss: Some(&loss),
        step_metrics: Some(&step_metrics),
        ..Callbacks::default()
    };
    let rows = rows_of(&prompts)?;
    let rows = RunRows { train: &rows, test: None };
    // A rehearsal has its small settings already.
    run_with((state, Pace::Full), model, rows, train, functions, callbacks)
}

/// The prompts of all rows, and the settings of the model's files.
fn prompts_and_ends(
    state: &State,
    model: &lora::Model,
    data: &data::Dataset,
    options: PromptOptions,
) -> Result<(Vec<Prompt>, GenerationConfig)> {
    data.ensure_columns(&["prompt"])?;
    let note = |note: &str| state.note(note);
    let generator = Generator::new("train", model, &note, Pace::Full)?.with_prompts(options);
    let config = generator.with_turn_end(generator.model_settings()?)?;
    let prompt = |(number, row): (usize, Result<data::RowRef>)| {
        let value = row?.get("prompt").map(to_dynamic).unwrap_or(Dynamic::UNIT);
        read_prompt(&generator.prompts, &value).map_err(|error| error.context(format!("row {number}")))
    };
    let prompts = data.iter().enumerate().map(prompt).collect::<Result<_>>();
    prompts.map(|prompts| (prompts, config)).map_err(|error| error.context("train"))
}
