//! Key packs: `/keys/query` and `/keys/claim` about users of a peer that sleeps are answered here, from what their node
//! has given us beforehand (overlay.md section 5, "What unmodified clients force on us", 1).
//!
//! ```text
//! a change of keys -> KEY_PACKS_DUE -> [`renew`] -> KEY_PACKS_SENT + KEY_PACKS_OWED -> EDU, before all others
//!     peer: KEY_PACKS; a claim takes a key out of it and owes us `used` -> KEY_PACKS_DUE
//! ```
//!
//! A pack belongs to the link's peer: it is about users of the peer's own server, and it goes when the link ends. Both
//! kinds of EDU are ours (`org.millpond.key_pack`, `org.millpond.key_pack_used`).

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName,
    encryption::{CrossSigningKey, DeviceKeys, OneTimeKey},
    serde::Raw,
};
use serde::{Deserialize, Serialize};

mod claim;
mod held;
mod made;
mod tend;

pub(crate) use self::{
    held::is_packed,
    made::{all_due, device_gone, due},
};
pub use self::{
    held::{apply_pack, link_ended},
    made::{PackEdus, apply_used, pack_edus, packs_delivered},
};

/// One-time keys of a device that a peer has at hand.
const KEYS_A_PEER: usize = 5;
/// One-time keys of a device that are in packs of all peers together.
const MAX_OUTSTANDING: u64 = 1_000;
/// The algorithm of the keys that packs carry: the only one that clients use.
const ALGORITHM: &str = "signed_curve25519";

/// `edu_type` of a pack.
const PACK: &str = "org.millpond.key_pack";
/// `edu_type` of the news that keys of a pack are used.
const USED: &str = "org.millpond.key_pack_used";

/// An EDU about key packs.
#[derive(Clone, Debug)]
pub enum PackEdu {
    /// A pack of a user of the sender.
    Pack(Box<Pack>),
    /// Keys of a user of ours that the sender has given to its clients.
    Used(Used),
}

/// The keys of one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pack {
    user_id: OwnedUserId,
    /// Grows with each pack of a user.
    version: u64,
    /// The device list's `stream_id` that this is.
    stream_id: u64,
    devices: Vec<PackDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Raw<CrossSigningKey>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Raw<CrossSigningKey>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PackDevice {
    device_id: OwnedDeviceId,
    keys: Raw<DeviceKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    one_time_keys: BTreeMap<String, Raw<OneTimeKey>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fallback_keys: BTreeMap<String, Raw<OneTimeKey>>,
}

/// Which keys of a device are used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Used {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    /// Ids of one-time keys.
    #[serde(default)]
    one_time: Vec<String>,
    /// Ids of fallback keys.
    #[serde(default)]
    fallback: Vec<String>,
}

impl PackEdu {
    /// Reads an EDU, if it is about packs and the sender may say it.
    pub fn parse(origin: &ServerName, json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head<'a> {
            edu_type: &'a str,
            #[serde(borrow)]
            content: &'a serde_json::value::RawValue,
        }
        if json.len() > MAX_EDU_BYTES {
            return None;
        }
        let head: Head<'_> = serde_json::from_str(json).ok()?;
        match head.edu_type {
            PACK => {
                let pack: Pack = serde_json::from_str(head.content.get()).ok()?;
                (pack.user_id.server_name() == origin).then(|| Self::Pack(Box::new(pack)))
            }
            USED => serde_json::from_str(head.content.get()).ok().map(Self::Used),
            _ => None,
        }
    }
}

fn edu(kind: &str, content: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Edu<'a, C> {
        edu_type: &'a str,
        content: &'a C,
    }
    serde_json::to_string(&Edu { edu_type: kind, content }).expect("keys of ours serialise")
}

/// Bytes of an EDU about packs: 500 devices with six keys each of about 300 bytes.
const MAX_EDU_BYTES: usize = 2 << 20;
