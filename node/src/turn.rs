//! Credentials for a TURN server that shares a secret with us ("REST API for access to TURN services"): the user name
//! says when they end, the password is its HMAC-SHA1.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use ruma::UserId;
use sha1::Sha1;

use crate::config::Turn;

/// Time-limited credentials.
pub struct Credentials {
    /// When they end, in seconds since the epoch, and for whom they are.
    pub username: String,
    /// The password that belongs to this user name.
    pub password: String,
}

/// Credentials for a user, from now on.
pub fn credentials(config: &Turn, user_id: &UserId, now_secs: u64) -> Credentials {
    let username = format!("{}:{user_id}", now_secs.saturating_add(config.ttl_secs));
    let mut mac = Hmac::<Sha1>::new_from_slice(config.secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    Credentials { password: STANDARD.encode(mac.finalize().into_bytes()), username }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_a_turn_server_computes() {
        let config = Turn { uris: Vec::new(), secret: "north".to_owned(), ttl_secs: 3600 };
        let credentials = credentials(&config, ruma::user_id!("@alice:example.org"), 1_700_000_000);
        assert_eq!(credentials.username, "1700003600:@alice:example.org");
        assert_eq!(credentials.password, "6cEh1+OSEPFM5XsksE7KvMgzX1c=");
    }
}
