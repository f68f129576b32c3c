//! `next_batch`: `s<position>_<typing>_<to_device>`. The position is one of our commits; the serial of the last change of
//! typing, which is in memory only, starts anew at each start of the node, above all earlier ones. To-device messages have
//! a position of their own, since an answer may hold only some of those that wait.

use std::fmt;

use millpond_store::Position;

use crate::Error;

/// Up to where a client has seen everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token {
    /// Of the store.
    pub(crate) position: Position,
    /// Of typing.
    pub(crate) typing: u64,
    /// Up to where to-device messages were delivered.
    pub(crate) to_device: Position,
}

impl Token {
    /// Reads `since`.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for what this server did not give out.
    pub(crate) fn parse(token: &str) -> Result<Self, Error> {
        let numbers = token.strip_prefix('s').map(|rest| rest.split('_').map(number).collect::<Vec<_>>());
        match numbers.as_deref() {
            Some([Some(position), Some(typing), Some(to_device)]) => {
                Ok(Self { position: Position(*position), typing: *typing, to_device: Position(*to_device) })
            }
            _ => Err(Error::invalid_param("`since` is not a token of this server: sync once without it")),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}_{}", self.position.0, self.typing, self.to_device.0)
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_others_are_refused() {
        let token = Token { position: Position(72), typing: 5, to_device: Position(70) };
        assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        for bad in [
            "",
            "s",
            "72",
            "s72",
            "s72_1_",
            "s_1_1",
            "s-1_0_0",
            "s+1_0_0",
            "t72",
            "s1_2_3_4",
            "s99999999999999999999_0_0",
        ] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }
}
