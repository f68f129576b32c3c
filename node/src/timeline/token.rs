//! Points in a room's timeline. `t<n>` stands just after position `n` of one timeline; a token of `/sync`, `s<n>_<m>`,
//! stands just after position `n` of every timeline, so either goes where the other does.

use std::fmt;

use crate::Error;

/// A point just after a timeline position; negative ones are among the backfilled events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(pub i64);

impl Point {
    /// Behind everything there is.
    pub(crate) const END: Self = Self(i64::MAX);

    /// The point before an event.
    pub(crate) fn before(position: i64) -> Self {
        Self(position.saturating_sub(1))
    }

    /// Reads a token of a client.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`.
    pub fn parse(name: &str, token: &str) -> Result<Self, Error> {
        let number = match token.split_at_checked(1) {
            Some(("t", number)) => number.parse().ok(),
            Some(("s", rest)) => {
                rest.split('_').next().and_then(|number| number.parse::<i64>().ok()).filter(|n| *n >= 0)
            }
            _ => None,
        };
        number.map(Self).ok_or_else(|| {
            Error::invalid_param(format!("`{name}` is not a token of this server: take one from /sync or /messages"))
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}
