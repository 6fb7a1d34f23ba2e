//! How often a run is saved: every so many steps, at a fraction of all steps, after each epoch, by time, or at its best
//! evaluations.

use crate::options::{Mismatch, OptionType, Value};
use std::time::Duration;

/// Between checkpoints where nothing else is asked for.
const USUAL: Duration = Duration::from_secs(5 * 60);
/// A checkpoint by time is written no sooner than this many times as long after the last one as that took to write, so
/// that writing takes at most a hundredth of the time.
const LEAST_RATIO: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SaveInterval {
    /// 0 means: on a stop only.
    Steps(u64),
    /// Of all steps, above 0 and below 1, rounded up to whole steps as transformers does.
    Fraction(f64),
    Epoch,
    Time(Duration),
    /// At every evaluation that is better than all before.
    Best,
}

impl Default for SaveInterval {
    fn default() -> Self {
        SaveInterval::Time(USUAL)
    }
}

/// How far a run is. Of runs side by side, the one that is farthest.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub step: u64,
    pub total: u64,
    pub steps_per_epoch: u64,
    /// Was the last step evaluated, and better than all before?
    pub is_at_best: bool,
}

/// What happened since the last checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct SinceLast {
    /// Since that checkpoint, or since the run began.
    pub time: Duration,
    /// What the last checkpoint took.
    pub cost: Duration,
}

impl SaveInterval {
    /// Is a checkpoint due after the step just taken? The last step of a run needs none.
    pub fn is_due(self, position: Position, since: SinceLast) -> bool {
        let Position { step, total, steps_per_epoch, is_at_best } = position;
        if step == 0 || step >= total {
            return false;
        }
        match self {
            SaveInterval::Steps(0) => false,
            SaveInterval::Steps(every) => step.is_multiple_of(every),
            SaveInterval::Fraction(fraction) => step.is_multiple_of(((total as f64 * fraction).ceil() as u64).max(1)),
            SaveInterval::Epoch => step.is_multiple_of(steps_per_epoch.max(1)),
            SaveInterval::Time(interval) => since.time >= interval.max(since.cost * LEAST_RATIO),
            SaveInterval::Best => is_at_best,
        }
    }
}

impl OptionType for SaveInterval {
    fn type_name() -> String {
        "number or string".to_owned()
    }
    fn expected() -> String {
        "a whole number of steps, a fraction of all steps between 0 and 1, or a time such as \"10m\"".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let mismatch = || Mismatch::of::<Self>(value);
        if let Some(text) = value.as_str() {
            return match text {
                "no" => Ok(SaveInterval::Steps(0)),
                "epoch" => Ok(SaveInterval::Epoch),
                "best" => Ok(SaveInterval::Best),
                text => duration(text).map(SaveInterval::Time).ok_or_else(|| {
                    mismatch().with_hint("a time is a number with s, m or h, as in \"90s\", \"10m\" or \"1.5h\"")
                }),
            };
        }
        match value.as_f64() {
            Some(every) if every > 0.0 && every < 1.0 => Ok(SaveInterval::Fraction(every)),
            Some(every) if every >= 0.0 && every.fract() == 0.0 && every < 1e15 => {
                Ok(SaveInterval::Steps(every as u64))
            }
            _ => Err(mismatch()),
        }
    }
    fn to_value(&self) -> Value {
        match self {
            SaveInterval::Steps(steps) => Value::Int(*steps as i64),
            SaveInterval::Fraction(fraction) => Value::Float(*fraction),
            SaveInterval::Epoch => Value::Text("epoch".to_owned()),
            SaveInterval::Best => Value::Text("best".to_owned()),
            SaveInterval::Time(time) => {
                let seconds = time.as_secs_f64();
                let text = if seconds % 60.0 == 0.0 { format!("{}m", seconds / 60.0) } else { format!("{seconds}s") };
                Value::Text(text)
            }
        }
    }
}

/// "90s", "10m", "1.5h"; `None` for anything else.
fn duration(text: &str) -> Option<Duration> {
    let units = [("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0)];
    let (number, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic())?);
    let (_, seconds) = units.into_iter().find(|(name, _)| *name == unit)?;
    let time = Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()?;
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<SaveInterval, Mismatch> {
        SaveInterval::from_value(&value)
    }

    fn due(interval: SaveInterval, total: u64, steps_per_epoch: u64) -> Vec<u64> {
        let since = SinceLast { time: Duration::from_secs(60), cost: Duration::ZERO };
        let at = |step| Position { step, total, steps_per_epoch, is_at_best: step % 3 == 2 };
        (0..=total).filter(|&step| interval.is_due(at(step), since)).collect()
    }

    #[test]
    fn intervals_are_read_as_trainers_are_and_as_times() {
        let text = |text: &str| read(Value::Text(text.to_owned()));
        assert_eq!(read(Value::Int(500)), Ok(SaveInterval::Steps(500)));
        assert_eq!(read(Value::Float(0.25)), Ok(SaveInterval::Fraction(0.25)));
        assert_eq!(text("90s"), Ok(SaveInterval::Time(Duration::from_secs(90))));
        assert_eq!(text("1.5h"), text("90 min"));
        assert_eq!((text("no"), text("epoch")), (Ok(SaveInterval::Steps(0)), Ok(SaveInterval::Epoch)));
        assert_eq!(text("best"), Ok(SaveInterval::Best));
        assert_eq!(SaveInterval::default().to_value().literal(), "\"5m\"");
        for wrong in ["", "m", "0s", "-1m", "10", "10 days", "1e999h", "NaNs"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
        assert!(read(Value::Float(1.5)).is_err() && read(Value::Int(-1)).is_err());
    }

    #[test]
    fn checkpoints_fall_where_transformers_puts_them_but_for_the_last_step() {
        assert_eq!(due(SaveInterval::Steps(4), 12, 5), [4, 8]);
        assert_eq!(due(SaveInterval::Steps(0), 12, 5), [] as [u64; 0]);
        // ceil(25 · 0.1) = 3
        assert_eq!(due(SaveInterval::Fraction(0.1), 25, 5), [3, 6, 9, 12, 15, 18, 21, 24]);
        assert_eq!(due(SaveInterval::Epoch, 12, 5), [5, 10]);
        assert_eq!(due(SaveInterval::Best, 12, 5), [2, 5, 8, 11]);
        assert_eq!(due(SaveInterval::Time(Duration::from_secs(60)), 3, 5), [1, 2]);
        assert_eq!(due(SaveInterval::Time(Duration::from_secs(61)), 3, 5), [] as [u64; 0]);
    }

    #[test]
    fn a_slow_disk_is_written_to_less_often() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let position = Position { step: 5, total: 9, steps_per_epoch: 3, is_at_best: false };
        let is_due = |cost| SaveInterval::default().is_due(position, SinceLast { time: minutes(20), cost });
        assert!(is_due(Duration::ZERO));
        assert!(!is_due(Duration::from_secs(13)));
        assert!(is_due(Duration::from_secs(12)));
    }
}
