//! Values: how a row's value becomes bytes. Structures are CBOR, JSON that we only pass on stays text.

use std::borrow::Cow;

use ruma::serde::Raw;

/// A row's value.
pub trait Value: Sized {
    /// The bytes to store.
    fn encode(&self) -> Cow<'_, [u8]>;
    /// Reads the stored bytes.
    ///
    /// # Errors
    /// A description of what did not decode.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

impl Value for () {
    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() { Ok(()) } else { Err("expected an empty value".to_owned()) }
    }
}

impl Value for u64 {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.to_be_bytes().to_vec().into()
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self::from_be_bytes(bytes.try_into().map_err(|_| format!("{} bytes for a u64", bytes.len()))?))
    }
}

impl Value for Vec<u8> {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_slice().into()
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(bytes.to_vec())
    }
}

impl Value for String {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_bytes().into()
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::from_utf8(bytes.to_vec()).map_err(|_| "not UTF-8".to_owned())
    }
}

impl<T> Value for Raw<T> {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.json().get().as_bytes().into()
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = String::decode(bytes)?;
        Self::from_json_string(text).map_err(|e| format!("not JSON: {e}"))
    }
}

macro_rules! id_value {
    ($($owned:ident),* $(,)?) => {$(
        impl Value for ruma::$owned {
            fn encode(&self) -> Cow<'_, [u8]> { self.as_str().as_bytes().into() }
            fn decode(bytes: &[u8]) -> Result<Self, String> {
                let text = String::decode(bytes)?;
                text.as_str().try_into().map_err(|_| concat!("not a ", stringify!($owned)).to_owned())
            }
        }
    )*};
}
id_value!(OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId);

/// Implements [`Value`] for serde types as CBOR maps: fields with `#[serde(default)]` may be added without a migration.
macro_rules! cbor_value {
    ($($t:ty),* $(,)?) => {$(
        impl $crate::value::Value for $t {
            fn encode(&self) -> std::borrow::Cow<'_, [u8]> {
                serde_cbor::to_vec(self).expect("our rows have string keys and no unserialisable values").into()
            }
            fn decode(bytes: &[u8]) -> Result<Self, String> {
                serde_cbor::from_slice(bytes).map_err(|e| e.to_string())
            }
        }
    )*};
}
pub(crate) use cbor_value;
