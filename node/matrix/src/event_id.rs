//! Event ids that are hashes (room versions 4 and later: `$` and 43 characters of URL-safe Base64) as their 32 bytes, for
//! rows and keys.

use data_encoding::BASE64URL_NOPAD;
use ruma::{EventId, OwnedEventId};

use crate::base64::{self, Alphabet};

/// The 32 bytes that an event id writes out; none if it is of another form.
pub fn hash(id: &EventId) -> Option<[u8; 32]> {
    let text = id.as_str().strip_prefix('$').filter(|text| text.len() == 43)?;
    let mut hash = [0; 32];
    // Refuses characters and last bits that writing the hash out again would not give.
    BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut hash).ok()?;
    Some(hash)
}

/// The event id that writes out a hash.
pub fn of_hash(hash: &[u8; 32]) -> OwnedEventId {
    let mut text = Vec::with_capacity(44);
    text.push(b'$');
    base64::write(Alphabet::Url, hash, &mut text);
    let text = String::from_utf8(text).expect("Base64 is ASCII");
    EventId::parse(text).expect("`$` and 43 characters are an event id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_as_it_was_is_a_hash() {
        let id = EventId::parse("$YJ9Vq8H2Xx3mA0cC-_Zz1b2n3M4l5K6j7h8G9f0D1s0").unwrap();
        assert_eq!(of_hash(&hash(&id).unwrap()), id);
        for other in [
            "$YJ9Vq8H2Xx3mA0cC-_Zz1b2n3M4l5K6j7h8G9f0D1s1", // bits after the last byte
            "$YJ9Vq8H2Xx3mA0cC+/Zz1b2n3M4l5K6j7h8G9f0D1s0", // version 3
            "$YJ9Vq8H2Xx3mA0cC-_Zz1b2n3M4l5K6j7h8G9f0D1s",
            "$some:server.example",
        ] {
            assert_eq!(hash(&EventId::parse(other).unwrap()), None, "{other}");
        }
    }
}
