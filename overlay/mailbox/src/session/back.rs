//! Coming back after weeks. The links of peers that had something for us sleep meanwhile, and they wake when they hear us: whoever
//! comes back is heard, whether he has something to say or not.
//!
//! | what is there | what goes |
//! |---|---|
//! | stamps for mailboxes that are open | a frame that has to be acknowledged, with stamps for our new mailboxes |
//! | none: they have closed while we were away | a HELLO, see `hello` |
//! | frames of ours that were not acknowledged | these |

use std::time::Duration;

use super::Session;
use crate::{stamp::Class, time::UnixMillis};

impl Session {
    /// The node was off or asleep until now; for how long, the record says. A session that was read back knows it.
    pub fn woken(&mut self) {
        self.woken = true;
    }

    /// To be called before anything notes that we are here.
    pub(super) fn note_back(&mut self, now: UnixMillis) {
        self.state.back |= self.was_long_away(now);
        self.woken = false;
    }

    /// Whether the peer has to hear that we are here again.
    pub(super) fn is_back(&self, now: UnixMillis) -> bool {
        self.state.back || self.was_long_away(now)
    }

    /// Whether a frame can say so.
    pub(super) fn can_say_back(&self, now: UnixMillis) -> bool {
        self.is_back(now) && self.may_seal() && self.has_stamp(now, Class::S, true, &[])
    }

    /// A link over which nothing goes is no sign of it: it sends nothing for months. So it counts once after each start.
    fn was_long_away(&self, now: UnixMillis) -> bool {
        let long = self.state.awake.is_some_and(|awake| now >= awake.after(LONG));
        self.woken && long && self.is_certain() && self.state.flights.is_empty()
    }
}

/// Shorter than the silence after which the link of a peer sleeps, clocks that differ by hours included.
const LONG: Duration = Duration::from_secs(28 * 86_400);
