//! lorhai's side: steps of one or several adapters, with as many workers as a sweep would use.

use crate::cases::Case;
use lorhai::data::Batch;
use lorhai::hub::weights::Weights;
use lorhai::lora::adapter::trainable_count;
use lorhai::lora::{Adapter, LoadOptions, LoraSpec, Targets};
use lorhai::model::packing::{self, Packing};
use lorhai::model::{device, load, Config, Decoder, Input, NoAdapters};
use lorhai::native::gpu;
use lorhai::sweep::workers::{cost_per_token, spread};
use lorhai::threads;
use lorhai::train::checkpoint::folder;
use lorhai::train::memory::{check::random_rows, process};
use lorhai::train::processes::WindowTotals;
use lorhai::train::update::{update_together, Member, StepSettings};
use lorhai::train::{AdamW, AdamWConfig};
use lorhai::{Error, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The adapters that one thread trains.
struct Worker {
    decoder: Decoder,
    runs: Vec<(Adapter, AdamW, Batch)>,
    step: u64,
    gradient_checkpointing: bool,
}

pub struct Loop {
    workers: Vec<Worker>,
    device: Device,
}

/// The model of the last case, which the next one often has, too: billions of random numbers take a while.
#[derive(Default)]
pub struct LastModel(Option<(Value, Decoder)>);

impl LastModel {
    /// The decoder of a case: the last one, if it is the same.
    fn decoder(&mut self, case: &Case, device: Device) -> Result<Decoder> {
        let config = Config::from_json(&case.model)?;
        let dtype = device::parse_dtype(case.dtype, device, &config)?;
        if let Some((model, decoder)) = &self.0 {
            if *model == case.model && decoder.dtype == dtype && decoder.device == device {
                return Ok(decoder.shallow_clone());
            }
        }
        // Two may not fit.
        self.0 = None;
        let decoder = base(case, config, dtype, device)?;
        self.0 = Some((case.model.clone(), decoder.shallow_clone()));
        Ok(decoder)
    }
}

impl Loop {
    /// Begins to measure the peak memory, too: whatever a former case held is to be dropped before.
    pub fn new(case: &Case, last: &mut LastModel) -> Result<Self> {
        let device = device::parse_device(case.device)?;
        if device == Device::Cpu {
            // Its memory would be in the peak of the process.
            *last = LastModel::default();
        }
        if let Device::Cuda(index) = device {
            gpu::memory(index, true)?;
        } else {
            process::give_back();
            process::forget_peak();
        }
        let decoder = last.decoder(case, device)?;
        let count = match device {
            Device::Cpu => threads::count().min(case.ranks.len()),
            _ => 1,
        };
        let worker = |_| Worker {
            decoder: decoder.shallow_clone(),
            runs: Vec::new(),
            step: 0,
            gradient_checkpointing: case.gradient_checkpointing,
        };
        let mut workers: Vec<Worker> = (0..count).map(worker).collect();
        let spec = |&rank: &i64| LoraSpec {
            r: rank,
            alpha: 2.0 * rank as f64,
            dropout: case.dropout,
            target_modules: Targets::AllLinear,
            ..LoraSpec::default()
        };
        let specs: Vec<LoraSpec> = case.ranks.iter().map(spec).collect();
        let costs: Vec<u64> = specs.iter().map(|spec| cost_per_token(spec, &decoder.config)).collect();
        for (worker, tasks) in workers.iter_mut().zip(spread(&costs, count)) {
            for at in tasks {
                let adapter = Adapter::new(specs[at].clone(), &decoder, 0)?;
                let optimizer = AdamW::new(AdamWConfig { lr: 1e-4, ..AdamWConfig::default() }, &adapter.parameters)?;
                worker.runs.push((adapter, optimizer, batch(case, &decoder.config)));
            }
        }
        Ok(Loop { workers, device })
    }

    /// Whether the frozen matrices were packed for this processor.
    pub fn is_packed(&self) -> bool {
        self.workers.iter().any(|worker| worker.decoder.packed_bytes() > 0)
    }

    /// The peak memory since [`Loop::new`]: of the process, or of the tensors on a GPU.
    pub fn peak_bytes(&self) -> Result<f64> {
        if let Device::Cuda(index) = self.device {
            return Ok(gpu::memory(index, false)?.peak as f64);
        }
        Ok(process::peak().map_or(f64::NAN, |bytes| bytes as f64))
    }

    /// Seconds per step of all adapters.
    pub fn steps(&mut self, count: usize) -> Result<f64> {
        wait_for(self.device)?;
        let started = Instant::now();
        if let [worker] = self.workers.as_mut_slice() {
            worker.steps(count)?;
            wait_for(self.device)?;
            return Ok(started.elapsed().as_secs_f64() / count as f64);
        }
        let threads = threads::count();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| {
                    scope.spawn(move || {
                        threads::use_threads(1);
                        worker.steps(count)
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::bug("a worker panicked"))))
                .collect()
        });
        threads::use_threads(threads);
        results.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(started.elapsed().as_secs_f64() / count as f64)
    }
}

