//! From bytes of a peer to a PDU whose form, signatures and hash hold.
//!
//! Server-server spec, "Checks performed on receipt of a PDU", steps 1 to 3; the steps that need the room are in
//! [`mod@crate::decide`].

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedServerName, RoomId,
    canonical_json::{CanonicalJsonObjectExt, redact_in_place},
    signatures::{
        JsonError, PublicKeyMap, VerificationError, Verified, reference_hash,
        required_server_signatures_to_verify_event, verify_event,
    },
    state_res::check_pdu_format,
};

use crate::{Pdu, PduFlags, RoomRules, pdu::PduError};

/// A parsed PDU of which nothing is known yet. It carries no `unsigned`: what a peer writes there is not covered by any
/// signature.
#[derive(Clone, Debug)]
pub struct RawPdu {
    object: CanonicalJsonObject,
}

/// A PDU that passed steps 1 to 3, or that this node built.
#[derive(Clone, Debug)]
pub struct CheckedPdu {
    pdu: Arc<Pdu>,
    origin: Origin,
}

/// How a [`CheckedPdu`] came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built and signed here.
    Local,
    /// Received, with a content hash that fits.
    Remote,
    /// Received with a content hash that does not fit, and redacted for it.
    RemoteRedacted,
}

/// Why a PDU is dropped: it is neither stored nor passed on.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Longer than any PDU may be, before it was even parsed.
    #[error("PDU has {0} bytes; the limit is 65535 in canonical form")]
    TooLarge(usize),
    /// Not a JSON object, or not representable as canonical JSON.
    #[error("PDU is not canonical JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// Step 1.
    #[error("PDU has a wrong format: {0}")]
    Format(String),
    /// Step 1, fields that the format check leaves alone.
    #[error("PDU has a wrong format: {0}")]
    Fields(#[from] PduError),
    /// Step 2.
    #[error("PDU is not validly signed: {0}")]
    Signature(#[source] VerificationError),
    /// The event id cannot be computed.
    #[error("PDU cannot be hashed: {0}")]
    Hash(#[source] JsonError),
    /// It cannot be redacted although its hash asks for it.
    #[error("PDU cannot be redacted: {0}")]
    Redact(String),
}

impl RawPdu {
    /// Parses one PDU of a transaction or an answer.
    ///
    /// # Errors
    /// When the text is no JSON object, holds numbers that canonical JSON has not, or is far too long.
    pub fn parse(json: &str) -> Result<Self, CheckError> {
        if json.len() > MAX_RAW_LEN {
            return Err(CheckError::TooLarge(json.len()));
        }
        serde_json::from_str(json).map(Self::from_object).map_err(CheckError::Json)
    }

    /// Takes an object that somebody else parsed.
    pub fn from_object(mut object: CanonicalJsonObject) -> Self {
        object.remove("unsigned");
        Self { object }
    }

    /// The room that it says it belongs to; the create event of version 12 has none.
    pub fn room_id(&self) -> Option<&RoomId> {
        self.text("room_id").and_then(|id| id.try_into().ok())
    }

    /// When it says it was made, in milliseconds since the epoch.
    pub fn made_at_ms(&self) -> u64 {
        match self.object.get("origin_server_ts") {
            Some(CanonicalJsonValue::Integer(at)) => u64::try_from(i64::from(*at)).unwrap_or_default(),
            _ => 0,
        }
    }

    /// The type that it says it has.
    pub fn kind(&self) -> Option<&str> {
        self.text("type")
    }

    /// The event id under these rules.
    ///
    /// # Errors
    /// When the object cannot be redacted and hashed.
    pub fn event_id(&self, rules: &RoomRules) -> Result<OwnedEventId, CheckError> {
        event_id(&self.object, rules).map_err(CheckError::Hash)
    }

    /// The servers whose signatures it needs, each with the key ids that it was signed with.
    ///
    /// # Errors
    /// When the sender or the authorising user is no user id.
    pub fn required_keys(&self, rules: &RoomRules) -> Result<BTreeMap<OwnedServerName, Vec<String>>, CheckError> {
        let servers = required_server_signatures_to_verify_event(&self.object, &rules.room.signatures)
            .map_err(CheckError::Signature)?;
        let signatures = self.object.get("signatures").and_then(|value| value.as_object());
        let keys_of = |server: &OwnedServerName| {
            let keys = signatures.and_then(|map| map.get(server.as_str())).and_then(|value| value.as_object());
            keys.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
        };
        Ok(servers.into_iter().map(|server| (keys_of(&server), server)).map(|(keys, server)| (server, keys)).collect())
    }

    /// Steps 1 to 3. `keys` must hold only keys that were valid at the event's `origin_server_ts`.
    ///
    /// # Errors
    /// When the event must be dropped, with the reason.
    pub fn check(mut self, rules: &RoomRules, keys: &PublicKeyMap) -> Result<CheckedPdu, CheckError> {
        // 1. Is a valid event, otherwise it is dropped.
        check_pdu_format(&self.object, &rules.room.event_format).map_err(CheckError::Format)?;
        self.check_references()?;
        // 2. Passes signature checks, otherwise it is dropped.
        let verified = verify_event(keys, &self.object, &rules.room).map_err(CheckError::Signature)?;
        // 3. Passes hash checks, otherwise it is redacted before being processed further.
        let origin = match verified {
            Verified::All => Origin::Remote,
            _ => Origin::RemoteRedacted,
        };
        if origin == Origin::RemoteRedacted {
            redact_in_place(&mut self.object, &rules.room.redaction, None)
                .map_err(|error| CheckError::Redact(error.to_string()))?;
        }
        CheckedPdu::from_object(&self.object, rules, origin)
    }

    /// No event of these versions has an id of another form, so nobody needs to be asked for one.
    fn check_references(&self) -> Result<(), CheckError> {
        for field in ["prev_events", "auth_events"] {
            let ids = self.object.get(field).and_then(|value| value.as_array()).unwrap_or_default();
            if !ids.iter().all(|id| id.as_str().is_some_and(is_event_id)) {
                return Err(CheckError::Format(format!("`{field}` holds something else than event ids")));
            }
        }
        Ok(())
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.object.get_as_string(field, field).ok().flatten()
    }
}

impl CheckedPdu {
    /// How it came to be.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The event, to be shared.
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.pdu
    }

    /// The event as it is stored under a verdict.
    pub fn with_flags(&self, flags: PduFlags) -> Arc<Pdu> {
        if self.pdu.flags() == flags { self.pdu.clone() } else { Arc::new(Pdu::clone(&self.pdu).with_flags(flags)) }
    }

    /// `object` must be hashed and signed, and verified unless it was made here.
    pub(crate) fn from_object(
        object: &CanonicalJsonObject,
        rules: &RoomRules,
        origin: Origin,
    ) -> Result<Self, CheckError> {
        let event_id = event_id(object, rules).map_err(CheckError::Hash)?;
        let json = serde_json::to_string(object).map_err(CheckError::Json)?;
        if json.len() > MAX_PDU_LEN {
            return Err(CheckError::TooLarge(json.len()));
        }
        let pdu = Pdu::parse(event_id, rules, json.into_boxed_str(), PduFlags::default())?;
        Ok(Self { pdu: Arc::new(pdu), origin })
    }
}

impl Deref for CheckedPdu {
    type Target = Pdu;

    fn deref(&self) -> &Pdu {
        &self.pdu
    }
}

/// Whether the text has the form of an event id of versions 6 to 12: the URL-safe hash, nothing else.
fn is_event_id(id: &str) -> bool {
    let hash = id.strip_prefix('$').unwrap_or_default();
    hash.len() == 43 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn event_id(object: &CanonicalJsonObject, rules: &RoomRules) -> Result<OwnedEventId, JsonError> {
    let hash = reference_hash(object, &rules.room)?;
    Ok(EventId::new_v2_or_v3(&hash).expect("a base64 hash is a valid event id"))
}

/// Most bytes of a PDU in canonical form (client-server spec, "Size limits": less than 65,536).
pub const MAX_PDU_LEN: usize = 65_535;

/// Most bytes of a PDU as received: every byte of the canonical form may stand as a six-byte escape.
pub const MAX_RAW_LEN: usize = 6 * MAX_PDU_LEN;
