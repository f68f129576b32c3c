//! Keys: an encoding whose byte order is the order of the values, so that a range scan is a prefix scan.
//!
//! Integers are big-endian (signed ones with the sign bit flipped). Strings escape NUL as `00 FF` and end with `00 01`,
//! so that no string is a prefix of another one and the next part of a tuple cannot be mistaken for a continuation.

use millpond_matrix::event_id;
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedMxcUri, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId,
    OwnedUserId,
};

/// A key that decodes from its bytes.
pub trait Key: AsKey<Self> + Sized {
    /// Takes one key off the front of `bytes`.
    ///
    /// # Errors
    /// A description of what did not decode.
    fn decode(bytes: &mut &[u8]) -> Result<Self, String>;
}

/// Something that encodes as a key of type `K`; borrowed forms look up without allocation.
pub trait AsKey<K> {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);
}

/// The leading parts of a tuple key `K`.
pub trait AsPrefix<K> {
    /// Appends the encoding of the parts.
    fn encode_prefix(&self, out: &mut Vec<u8>);
}

impl<K, T: AsKey<K> + ?Sized> AsKey<K> for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    if bytes.len() < n {
        return Err(format!("key ends after {} of {n} bytes", bytes.len()));
    }
    let (head, tail) = bytes.split_at(n);
    *bytes = tail;
    Ok(head)
}

macro_rules! unsigned_key {
    ($($t:ty),*) => {$(
        impl AsKey<$t> for $t {
            fn encode(&self, out: &mut Vec<u8>) { out.extend_from_slice(&self.to_be_bytes()); }
        }
        impl Key for $t {
            fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
                let head = take(bytes, size_of::<$t>())?;
                Ok(<$t>::from_be_bytes(head.try_into().expect("take gave that many bytes")))
            }
        }
    )*};
}
unsigned_key!(u8, u16, u32, u64);

impl AsKey<i64> for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&((*self as u64) ^ (1 << 63)).to_be_bytes());
    }
}
impl Key for i64 {
    fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
        Ok((u64::decode(bytes)? ^ (1 << 63)) as i64)
    }
}

impl<const N: usize> AsKey<[u8; N]> for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
impl<const N: usize> Key for [u8; N] {
    fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
        Ok(take(bytes, N)?.try_into().expect("take gave that many bytes"))
    }
}

fn encode_str(text: &str, out: &mut Vec<u8>) {
    // NUL is rare: what stands between is copied whole.
    for (n, part) in text.as_bytes().split(|byte| *byte == 0).enumerate() {
        if n > 0 {
            out.extend_from_slice(&[0, 0xFF]);
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0, 1]);
}

fn decode_str(bytes: &mut &[u8]) -> Result<String, String> {
    let mut text = Vec::new();
    loop {
        let nul = bytes.iter().position(|byte| *byte == 0).ok_or("key ends within a text")?;
        text.extend_from_slice(take(bytes, nul)?);
        match take(bytes, 2)?[1] {
            1 => break,
            _ => text.push(0),
        }
    }
    String::from_utf8(text).map_err(|_| "key is not UTF-8".to_owned())
}

impl AsKey<String> for str {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_str(self, out);
    }
}
impl AsKey<String> for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_str(self, out);
    }
}
impl Key for String {
    fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
        decode_str(bytes)
    }
}

macro_rules! id_key {
    ($($owned:ident / $borrowed:ty),* $(,)?) => {$(
        impl AsKey<$owned> for $borrowed {
            fn encode(&self, out: &mut Vec<u8>) { encode_str(self.as_str(), out); }
        }
        impl AsKey<$owned> for $owned {
            fn encode(&self, out: &mut Vec<u8>) { encode_str(self.as_str(), out); }
        }
        impl Key for $owned {
            fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
                let text = decode_str(bytes)?;
                text.as_str().try_into().map_err(|_| concat!("not a ", stringify!($owned)).to_owned())
            }
        }
    )*};
}
id_key!(
    OwnedDeviceId / ruma::DeviceId,
    OwnedMxcUri / ruma::MxcUri,
    OwnedRoomAliasId / ruma::RoomAliasId,
    OwnedRoomId / ruma::RoomId,
    OwnedServerName / ruma::ServerName,
    OwnedTransactionId / ruma::TransactionId,
    OwnedUserId / ruma::UserId,
);

/// Event ids that are hashes stand in keys as `01` and their 32 bytes, others as `02` and their text.
impl AsKey<OwnedEventId> for ruma::EventId {
    fn encode(&self, out: &mut Vec<u8>) {
        match event_id::hash(self) {
            Some(hash) => {
                out.push(1);
                out.extend_from_slice(&hash);
            }
            None => {
                out.push(2);
                encode_str(self.as_str(), out);
            }
        }
    }
}
impl AsKey<OwnedEventId> for OwnedEventId {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}
impl Key for OwnedEventId {
    fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
        match take(bytes, 1)?[0] {
            1 => Ok(event_id::of_hash(take(bytes, 32)?.try_into().expect("take gave that many bytes"))),
            2 => Self::try_from(decode_str(bytes)?).map_err(|_| "not an OwnedEventId".to_owned()),
            form => Err(format!("event id of an unknown form {form}")),
        }
    }
}