impl Worker {
    fn steps(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let settings = StepSettings {
                step: self.step,
                seed: 0,
                lr: 1e-4,
                max_grad_norm: 1.0,
                gradient_checkpointing: self.gradient_checkpointing,
            };
            let mut members: Vec<Member> = self
                .runs
                .iter_mut()
                .map(|(adapter, optimizer, batch)| Member {
                    trainable: adapter,
                    optimizer,
                    window: std::slice::from_ref(batch),
                    totals: WindowTotals::of(std::slice::from_ref(batch)),
                    preferences: &[],
                    loss: None,
                    processes: None,
                    settings,
                })
                .collect();
            update_together(&self.decoder, &mut members)?.into_iter().collect::<Result<Vec<_>>>()?;
            self.step += 1;
        }
        Ok(())
    }
}

/// The case's model with random weights. Where the processor packs weights that are mapped, they come from a file.
fn base(case: &Case, config: Config, dtype: Kind, device: Device) -> Result<Decoder> {
    if device != Device::Cpu || packing::choice(dtype)? != Packing::Mapped {
        return load::random(config, 0, dtype, device);
    }
    let folder = tempfile::tempdir().map_err(|error| Error::file("create", &std::env::temp_dir(), &error))?;
    write_checkpoint(&case.model, folder.path())?;
    process::give_back();
    load::load(config, &Weights::open(folder.path())?, dtype, device)
}

fn batch(case: &Case, config: &Config) -> Batch {
    let mut batch = random_rows(case.rows, case.time, config.vocab_size);
    let unlabelled = ((1.0 - case.labelled) * case.time as f64).round() as usize;
    batch.labels.chunks_mut(case.time).for_each(|row| row[..unlabelled].fill(lorhai::data::IGNORE));
    batch
}

/// Seconds that the program takes for an empty script.
pub fn start_up(times: usize) -> Result<Vec<f64>> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/lorhai");
    let script = std::env::temp_dir().join("lorhai-bench-empty.rhai");
    lorhai::files::write_atomic(&script, b"")?;
    (0..times)
        .map(|_| {
            let started = Instant::now();
            let done = Command::new(program).arg("run").arg(&script).status();
            match done {
                Ok(status) if status.success() => Ok(started.elapsed().as_secs_f64()),
                Ok(status) => Err(Error::bug(format!("the program ended with {status}"))),
                Err(error) => Err(Error::file("run", program.as_ref(), &error)),
            }
        })
        .collect()
}

/// Waits for all work in flight on a GPU: reading a number does.
fn wait_for(device: Device) -> Result<()> {
    if device != Device::Cpu {
        let _ = Tensor::f_zeros([1], (tch::Kind::Float, device))?.f_double_value(&[0])?;
    }
    Ok(())
}

