//! Whether to pack what is answered piece by piece, as `criu lazy-pages` asks for it.
//!
//! Nobody waits for the connection then, whatever its speed: question and answer take turns, and a byte costs what all
//! of that takes. So both are tried in turns, and what took less goes on; where they are alike, what sends less.

use std::time::Duration;

use super::Choice;

/// Tries both, and has decided about the next block.
#[derive(Debug)]
pub(super) struct Trials {
    /// The least that a byte took so far, in nanoseconds.
    packed: Option<f64>,
    stored: Option<f64>,
    choice: Choice,
    /// Of the present trial, or since trials ended.
    stream_bytes: u64,
    elapsed: Duration,
    /// Trials that are still to come.
    left: u32,
}

/// How much a trial takes in: some questions, of up to 4 MiB each, and more than fits into buffers on the way.
const TRIAL_BYTES: u64 = 8 << 20;
/// How many there are, half of each: the least of several tells more, since the tree asks for what it touches in between.
const TRIALS: u32 = 4;
/// How much is sent before they are repeated.
const AGAIN_AFTER_BYTES: u64 = 512 << 20;
/// So much more may what sends less take: measurements are not that exact.
const ALIKE: f64 = 1.05;

impl Trials {
    pub(super) fn new() -> Self {
        Self {
            packed: None,
            stored: None,
            choice: Choice::Pack,
            stream_bytes: 0,
            elapsed: Duration::ZERO,
            left: TRIALS,
        }
    }

    pub(super) fn choice(&self) -> Choice {
        self.choice
    }

    /// Takes how long it took from the end of the block before to the end of this one.
    pub(super) fn sent(&mut self, stream_bytes: usize, elapsed: Duration) {
        self.stream_bytes += stream_bytes as u64;
        self.elapsed += elapsed;
        if self.left == 0 {
            if self.stream_bytes >= AGAIN_AFTER_BYTES {
                *self = Self::new();
            }
            return;
        }
        if self.stream_bytes < TRIAL_BYTES {
            return;
        }
        let took = self.elapsed.as_secs_f64() * 1e9 / self.stream_bytes as f64;
        let (tried, other) = match self.choice {
            Choice::Pack => (&mut self.packed, Choice::Store),
            Choice::Store => (&mut self.stored, Choice::Pack),
        };
        *tried = Some(tried.map_or(took, |least| least.min(took)));
        (self.stream_bytes, self.elapsed) = (0, Duration::ZERO);
        self.left -= 1;
        self.choice = match (self.left, self.packed, self.stored) {
            (0, Some(packed), Some(stored)) if packed > stored * ALIKE => Choice::Store,
            (0, ..) => Choice::Pack,
            _ => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen after all trials, and how much of a long journey is packed.
    fn chosen(packed: f64, stored: f64) -> (Choice, f64) {
        let mut trials = Trials::new();
        let (mut noise, mut packed_bytes, mut all) = (0_u32, 0, 0);
        let mut last = Choice::Pack;
        for _ in 0..30_000 {
            // Every third answer waits for the tree.
            noise = (noise + 1) % 3;
            let wait = if noise == 0 { 2.0 } else { 1.0 };
            let took = match trials.choice() {
                Choice::Pack => packed,
                Choice::Store => stored,
            };
            let bytes = 65_536;
            if trials.choice() == Choice::Pack {
                packed_bytes += bytes;
            }
            all += bytes;
            let elapsed = took * wait * f64::from(bytes) / 1e9;
            if trials.left == 0 {
                last = trials.choice();
            }
            trials.sent(
                usize::try_from(bytes).unwrap(),
                Duration::from_secs_f64(elapsed),
            );
        }
        (last, f64::from(packed_bytes) / f64::from(all))
    }

    #[test]
    fn what_takes_less_goes_on_and_what_sends_less_if_they_are_alike() {
        let (choice, share) = chosen(5.0, 9.0);
        assert!(choice == Choice::Pack && share > 0.9, "{share}");
        let (choice, share) = chosen(5.0, 5.0);
        assert!(choice == Choice::Pack && share > 0.9, "{share}");
        let (choice, share) = chosen(3.0, 2.0);
        assert!(choice == Choice::Store && share < 0.1, "{share}");
    }
}
