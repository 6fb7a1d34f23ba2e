//! Texts on the terminal as they come.

use crate::eval::config::GenerationConfig;
use crate::eval::generate::Step;
use crate::eval::text::{before_stop, may_begin_stop, TextStream};
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::{lora, Error, Kind, Result};
use rhai::NativeCallContext;
use std::io::Write;

/// Prints texts as they come, one after another: of several prompts the first shows live, the
/// others once those before them have ended.
pub struct Streaming<'a> {
    context: &'a NativeCallContext<'a>,
    /// Lines go through `print`, where the program that embeds us looks for them.
    by_line: bool,
    line: String,
    rows: Vec<Streamed>,
    current: usize,
    stops: Vec<String>,
}

struct Streamed {
    stream: TextStream,
    waiting: String,
    ended: bool,
}

impl<'a> Streaming<'a> {
    pub fn new(
        context: &'a NativeCallContext<'a>,
        model: &lora::Model,
        config: &GenerationConfig,
        prompts: usize,
    ) -> RhaiResultOf<Self> {
        let tokenizer = model.tokenizer()?;
        let row =
            || Streamed { stream: TextStream::new(tokenizer.clone(), true), waiting: String::new(), ended: false };
        Ok(Streaming {
            context,
            by_line: State::of(context)?.prints_elsewhere(),
            line: String::new(),
            rows: std::iter::repeat_with(row).take(prompts).collect(),
            current: 0,
            stops: config.stop.as_ref().map(|stop| stop.strings.clone()).unwrap_or_default(),
        })
    }

    pub fn hear(&mut self, step: Step) -> Result<()> {
        let Some(row) = self.rows.get_mut(step.prompt) else { return Ok(()) };
        row.waiting.push_str(&row.stream.push(step.id)?);
        if step.finish.is_some() {
            row.waiting.push_str(&row.stream.finish()?);
            row.ended = true;
        }
        while let Some(row) = self.rows.get_mut(self.current) {
            let ready = match row.ended {
                true => format!("{}\n", before_stop(&row.waiting, &self.stops)),
                false => {
                    let held = may_begin_stop(&row.waiting, &self.stops);
                    row.waiting.drain(..row.waiting.len() - held).collect()
                }
            };
            let ended = row.ended;
            self.write(&ready)?;
            if !ended {
                break;
            }
            self.current += 1;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if !self.by_line {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            return written.map_err(|error| Error::new(Kind::File, format!("cannot write to the terminal: {error}")));
        }
        self.line.push_str(text);
        while let Some((line, rest)) = self.line.split_once('\n') {
            let printed = self.context.call_native_fn::<()>("print", (line.to_owned(),));
            printed.map_err(|error| Error::input(format!("cannot print: {error}")))?;
            self.line = rest.to_owned();
        }
        Ok(())
    }
}
