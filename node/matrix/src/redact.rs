//! Redaction: who may, and what is left.
//!
//! Room version spec, "Handling redactions" (version 3 on): a redaction that arrives is accepted by the ordinary rules;
//! it takes effect when both events are here and its sender may.

use ruma::{CanonicalJsonObject, canonical_json::redact_in_place};

use crate::{Pdu, RoomRules, pdu::PduError, power::Powers};

/// Whether `redaction`, which names `target`, takes effect under the power levels of the room.
pub fn takes_effect(redaction: &Pdu, target: &Pdu, powers: &Powers) -> bool {
    redaction.redacts() == Some(target.event_id())
        && redaction.room_id() == target.room_id()
        && !redaction.flags().rejected
        && (powers.may_redact(redaction.sender()) || redaction.sender().server_name() == target.sender().server_name())
}

/// The event as it is stored once it is redacted; id and signatures stay valid.
///
/// # Errors
/// When the stored JSON is damaged.
pub fn redact(target: &Pdu, rules: &RoomRules) -> Result<Pdu, PduError> {
    let mut object: CanonicalJsonObject = serde_json::from_str(target.json())?;
    redact_in_place(&mut object, &rules.room.redaction, None).map_err(|error| PduError::Redact(error.to_string()))?;
    let json = serde_json::to_string(&object)?;
    Pdu::parse(target.owned_event_id(), rules, json.into_boxed_str(), target.flags())
}
