//! Numbers that have been seen: everything below one number, and some above it. Frames and items are counted by such a window,
//! so that each is taken once however often and in whatever order it comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of numbers with a floor: all below `below` are in it, and the runs above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    below: u64,
    /// First of each run, and how many; runs neither touch nor overlap, and none starts at `below`.
    runs: BTreeMap<u64, u64>,
}

impl Window {
    /// Every number below this one is in the window, itself is not.
    #[must_use]
    pub fn below(&self) -> u64 {
        self.below
    }

    /// The runs above, first number and length, growing.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().map(|(first, len)| (*first, *len))
    }

    /// Whether the number is in the window.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        number < self.below || self.runs.range(..=number).next_back().is_some_and(|(first, len)| number - first < *len)
    }

    /// Whether the number is so far above that the window does not take it.
    #[must_use]
    pub fn is_beyond(&self, number: u64) -> bool {
        number.saturating_sub(self.below) >= SPAN
    }

    /// Puts a number in. `false`: it was there, or is beyond the window.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) || self.is_beyond(number) {
            return false;
        }
        let (mut first, mut len) = (number, 1);
        if let Some((before, run)) = self.runs.range(..number).next_back().map(|(before, run)| (*before, *run))
            && before + run == number
        {
            (first, len) = (before, run + 1);
        }
        if let Some(run) = self.runs.remove(&(number + 1)) {
            len += run;
        }
        self.runs.insert(first, len);
        self.settle();
        true
    }

    /// Gives up on every number below this one: they will not come any more. Never beyond the window, so that nobody can move it
    /// to the end of numbers at once.
    pub fn raise(&mut self, floor: u64) {
        let floor = floor.min(self.below.saturating_add(SPAN));
        if floor <= self.below {
            return;
        }
        self.below = floor;
        let lower: Vec<(u64, u64)> = self.runs.range(..floor).map(|(first, len)| (*first, *len)).collect();
        for (first, len) in lower {
            self.runs.remove(&first);
            self.below = self.below.max(first + len);
        }
        self.settle();
    }

    /// Puts a window together from what a peer said.
    ///
    /// # Errors
    /// If the runs are too many, touch, overlap, or reach beyond the window.
    pub fn from_parts(below: u64, runs: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, WindowError> {
        let mut window = Self { below, runs: BTreeMap::new() };
        let mut end = below;
        for (first, len) in runs {
            let next = first.checked_add(len).ok_or(WindowError)?;
            let fits = len > 0 && first > end && next - below <= SPAN && window.runs.len() < MAX_RUNS;
            if !fits {
                return Err(WindowError);
            }
            window.runs.insert(first, len);
            end = next;
        }
        Ok(window)
    }

    /// One above the highest number in the window.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(self.below, |(first, len)| first + len)
    }

    fn settle(&mut self) {
        while let Some(len) = self.runs.remove(&self.below) {
            self.below += len;
        }
    }
}

/// What a peer said is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the acknowledgement is no set of numbers within a window of {SPAN}")]
pub struct WindowError;

/// Numbers that a window spans (overlay.md, section 4).
pub const SPAN: u64 = 4_096;
/// Runs in what a peer says: at most 40 frames are unacknowledged, so there are at most 40 holes, and what is between them.
const MAX_RUNS: usize = 64;
