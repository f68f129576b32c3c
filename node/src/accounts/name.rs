//! User names: the localpart of a user id, by the grammar of the appendices ("User Identifiers").

use http::StatusCode;
use ruma::{OwnedUserId, ServerName, UserId, api::error::ErrorKind};

use crate::Error;

/// The longest user id, in bytes, sigil and server name included.
const MAX_USER_ID: usize = 255;

/// The id of a new account. Capitals are lowered, as clients do not always.
///
/// # Errors
/// 400 `M_INVALID_USERNAME`.
pub(super) fn new_user_id(name: &str, server_name: &ServerName) -> Result<OwnedUserId, Error> {
    let localpart = name.to_ascii_lowercase();
    if localpart.is_empty() {
        return Err(invalid("A user name cannot be empty"));
    }
    let odd = |c: char| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '=' | '-' | '/' | '+');
    if let Some(c) = localpart.chars().find(|c| odd(*c)) {
        return Err(invalid(format!("A user name has only a-z, 0-9 and . _ = - / +, not {:?}", c)));
    }
    let room = MAX_USER_ID.saturating_sub(2 + server_name.as_str().len());
    if localpart.len() > room {
        return Err(invalid(format!("A user name on this homeserver has at most {room} characters")));
    }
    UserId::parse_with_server_name(localpart, server_name).map_err(|e| invalid(format!("Not a user name: {e}")))
}

/// The user that someone means who types a name or a whole user id.
///
/// # Errors
/// 400 `M_INVALID_USERNAME`.
pub(super) fn meant_user_id(text: &str, server_name: &ServerName) -> Result<OwnedUserId, Error> {
    let text = text.trim();
    let lowered = text.to_ascii_lowercase();
    // Our names have no capitals, so whoever types some means the lowered one.
    let parsed = match UserId::parse(text) {
        Ok(user_id) if user_id.server_name() != server_name => Ok(user_id),
        _ => UserId::parse_with_server_name(lowered, server_name),
    };
    parsed.map_err(|e| invalid(format!("Not a user name: {e}")))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::InvalidUsername, message)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let server = server_name!("example.org");
        for good in ["a", "alice", "a.b_c=d-e/f+9", "Alice", &"x".repeat(242)] {
            assert!(new_user_id(good, server).is_ok(), "{good}");
        }
        for bad in ["", "@alice", "a b", "a:b", "al\u{ed}ce", "a!b", &"x".repeat(243)] {
            assert!(new_user_id(bad, server).is_err(), "{bad}");
        }
        assert_eq!(new_user_id("Alice", server).unwrap(), "@alice:example.org");
        for meant in ["alice", " Alice", "@alice:example.org", "@Alice:example.org"] {
            assert_eq!(meant_user_id(meant, server).unwrap(), "@alice:example.org");
        }
        assert_eq!(meant_user_id("@Alice:b.c", server).unwrap(), "@Alice:b.c");
    }
}
