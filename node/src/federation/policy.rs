//! `/sign`: this node as the policy server of rooms, if its owner wants it (server-server API, "Policy Servers"). It signs what
//! anybody may say whom the owner, or a policy list that he follows, does not keep out.

use http::StatusCode;
use millpond_matrix::{
    build::{self, Signer},
    check::RawPdu,
    policy_server::needs_endorsement,
    signing::Ed25519KeyPair,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, api::error::ErrorKind,
    events::room::policy::POLICY_SERVER_ED25519_SIGNING_KEY_ID, serde::Base64,
};
use serde_json::value::RawValue;

use super::{Federation, Origin, check_acl, limits::Act, member_events::known_rules};
use crate::{Error, identity, rooms::local};

impl Federation {
    /// The public half of the key that it signs with, for `m.room.policy`.
    ///
    /// # Errors
    /// 404 unless this node is a policy server.
    pub fn policy_key(&self) -> Result<Base64, Error> {
        Ok(Base64::new(self.policy_pair()?.public_key().to_vec()))
    }

    /// Signs an event that it recommends; gives who has signed, and the signature.
    ///
    /// # Errors
    /// 404 unless this node is a policy server and in the room, 400 for an event that is none, 400 `M_FORBIDDEN` for one that it
    /// does not recommend, 403 for servers that the room shuts out, 429.
    pub async fn recommend(&self, origin: &Origin, event: Box<RawValue>) -> Result<(OwnedServerName, String), Error> {
        let key = self.policy_pair()?;
        self.limits.take(&origin.server, Act::Sign)?;
        let raw = RawPdu::parse(event.get()).map_err(|e| Error::bad_json(e.to_string()))?;
        let room_id = raw.room_id().ok_or_else(|| Error::bad_json("the event names no room"))?;
        let (rules, is_whole) = {
            let snapshot = self.core.snapshot()?;
            let (short, room) = self.resident(snapshot.view(), origin, room_id)?;
            check_acl(snapshot.view(), short, &origin.server)?;
            (known_rules(&room)?, raw.required_keys(known_rules(&room)?).is_ok())
        };
        let checked = match is_whole {
            true => self.parts.inbox.check_all(rules, &origin.server, vec![event]).await?.pop(),
            false => None,
        };
        let pdu = checked.ok_or_else(|| Error::bad_json("the event's form or signature is not valid"))?;
        if !needs_endorsement(&pdu) {
            return Err(Error::bad_json("the event that names the policy server is not signed by it"));
        }
        self.core.guard().check_user(self.core.snapshot()?.view(), pdu.sender()).map_err(|error| match error {
            Error::Matrix { message, .. } => Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::Forbidden, message),
            error => error,
        })?;
        let us = self.core.identity().server_name();
        let signed =
            build::add_signature(rules, &pdu, &Signer { server: us, key: &key }).map_err(local::build_error)?;
        let signature = signature_of(signed.json(), us.as_str());
        let signature = signature.ok_or_else(|| Error::internal("an event that was signed has no signature"))?;
        Ok((us.to_owned(), signature))
    }

    fn policy_pair(&self) -> Result<Ed25519KeyPair, Error> {
        if !self.core.config().policy_server {
            let message = "this server is no policy server";
            return Err(Error::matrix(StatusCode::NOT_FOUND, ErrorKind::Unrecognized, message));
        }
        identity::policy_key(&self.core.config().data_dir).map_err(|e| Error::internal(e.to_string()))
    }
}

fn signature_of(json: &str, server: &str) -> Option<String> {
    let object: CanonicalJsonObject = serde_json::from_str(json).ok()?;
    let CanonicalJsonValue::Object(signatures) = object.get("signatures")? else { return None };
    let CanonicalJsonValue::Object(of_server) = signatures.get(server)? else { return None };
    Some(of_server.get(POLICY_SERVER_ED25519_SIGNING_KEY_ID)?.as_str()?.to_owned())
}