/// Operations a second of a bf16 product of square matrices on the GPU.
pub fn matrix_rate(size: i64) -> Result<f64> {
    const TIMES: usize = 20;
    let device = device::parse_device("cuda")?;
    let x = Tensor::f_randn([size, size], (tch::Kind::BFloat16, device))?;
    let product = || -> Result<f64> {
        wait_for(device)?;
        let started = Instant::now();
        for _ in 0..TIMES {
            let _ = x.f_matmul(&x)?;
        }
        wait_for(device)?;
        Ok(started.elapsed().as_secs_f64() / TIMES as f64)
    };
    product()?;
    Ok(2.0 * (size as f64).powi(3) / product()?)
}

/// Writes a checkpoint with random weights to `folder`; returns its size in bytes.
pub fn write_checkpoint(config: &serde_json::Value, folder: &Path) -> Result<u64> {
    lorhai::files::write_json(&folder.join("config.json"), config)?;
    let options = LoadOptions { dtype: "bf16".into(), device: "cpu".into(), ..LoadOptions::default() };
    lorhai::lora::Model::random(folder, 0, &options)?.save(folder, true)?;
    let entries = std::fs::read_dir(folder).map_err(|error| Error::file("read", folder, &error))?;
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum())
}

/// Seconds from the files of a checkpoint to the hidden state of one token, which reads every weight.
pub fn load_seconds(folder: &Path) -> Result<f64> {
    let started = Instant::now();
    let options = LoadOptions { dtype: "bf16".into(), device: "cpu".into(), ..LoadOptions::default() };
    let name = folder.to_string_lossy();
    let model = lorhai::lora::Model::load(&name, &options, &mut ())?;
    let decoder = model.decoder();
    let input = Input::from_ids(&[1], decoder.config.vocab_size, Device::Cpu)?;
    let logits = tch::no_grad(|| {
        decoder.hidden(&input, &NoAdapters).and_then(|hidden| decoder.logits(&hidden, &input.tokens, &NoAdapters))
    })?;
    let _ = logits.f_sum(tch::Kind::Float)?.f_double_value(&[])?;
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds that a script takes to read rows, map them by a closure, and tokenize them.
pub fn tokenize_seconds(rows: &Path, tokenizer: &Path) -> Result<f64> {
    let script = format!(
        "let rows = load_dataset({rows:?}).map(|row| #{{ prompt: row.instruction, completion: \" \" + row.output }});\n\
         let model = load_model({tokenizer:?});\n\
         print(rows.tokenize(model, #{{ max_length: 512, cache: false }}).len);"
    );
    let started = Instant::now();
    let mut session = lorhai::script::Session::new();
    session.capture_prints();
    let _ = session.run_source("bench", &script).map_err(|failure| Error::bug(failure.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}

/// The bytes of a checkpoint of an adapter of rank 16, and the seconds that each of `rounds` takes.
pub fn checkpoint_seconds(model: &serde_json::Value, folder: &Path, rounds: usize) -> Result<(f64, Vec<f64>)> {
    let spec = LoraSpec { r: 16, target_modules: Targets::AllLinear, ..LoraSpec::default() };
    let count = trainable_count(&spec, &Config::from_json(model)?)? as i64;
    let tensor = |name: &str| Ok((name.to_owned(), Tensor::f_randn([count], (tch::Kind::Float, Device::Cpu))?));
    // The values and the two moments of AdamW.
    let tensors = ["parameters", "mean", "square"].into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
    let (mut seconds, mut bytes) = (Vec::new(), 0);
    for round in 0..rounds {
        let started = Instant::now();
        let path = folder::write(folder, round as u64, &serde_json::json!({}), &tensors)?;
        folder::prune(folder, 2)?;
        seconds.push(started.elapsed().as_secs_f64());
        let sizes = std::fs::read_dir(&path).into_iter().flatten().flatten();
        bytes = sizes.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    }
    Ok((bytes as f64, seconds))
}
