//! The Python side, spoken to over pipes; see peer.py.

use crate::cases::Case;
use lorhai::{threads, Error, Result};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    pub fn is_there() -> bool {
        std::env::var_os("PEER_PYTHON").is_some()
    }

    /// `None` without `PEER_PYTHON`.
    pub fn start() -> Result<Option<Self>> {
        let Some(python) = std::env::var_os("PEER_PYTHON") else { return Ok(None) };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peer.py");
        let mut command = Command::new(&python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Error::file("run", python.as_ref(), &error))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Some(Peer { child, requests, answers: BufReader::new(answers) })),
            _ => Err(Error::bug("the peer has no pipes")),
        }
    }

    /// Prepares the model and the adapters of `case`, and runs a round that is not counted.
    pub fn prepared(case: &Case) -> Result<Option<Self>> {
        let Some(mut peer) = Self::start()? else { return Ok(None) };
        peer.ask(&json!({
            "do": "prepare", "model": case.model, "dtype": case.dtype, "threads": threads::count(),
            "ranks": case.ranks, "rows": case.rows, "time": case.time, "labelled": case.labelled,
            "dropout": case.dropout, "device": case.device, "gradient_checkpointing": case.gradient_checkpointing,
        }))?;
        peer.steps(case.steps_per_round)?;
        Ok(Some(peer))
    }

    /// Seconds per step of all adapters, and the peak memory in bytes.
    pub fn steps(&mut self, count: usize) -> Result<(f64, f64)> {
        let answer = self.ask(&json!({ "do": "steps", "count": count }))?;
        let seconds: f64 = answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64).sum();
        Ok((seconds / count as f64, answer["peak_bytes"].as_f64().unwrap_or(f64::NAN)))
    }

    /// Seconds that a fresh Python takes to import torch, transformers and peft.
    pub fn import_seconds(&mut self) -> Result<f64> {
        self.seconds(&json!({ "do": "import" }))
    }

    /// Seconds from a checkpoint's files to the logits of one token.
    pub fn load_seconds(&mut self, folder: &Path) -> Result<f64> {
        self.seconds(&json!({ "do": "load", "folder": folder, "threads": threads::count() }))
    }

    /// Seconds to read rows, map them, and tokenize them.
    pub fn tokenize_seconds(&mut self, rows: &Path, tokenizer: &Path) -> Result<f64> {
        self.seconds(&json!({ "do": "tokenize", "rows": rows, "tokenizer": tokenizer }))
    }

    fn seconds(&mut self, request: &Value) -> Result<f64> {
        Ok(self.ask(request)?["seconds"].as_f64().unwrap_or(f64::NAN))
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let failed = |error: std::io::Error| Error::bug(format!("the peer does not answer: {error}"));
        writeln!(self.requests, "{request}").map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        let answer: Value =
            serde_json::from_str(&line).map_err(|error| Error::bug(format!("the peer answered `{line}`: {error}")))?;
        match answer["error"].as_str() {
            Some(text) => Err(Error::bug(format!("the peer: {text}"))),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
