//! What happened, as a hash, and as text for who asks. Two runs of one seed must give the same hash; bytes of envelopes are not in
//! it, because vodozemac draws its own randomness.

use std::fmt::Arguments;

use sha2::{Digest, Sha256};

/// The trace of a run.
pub struct Trace {
    hash: Sha256,
    lines: u64,
    aloud: bool,
}

impl Trace {
    /// Nothing has happened. `aloud`: every line is printed as well.
    #[must_use]
    pub fn new(aloud: bool) -> Self {
        Self { hash: Sha256::new(), lines: 0, aloud }
    }

    /// Something happened.
    pub fn note(&mut self, at: u64, what: Arguments<'_>) {
        let line = format!("{at} {what}\n");
        self.hash.update(line.as_bytes());
        self.lines += 1;
        if self.aloud {
            println!("{} {what}", clock(at.saturating_sub(super::world::START)));
        }
    }

    /// How much happened.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The first eight bytes of the hash, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.hash.clone().finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Day, hour, minute, second and millisecond of a run.
fn clock(at: u64) -> String {
    let (days, ms) = (at / 86_400_000, at % 86_400_000);
    format!("d{days:03} {:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}
