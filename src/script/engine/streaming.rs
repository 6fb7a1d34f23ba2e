//! Where streamed texts go: to the terminal, or line by line through `print`.

use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::{stdout, Error, Result};
use rhai::NativeCallContext;

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
            stdout::printed(text);
            return Ok(());
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
