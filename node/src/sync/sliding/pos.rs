//! `pos`: `s<position>_<typing>_<epoch>_<version>`. The position is one of our commits, so that `/messages` takes it like a
//! token of `/sync`; epoch and version say which state of the connection it goes with.

use std::fmt;

use http::StatusCode;
use millpond_store::Position;
use ruma::api::error::ErrorKind;

use crate::Error;

/// Up to where the client of a connection has seen everything that it was to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub(super) position: Position,
    pub(super) typing: u64,
    pub(super) epoch: u64,
    pub(super) version: u64,
}

impl Pos {
    /// Reads `pos`.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN_POS`.
    pub(super) fn parse(pos: &str) -> Result<Self, Error> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let numbers = pos.strip_prefix('s').map(|rest| rest.split('_').map(number).collect::<Vec<_>>());
        match numbers.as_deref() {
            Some(&[Some(position), Some(typing), Some(epoch), Some(version)]) => {
                Ok(Self { position: Position(position), typing, epoch, version })
            }
            _ => Err(unknown_pos()),
        }
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}_{}_{}", self.position.0, self.typing, self.epoch, self.version)
    }
}

/// The connection cannot go on from there.
pub(super) fn unknown_pos() -> Error {
    let message = "`pos` is not known here any more: start the connection anew, without it";
    // ruma has a name for this code only behind a feature.
    let kind = serde_json::from_value(serde_json::json!({ "errcode": "M_UNKNOWN_POS" }));
    Error::matrix(StatusCode::BAD_REQUEST, kind.unwrap_or(ErrorKind::Unknown), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_others_are_refused() {
        let pos = Pos { position: Position(72), typing: 5, epoch: 60, version: 2 };
        assert_eq!(Pos::parse(&pos.to_string()).unwrap(), pos);
        for bad in [
            "",
            "s",
            "s1_2_3",
            "s1_2_3_4_5",
            "s1_2_3_-4",
            "s1_2_3_+4",
            "t1_2_3_4",
            "s1_2_3_",
            "s99999999999999999999_1_1_1",
        ] {
            assert!(Pos::parse(bad).is_err(), "{bad}");
        }
    }
}
