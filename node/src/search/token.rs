//! Where the next page of a search starts: behind the last result, in the order of the search, and for one group alone if
//! the page before was asked for its groups.

use std::fmt;

use millpond_store::rows::{EventShort, RoomShort};

use super::{answer::Order, lookup::Hit};
use crate::Error;

/// The place of a result in its order; greater ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// By rank: the score in thousandths. By time: always 0.
    score: u64,
    ts_ms: u64,
    event: EventShort,
}

impl Place {
    pub(super) fn of(hit: &Hit, order: Order) -> Self {
        let score = match order {
            Order::Recent => 0,
            Order::Rank => (hit.score * 1000.0) as u64,
        };
        Self { score, ts_ms: hit.ts_ms, event: hit.event }
    }
}

/// The group that a page is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Room(RoomShort),
    Sender(String),
}

/// A `next_batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) after: Place,
    pub(super) group: Option<Group>,
}

impl Token {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text)
            .ok_or_else(|| Error::invalid_param("`next_batch` is not a token of a search here: take one from a search"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('n')?.splitn(4, '_');
        let mut number = || parts.next()?.parse().ok();
        let after = Place { score: number()?, ts_ms: number()?, event: EventShort(number()?) };
        let group = match parts.next() {
            None => None,
            Some(group) => match group.split_at_checked(1)? {
                ("r", room) => Some(Group::Room(RoomShort(room.parse().ok()?))),
                ("s", sender) => Some(Group::Sender(sender.to_owned())),
                _ => return None,
            },
        };
        Some(Self { after, group })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { score, ts_ms, event } = self.after;
        write!(f, "n{score}_{ts_ms}_{}", event.0)?;
        match &self.group {
            None => Ok(()),
            Some(Group::Room(room)) => write!(f, "_r{}", room.0),
            Some(Group::Sender(sender)) => write!(f, "_s{sender}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_others_are_refused() {
        let after = Place { score: 1, ts_ms: 2, event: EventShort(3) };
        for group in [None, Some(Group::Room(RoomShort(4))), Some(Group::Sender("@a_b:c".to_owned()))] {
            let token = Token { after, group };
            assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        }
        for wrong in ["", "n", "n1_2", "n1_2_x", "n1_2_3_", "n1_2_3_q", "t5", "n1_2_3_r"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
