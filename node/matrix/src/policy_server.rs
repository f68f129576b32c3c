//! Policy servers (server-server API, "Policy Servers"): a room may name one, whose signature says that it recommends an event.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName,
    events::room::policy::{POLICY_SERVER_ED25519_SIGNING_KEY_ID, RoomPolicyEventContent},
    signatures::verify_policy_server_signature,
};

use crate::{CheckedPdu, Pdu, RoomRules};

/// The policy server that a room names in its `m.room.policy` event.
#[derive(Clone, Debug)]
pub struct PolicyServer(RoomPolicyEventContent);

impl PolicyServer {
    /// Reads the content of the event; content that is not valid names nobody.
    pub fn of_content(content: &str) -> Option<Self> {
        let content: RoomPolicyEventContent = serde_json::from_str(content).ok()?;
        let has_key = content.public_keys.keys().any(|algorithm| algorithm.as_str() == "ed25519");
        has_key.then_some(Self(content))
    }

    /// Who signs.
    pub fn via(&self) -> &ServerName {
        &self.0.via
    }

    /// Whether an event carries the server's signature, by the key that the room names.
    pub fn has_endorsed(&self, rules: &RoomRules, pdu: &CheckedPdu) -> bool {
        let object: Option<CanonicalJsonObject> = serde_json::from_str(pdu.json()).ok();
        object.is_some_and(|object| verify_policy_server_signature(&self.0, &object, &rules.room).is_ok())
    }

    /// The event with the server's signature added, if that holds.
    pub fn endorsed(&self, rules: &RoomRules, pdu: &CheckedPdu, signature: &str) -> Option<CheckedPdu> {
        let mut object: CanonicalJsonObject = serde_json::from_str(pdu.json()).ok()?;
        let CanonicalJsonValue::Object(signatures) = object.get_mut("signatures")? else { return None };
        let of_server = signatures
            .entry(self.via().to_string())
            .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        let CanonicalJsonValue::Object(of_server) = of_server else { return None };
        let id = POLICY_SERVER_ED25519_SIGNING_KEY_ID.to_owned();
        of_server.insert(id, CanonicalJsonValue::String(signature.to_owned()));
        verify_policy_server_signature(&self.0, &object, &rules.room).ok()?;
        CheckedPdu::from_object(&object, rules, pdu.origin()).ok()
    }
}

/// Whether an event needs the signature: all do but the one that names the server.
pub fn needs_endorsement(pdu: &Pdu) -> bool {
    !(pdu.kind().to_string() == "m.room.policy" && pdu.state_key() == Some(""))
}