macro_rules! tuple_key {
    ($($q:ident $k:ident $i:tt),+) => {
        impl<$($q, $k),+> AsKey<($($k,)+)> for ($($q,)+) where $($q: AsKey<$k>),+ {
            fn encode(&self, out: &mut Vec<u8>) { $(self.$i.encode(out);)+ }
        }
        impl<$($k: Key),+> Key for ($($k,)+) {
            fn decode(bytes: &mut &[u8]) -> Result<Self, String> { Ok(($($k::decode(bytes)?,)+)) }
        }
    };
}
tuple_key!(A KA 0, B KB 1);
tuple_key!(A KA 0, B KB 1, C KC 2);
tuple_key!(A KA 0, B KB 1, C KC 2, D KD 3);

impl<K> AsPrefix<K> for () {
    fn encode_prefix(&self, _: &mut Vec<u8>) {}
}

macro_rules! tuple_prefix {
    ($($q:ident $k:ident $i:tt),+ ; $($rest:ident),+) => {
        impl<$($q, $k,)+ $($rest),+> AsPrefix<($($k,)+ $($rest,)+)> for ($($q,)+) where $($q: AsKey<$k>),+ {
            fn encode_prefix(&self, out: &mut Vec<u8>) { $(self.$i.encode(out);)+ }
        }
    };
}
tuple_prefix!(A KA 0; R1);
tuple_prefix!(A KA 0; R1, R2);
tuple_prefix!(A KA 0; R1, R2, R3);
tuple_prefix!(A KA 0, B KB 1; R1);
tuple_prefix!(A KA 0, B KB 1; R1, R2);
tuple_prefix!(A KA 0, B KB 1, C KC 2; R1);

/// A newtype around `u64` that serves as a key and a value. As a value it is LEB128: there are many of them.
macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
        $crate::key::foreign_short_id!($name);
    };
}
pub(crate) use short_id;

/// Makes a newtype around `u64` a key and a value.
macro_rules! foreign_short_id {
    ($name:ident) => {
        impl $crate::key::AsKey<$name> for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::key::AsKey::<u64>::encode(&self.0, out);
            }
        }
        impl $crate::key::Key for $name {
            fn decode(bytes: &mut &[u8]) -> Result<Self, String> {
                <u64 as $crate::key::Key>::decode(bytes).map(Self)
            }
        }
        impl $crate::value::Value for $name {
            fn encode(&self) -> std::borrow::Cow<'_, [u8]> {
                let mut out = Vec::with_capacity(5);
                millpond_matrix::number::write(&mut out, self.0);
                out.into()
            }
            fn decode(mut bytes: &[u8]) -> Result<Self, String> {
                let number = millpond_matrix::number::read(&mut bytes).filter(|_| bytes.is_empty());
                number.map(Self).ok_or_else(|| concat!("not a ", stringify!($name)).to_owned())
            }
        }
    };
}
pub(crate) use foreign_short_id;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<K, Q: AsKey<K>>(key: Q) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode(&mut out);
        out
    }

    #[test]
    fn byte_order_is_value_order() {
        for pair in [i64::MIN, -2, -1, 0, 1, i64::MAX].windows(2) {
            assert!(bytes::<i64, _>(pair[0]) < bytes::<i64, _>(pair[1]));
        }
        for pair in ["", "\0", "\0\0", "\0a", "a", "a\0", "aa", "b"].windows(2) {
            assert!(bytes::<String, _>(pair[0]) < bytes::<String, _>(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn event_ids_of_every_form_come_back_and_are_no_prefix_of_each_other() {
        let hash = format!("${}", "A".repeat(43));
        let ids = [hash.as_str(), "$abc", "$abc:d", "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"];
        for id in ids.map(|id| OwnedEventId::try_from(id).unwrap()) {
            let encoded = bytes::<(OwnedEventId, i64), _>((&*id, 7_i64));
            let mut rest = encoded.as_slice();
            assert_eq!(<(OwnedEventId, i64)>::decode(&mut rest).unwrap(), (id, 7));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn tuples_with_awkward_strings_come_back() {
        for text in ["", "\0", "a\0\u{1}b", "\u{1}", "\u{7ff}\0"] {
            let key = (7u64, text.to_owned(), -1i64);
            let encoded = bytes::<(u64, String, i64), _>((7u64, text, -1i64));
            let mut rest = encoded.as_slice();
            assert_eq!(<(u64, String, i64)>::decode(&mut rest).unwrap(), key);
            assert!(rest.is_empty());
        }
    }
}
