//! The script itself and files: `args`, `read_text`, `write_text`, `read_json`, `write_json`, `sleep`.

use crate::script::engine::args as settings;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::json;
use crate::{files, interrupt, Error};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use std::path::PathBuf;
use std::time::Duration;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The script's settings: the given defaults, with the `--set key=value` values in their places.
    ///
    /// A value is read as the type of its default: an int, a float, a bool, a string, or an
    /// array of these (comma-separated). A default of `()` takes any value. A map inside is
    /// a group, set by `--set group.key=value`. An unknown key or a value of another type is
    /// an error. `lorhai run FILE --help` lists the settings, with the comment at the end of
    /// each line, so call it early, and once.
    ///
    /// ```rhai
    /// let cfg = args(#{
    ///     model: "scripts/tiny",    // folder or hub name
    ///     ranks: [2, 4, 8],         // LoRA ranks to try
    ///     lr: 2e-4,
    /// });
    /// print(cfg.ranks);
    /// ```
    // Not called `args` in Rust: that name means something else inside the macro.
    #[rhai_fn(name = "args", return_raw, volatile)]
    pub fn read_args(context: NativeCallContext, defaults: Map) -> RhaiResultOf<Map> {
        let state = State::of(&context)?;
        state.declare(&defaults, context.call_position().line().unwrap_or(0))?;
        if state.describing() {
            return Err(Error::stopped().into());
        }
        let resolved = settings::resolve(&defaults, &state.set_values())?;
        state.resolve(&resolved);
        Ok(resolved)
    }

    /// The text of a UTF-8 file.
    ///
    /// ```rhai
    /// write_text("note.txt", "hello");
    /// print(read_text("note.txt").len());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_text(context: NativeCallContext, path: &str) -> RhaiResultOf<String> {
        Ok(files::read_text(&read_from(&context, path)?)?)
    }

    /// Writes a text file, whole or not at all; folders are made as needed.
    ///
    /// An existing file is replaced, as by Python's `open(path, "w")`, unless it is the running script.
    ///
    /// ```rhai
    /// write_text("runs/note.txt", "best rank: 8\n");
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn write_text(context: NativeCallContext, path: &str, text: &str) -> RhaiResultOf<()> {
        Ok(files::write_atomic(&State::of(&context)?.file_to_write(path)?, text.as_bytes())?)
    }

    /// The value in a JSON file: objects become maps, whole numbers ints, null `()`.
    ///
    /// ```rhai
    /// write_json("point.json", #{ rank: 8, loss: 0.5 });
    /// print(read_json("point.json").rank);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_json(context: NativeCallContext, path: &str) -> RhaiResultOf<Dynamic> {
        Ok(json::to_dynamic(&files::read_json(&read_from(&context, path)?)?))
    }

    /// Writes a value as a JSON file, whole or not at all; maps are written sorted by key.
    ///
    /// ```rhai
    /// write_json("ranks.json", [2, 4, 8]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn write_json(context: NativeCallContext, path: &str, value: Dynamic) -> RhaiResultOf<()> {
        Ok(files::write_json(&State::of(&context)?.file_to_write(path)?, &json::to_json(&value)?)?)
    }

    /// Wait for a number of seconds. Ctrl-C ends the wait.
    ///
    /// ```rhai
    /// sleep(0.01);
    /// ```
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn sleep_float(time: f64) -> RhaiResultOf<()> {
        Ok(interrupt::sleep(seconds(time)?)?)
    }

    /// Wait for a number of seconds. Ctrl-C ends the wait.
    ///
    /// ```rhai
    /// sleep(0);
    /// ```
    #[rhai_fn(name = "sleep", return_raw, volatile)]
    pub fn sleep_int(time: i64) -> RhaiResultOf<()> {
        Ok(interrupt::sleep(seconds(time as f64)?)?)
    }
}

fn seconds(time: f64) -> RhaiResultOf<Duration> {
    Duration::try_from_secs_f64(time.max(0.0))
        .map_err(|_| Error::input(format!("sleep: expected a number of seconds, found {time}")).into())
}

fn read_from(context: &NativeCallContext, path: &str) -> RhaiResultOf<PathBuf> {
    let state = State::of(context)?;
    let path = PathBuf::from(state.to_read(path));
    state.note_read(&path);
    Ok(path)
}
