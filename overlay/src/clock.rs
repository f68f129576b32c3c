//! The clock and the randomness that the pure machines are given. Tests of this crate live on the runtime's time, which they may pause, and can repeat
//! their draws; everything else is what ships.

use millpond_mailbox::time::UnixMillis;

#[cfg(not(test))]
pub(crate) use system::{now, random};
#[cfg(test)]
pub(crate) use virtual_time::{now, random, seed};

#[cfg_attr(test, allow(dead_code))]
mod system {
    use std::time::{SystemTime, UNIX_EPOCH};

    use millpond_mailbox::rand_core::UnwrapErr;

    use super::UnixMillis;

    /// The system's time; a clock before 1970 counts as 1970.
    pub(crate) fn now() -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The system's randomness.
    ///
    /// # Panics
    /// When the system has none: nothing could be done safely then.
    pub(crate) fn random() -> UnwrapErr<getrandom::SysRng> {
        UnwrapErr(getrandom::SysRng)
    }
}

#[cfg(test)]
mod virtual_time {
    use std::cell::Cell;
    use std::convert::Infallible;

    use millpond_mailbox::rand_core::{Rng, TryCryptoRng, TryRng};
    use tokio::time::Instant;

    use super::{UnixMillis, system};

    thread_local! {
        static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// The runtime's time, from 2027-01-15T08:00:00Z on.
    pub(crate) fn now() -> UnixMillis {
        let begin = BEGIN.get().unwrap_or_else(|| {
            let begin = Instant::now();
            BEGIN.set(Some(begin));
            begin
        });
        UnixMillis(1_800_000_000_000).after(begin.elapsed())
    }

    /// From here on this thread draws the same as after the same seed elsewhere.
    pub(crate) fn seed(seed: u64) {
        STATE.set(Some(seed));
    }

    /// The system's randomness, or what follows the seed.
    pub(crate) fn random() -> Random {
        Random
    }

    pub(crate) struct Random;

    impl TryRng for Random {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.try_next_u64().map(|drawn| (drawn >> 32) as u32)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            let Some(state) = STATE.get() else { return Ok(system::random().next_u64()) };
            // SplitMix64.
            let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            STATE.set(Some(state));
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Ok(mixed ^ (mixed >> 31))
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            for chunk in out.chunks_mut(8) {
                let drawn = self.try_next_u64()?.to_be_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Random {}
}
