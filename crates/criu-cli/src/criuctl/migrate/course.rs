//! How a tree moves, as the user wants it.

use std::time::Duration;

use criu_migrate::Mode;
use criu_migrate::policy::{Limits, OnDivergence};

use crate::criuctl::arguments::{parse_large_size, parse_seconds};

/// Options for how memory moves.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "How memory moves")]
pub(super) struct CourseArguments {
    /// What is copied when [default: pre-copy where the source can track memory, else stop-and-copy]
    #[arg(long, value_name = "MODE", value_enum)]
    mode: Option<ModeWord>,
    /// Downtime that is good enough, such as 300ms or 1.5s
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "300ms")]
    max_downtime: Duration,
    /// Most rounds while the tree runs
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    max_rounds: u32,
    /// Longest time for all rounds together
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    max_time: Option<Duration>,
    /// Most bytes on the wire for all rounds together, such as 8G
    #[arg(long, value_name = "SIZE", value_parser = parse_large_size)]
    max_round_bytes: Option<u64>,
    /// What to do when rounds do not bring the downtime below its limit
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = DivergenceWord::Stop)]
    on_divergence: DivergenceWord,
}

/// A mode, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeWord {
    /// Everything while the tree is frozen
    StopAndCopy,
    /// Rounds while the tree runs, the rest while it is frozen
    PreCopy,
    /// Memory follows when the tree runs there; until it has, a failure of either host ends the tree
    PostCopy,
    /// Rounds, then the rest follows
    Hybrid,
}

/// What to do about memory that changes too fast, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DivergenceWord {
    /// Take the longer downtime
    Stop,
    /// Let the rest follow, where both sides can
    PostCopy,
    /// Leave the tree here
    GiveUp,
}

impl CourseArguments {
    pub(super) fn mode(&self) -> Option<Mode> {
        self.mode.map(|mode| match mode {
            ModeWord::StopAndCopy => Mode::StopAndCopy,
            ModeWord::PreCopy => Mode::PreCopy,
            ModeWord::PostCopy => Mode::PostCopy,
            ModeWord::Hybrid => Mode::Hybrid,
        })
    }

    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.max_downtime = self.max_downtime;
        limits.max_rounds = self.max_rounds;
        limits.max_time = self.max_time;
        limits.max_bytes = self.max_round_bytes;
        limits.on_divergence = match self.on_divergence {
            DivergenceWord::Stop => OnDivergence::StopAnyway,
            DivergenceWord::PostCopy => OnDivergence::PostCopy,
            DivergenceWord::GiveUp => OnDivergence::GiveUp,
        };
        limits
    }
}

/// Reads a time with its unit: `300ms`, `1.5s`, `2m`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write it like 300ms, 1.5s or 2m");
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = text.split_at(unit_at.ok_or_else(wrong)?);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        for wrong in ["300", "", "s", "-1s", "1h", "1e300s", "nans"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
