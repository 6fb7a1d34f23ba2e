//! How many threads compute: chosen once for the process.
//!
//! libtorch runs an operation in as many threads as are chosen, whatever else the machine does, because its sums round
//! differently with another number. On a busy machine these threads wait for one another in another way: see [`load`].

mod load;

use crate::bail;
use crate::error::{Kind, Result};
use std::fmt;

/// The variable that chooses the number of threads.
pub const VARIABLE: &str = "LORHAI_THREADS";
/// OpenMP's, which libtorch follows.
const OPENMP_VARIABLE: &str = "OMP_NUM_THREADS";
/// Far above what helps: OpenMP ends the program where the system refuses it a thread.
const MOST: usize = 1024;

/// The number of threads of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    pub count: usize,
    pub source: Source,
}

/// What the number of threads was chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--threads`
    Argument,
    /// `LORHAI_THREADS`
    Variable,
    /// `OMP_NUM_THREADS`
    OpenMp,
    /// The processors that this process may use, by its affinity and by the CPU quota of its container.
    Processors,
}

impl fmt::Display for Threads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        match self.source {
            Source::Argument => write!(out, "{count}: --threads"),
            Source::Variable => write!(out, "{count}: {VARIABLE}"),
            Source::OpenMp => write!(out, "{count}: {OPENMP_VARIABLE}"),
            Source::Processors => {
                let all = std::fs::read_to_string("/proc/stat").map_or(0, |text| load::processors(&text).len());
                write!(out, "{count}: the processors that this process may use")?;
                if all > count {
                    write!(out, ", of {all} (its affinity, or the CPU quota of its container)")?;
                }
                Ok(())
            }
        }
    }
}

/// Reads a number of threads; `name` is what the user wrote it for.
pub fn parse(name: &str, text: &str) -> Result<usize> {
    match text.trim().parse() {
        Ok(count) if (1..=MOST).contains(&count) => Ok(count),
        _ => bail!(Kind::Input, "{name}: expected a number of threads from 1 to {MOST}, found \"{text}\"";
            hint: "leave it out for as many as this process may use processors"),
    }
}

/// Chooses the number of threads of this process. `argument` is that of `--threads`.
///
/// # Errors
/// A `LORHAI_THREADS` that is no such number.
pub fn choose(argument: Option<usize>) -> Result<Threads> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let of_libtorch = tch::get_num_threads().max(1) as usize;
    let processors = std::thread::available_parallelism().map_or(of_libtorch, usize::from);
    let openmp = variable(OPENMP_VARIABLE).map(|_| of_libtorch);
    first_of(argument, variable(VARIABLE).as_deref(), openmp, of_libtorch.min(processors))
}

fn first_of(
    argument: Option<usize>,
    variable: Option<&str>,
    openmp: Option<usize>,
    processors: usize,
) -> Result<Threads> {
    let variable = variable.map(|text| parse(VARIABLE, text)).transpose()?;
    let chosen = [(argument, Source::Argument), (variable, Source::Variable), (openmp, Source::OpenMp)];
    let chosen = chosen.into_iter().find_map(|(count, source)| Some(Threads { count: count?, source }));
    Ok(chosen.unwrap_or(Threads { count: processors.max(1), source: Source::Processors }))
}

/// Chooses the number of threads of this process and of all threads that it starts from now on.
///
/// # Errors
/// As [`choose`].
pub fn start(argument: Option<usize>) -> Result<()> {
    let threads = choose(argument)?;
    // libtorch starts threads where the number is set.
    if threads.count != count() {
        use_threads(threads.count);
    }
    Ok(())
}

/// The number of threads that computations started in this thread use.
pub fn count() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// Computations started in this thread, and in threads that are yet to start, use `count` threads from now on.
pub fn use_threads(count: usize) {
    tch::set_num_threads(i32::try_from(count).unwrap_or(i32::MAX));
}

/// Call it before a pass through a model on the CPU.
pub fn prepare() {
    let count = count();
    if count > 1 {
        load::watch(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_wins_then_our_variable_then_openmp() {
        let chosen = |argument, variable, openmp| {
            let Threads { count, source } = first_of(argument, variable, openmp, 8).unwrap();
            (count, source)
        };
        assert_eq!(chosen(Some(3), Some("4"), Some(5)), (3, Source::Argument));
        assert_eq!(chosen(None, Some("4"), Some(5)), (4, Source::Variable));
        assert_eq!(chosen(None, None, Some(5)), (5, Source::OpenMp));
        assert_eq!(chosen(None, None, None), (8, Source::Processors));
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        for text in ["0", "-1", "two", "1.5", "1025", " "] {
            let error = parse(VARIABLE, text).unwrap_err().to_string();
            assert!(error.contains(VARIABLE) && error.contains(text) && error.contains("1 to 1024"), "{error}");
        }
        assert_eq!(parse("--threads", " 16 ").unwrap(), 16);
        assert!(first_of(None, Some("many"), None, 2).is_err());
    }
}
