//! Where streamed texts go: to the terminal, or line by line through `print`.

use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::{Error, Kind, Result};
use rhai::NativeCallContext;
use std::io::Write;

pub struct Output<'a> {
    context: &'a NativeCallContext<'a>,
    /// Lines go through `print`, where the program that embeds lorhai looks for them.
    by_line: bool,
    line: String,
}

impl<'a> Output<'a> {
    pub fn new(context: &'a NativeCallContext<'a>) -> RhaiResultOf<Self> {
        Ok(Output { context, by_line: State::of(context)?.prints_elsewhere(), line: String::new() })
    }

    pub fn write(&mut self, text: &str) -> Result<()> {
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
