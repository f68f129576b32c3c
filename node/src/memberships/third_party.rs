//! Invites of people who are known by an e-mail address or a phone number only (client-server API, "Third-party invites"),
//! through the identity server that the owner has configured. Without one nobody is asked and nothing is invited.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use millpond_matrix::{
    build::EventDraft,
    signing::{PublicKeyMap, verify_json},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, UserId,
    api::{error::ErrorKind, federation::thirdparty::exchange_invite},
    events::{StateEventType, TimelineEventType},
    serde::{Base64, Raw},
};
use serde::Deserialize;
use serde_json::{Value, json, value::to_raw_value};
use sha2::{Digest, Sha256};

use super::Memberships;
use crate::{
    Error, directory,
    identity_service::{As, IdentityServer},
    peers::PATIENCE,
    rooms::{Action, current, known_room, local},
};

/// Whom to invite.
#[derive(Clone, Debug)]
pub struct ThirdParty {
    /// The identity server to ask, by its host.
    pub id_server: String,
    /// The user's token for it.
    pub id_access_token: String,
    /// `email` or `msisdn`.
    pub medium: String,
    /// The address.
    pub address: String,
}

/// The proof of an identity server that an address is a user's.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Who invited the address.
    pub sender: OwnedUserId,
    /// Whose it is.
    pub mxid: OwnedUserId,
    /// The token of the invite.
    pub token: String,
    /// The whole proof: `mxid`, `token` and `signatures`.
    pub proof: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct Stored {
    token: String,
    public_keys: Vec<Key>,
    display_name: String,
}

#[derive(Clone, Deserialize)]
struct Key {
    public_key: String,
    key_validity_url: String,
}

const KIND: &str = "m.room.third_party_invite";

impl Memberships {
    /// Invites somebody by an address: the user whose it is, or with a token that the identity server sends him. Dropping
    /// the future may leave him with a message and without an invite.
    ///
    /// # Errors
    /// 403 `M_THREEPID_DENIED` without a configured identity server and in overlay rooms, `M_SERVER_NOT_TRUSTED` for
    /// another one, 403 for who may not invite, 504 when the identity server does not answer as it should; as [`Memberships::invite`].
    pub async fn invite_third_party(&self, sender: &UserId, room_id: &RoomId, ask: ThirdParty) -> Result<(), Error> {
        let server = self.may_invite_third_party(&ask, self.policy_of(room_id)?)?;
        // Nobody is written to for an invite that the room would not let in.
        self.try_third_party(sender, room_id)?;
        if let Some(user) = look_up(&server, &ask).await? {
            return self.invite(sender, room_id, &user, CanonicalJsonObject::new()).await;
        }
        let stored: Stored = self.store_invite(&server, sender, room_id, &ask).await?;
        let key = stored.public_keys.first().cloned();
        let key = key.ok_or_else(|| Error::unreachable("the identity server gave no key with the invite"))?;
        let keys: Vec<_> = stored.public_keys.iter().take(KEYS_MAX).map(shown).collect();
        let content = json!({
            "display_name": stored.display_name, "public_key": key.public_key,
            "key_validity_url": key.key_validity_url, "public_keys": keys,
        });
        let kind = StateEventType::from(KIND);
        self.rooms.send_state(sender, room_id, &kind, stored.token, &content.to_string()).await?;
        Ok(())
    }

    /// Turns the proof that an address is a user's into an invite for him: here, or at the inviter's server.
    ///
    /// # Errors
    /// 403 for a proof that is another user's or that the room does not take; as [`Memberships::invite`].
    pub async fn redeem(&self, user: &UserId, room_id: &RoomId, signed: &Signed) -> Result<(), Error> {
        if signed.mxid != user {
            return Err(Error::forbidden(format!("the proof is for {}", signed.mxid)));
        }
        if self.core.identity().is_our_user(&signed.sender) && self.rooms.is_resident(room_id)? {
            return self.exchange(&signed.sender, room_id, user, signed.proof.clone()).await;
        }
        let content = json!({
            "membership": "invite",
            "third_party_invite": { "display_name": "", "signed": signed.proof },
        });
        let content = to_raw_value(&content).map_err(|e| Error::internal(e.to_string()))?;
        let (room, sender, target) = (room_id.to_owned(), signed.sender.clone(), user.to_owned());
        let request = |content| {
            let mut request = exchange_invite::v1::Request::new(room, sender, target, Raw::from_json(content));
            request.kind = StateEventType::RoomMember;
            request
        };
        // It becomes an event of the room, and goes only where those go.
        let content = self.sendable_json(room_id, content)?;
        self.peers.bring(signed.sender.server_name(), content, request, PATIENCE).await?;
        Ok(())
    }

    /// Makes the invite that a proof allows; the auth rules check the proof against the keys in the room.
    ///
    /// # Errors
    /// 403 for a proof that the room does not take, or whose key the identity server has taken back.
    pub(crate) async fn exchange(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        proof: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let overlay = self.policy_of(room_id)?;
        if overlay {
            return Err(Error::forbidden("that room stays in the overlay: nobody is invited into it by address"));
        }
        let token = proof.get("token").and_then(CanonicalJsonValue::as_str).unwrap_or_default().to_owned();
        let invite: Option<CanonicalJsonObject> = {
            let snapshot = self.core.snapshot()?;
            let (room, _) = known_room(snapshot.view(), room_id)?;
            current::content(snapshot.view(), room, KIND, &token)?
        };
        let invite = invite.filter(|invite| !invite.is_empty());
        let invite = invite.ok_or_else(|| Error::forbidden("there is no such third-party invite in that room"))?;
        self.check_key(&invite).await?;
        let name = invite.get("display_name").cloned().unwrap_or(CanonicalJsonValue::String(String::new()));
        let third_party: CanonicalJsonObject =
            [("display_name".to_owned(), name), ("signed".to_owned(), CanonicalJsonValue::Object(proof))].into();
        let extra = [("third_party_invite".to_owned(), CanonicalJsonValue::Object(third_party))].into();
        self.check_reachable(target, overlay).await?;
        self.rooms.change_membership(sender, room_id, target, Action::Invite, extra).await
    }

    /// The identity server through which somebody may be invited into a room of this policy. Overlay rooms have none
    /// (overlay.md section 5): it would learn who is in them.
    fn may_invite_third_party(&self, ask: &ThirdParty, overlay: bool) -> Result<IdentityServer, Error> {
        let server = IdentityServer::named(&self.core, &ask.id_server, StatusCode::FORBIDDEN)?;
        if overlay {
            let message =
                "no identity server is told of this room, which stays in the overlay: invite users by their Matrix ids";
            return Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message));
        }
        Ok(server)
    }

    /// As [`Memberships::invite_third_party`], for a room that is about to be made.
    ///
    /// # Errors
    /// 403 where no such invite could be sent.
    pub fn check_third_party(&self, ask: &ThirdParty, overlay: bool) -> Result<(), Error> {
        self.may_invite_third_party(ask, overlay).map(drop)
    }

    /// That the room would take a third-party invite of this sender.
    fn try_third_party(&self, sender: &UserId, room_id: &RoomId) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (room, _) = known_room(view, room_id)?;
        if !current::is_joined(view, room, sender)? {
            return Err(Error::forbidden(format!("you are not in room {room_id}")));
        }
        let now = self.core.clock().now();
        let draft = EventDraft::new(TimelineEventType::from(KIND), CanonicalJsonObject::new(), sender.to_owned(), now);
        let draft = EventDraft { state_key: Some("try".to_owned()), ..draft };
        local::plan(&self.core, view, room_id, draft).map(drop)
    }

    async fn store_invite(
        &self,
        server: &IdentityServer,
        sender: &UserId,
        room_id: &RoomId,
        ask: &ThirdParty,
    ) -> Result<Stored, Error> {
        let mut body = json!({
            "medium": ask.medium, "address": ask.address, "room_id": room_id, "sender": sender,
        });
        {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let (room, _) = known_room(view, room_id)?;
            for (name, kind, field) in SHOWN {
                if let Some(value) = directory::field::<String>(view, room, kind, field)? {
                    body[name] = Value::String(value);
                }
            }
            for (name, field) in [("sender_display_name", "displayname"), ("sender_avatar_url", "avatar_url")] {
                if let Some(CanonicalJsonValue::String(value)) = crate::profile::shown(view, sender)?.remove(field) {
                    body[name] = Value::String(value);
                }
            }
        }
        server.ask(Method::POST, "/store-invite", As::Holder(&ask.id_access_token), Some(body)).await
    }

    /// That the identity server stands by the key of an invite. Only the configured one is asked.
    async fn check_key(&self, invite: &CanonicalJsonObject) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Valid {
            valid: bool,
        }
        let text = |name: &str| invite.get(name).and_then(CanonicalJsonValue::as_str);
        let Ok(server) = IdentityServer::configured(&self.core) else { return Ok(()) };
        let (Some(url), Some(key)) = (text("key_validity_url"), text("public_key")) else { return Ok(()) };
        if !url.starts_with(&format!("{}/", server.base())) {
            return Ok(());
        }
        // Standard base64 has three letters that mean something else in a query.
        let key = key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let url = format!("{url}?public_key={key}");
        let Valid { valid } = server.ask_at(Method::GET, &url, As::Anybody, None).await?;
        if valid { Ok(()) } else { Err(Error::forbidden("the identity server has taken the key of that invite back")) }
    }

    /// That a proof is signed with a key of the configured identity server.
    ///
    /// # Errors
    /// 403 when it is not; 504 when the identity server does not answer.
    pub(crate) async fn check_proof(&self, proof: &CanonicalJsonObject) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct PublicKey {
            public_key: String,
        }
        let refused = || Error::forbidden("the proof is not signed by the identity server of this homeserver");
        let server = IdentityServer::configured(&self.core).map_err(|_| refused())?;
        let Some(CanonicalJsonValue::Object(signatures)) = proof.get("signatures") else { return Err(refused()) };
        for (signer, keys) in signatures.iter().take(KEYS_MAX) {
            let CanonicalJsonValue::Object(keys) = keys else { continue };
            for id in keys.keys().take(KEYS_MAX).filter(|id| is_key_id(id)) {
                let path = format!("/pubkey/{id}");
                let Ok(PublicKey { public_key }) = server.ask(Method::GET, &path, As::Anybody, None).await else {
                    continue;
                };
                let Ok(key) = Base64::parse(public_key) else { continue };
                let known = PublicKeyMap::from([(signer.clone(), [(id.clone(), key)].into())]);
                let mut alone = proof.clone();
                let of_signer = CanonicalJsonObject::from([(signer.clone(), CanonicalJsonValue::Object(keys.clone()))]);
                alone.insert("signatures".to_owned(), CanonicalJsonValue::Object(of_signer));
                if verify_json(&known, &alone).is_ok() {
                    return Ok(());
                }
            }
        }
        Err(refused())
    }
}

/// Whose address it is, if the identity server knows (identity service API, "Performing lookups"): it is told a hash.
async fn look_up(server: &IdentityServer, ask: &ThirdParty) -> Result<Option<OwnedUserId>, Error> {
    #[derive(Deserialize)]
    struct Details {
        algorithms: Vec<String>,
        lookup_pepper: String,
    }
    #[derive(Deserialize)]
    struct Found {
        mappings: std::collections::BTreeMap<String, OwnedUserId>,
    }
    let who = As::Holder(&ask.id_access_token);
    let Details { algorithms, lookup_pepper } = server.ask(Method::GET, "/hash_details", who, None).await?;
    if !algorithms.iter().any(|algorithm| algorithm == "sha256") {
        return Err(Error::unreachable("the identity server does not look up by SHA-256"));
    }
    let digest = Sha256::digest(format!("{} {} {lookup_pepper}", ask.address.to_lowercase(), ask.medium));
    let hash = URL_SAFE_NO_PAD.encode(digest);
    let body = json!({ "addresses": [hash], "algorithm": "sha256", "pepper": lookup_pepper });
    let Found { mut mappings } = server.ask(Method::POST, "/lookup", who, Some(body)).await?;
    Ok(mappings.remove(&hash))
}

fn is_key_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.'))
}

fn shown(key: &Key) -> Value {
    json!({ "public_key": key.public_key, "key_validity_url": key.key_validity_url })
}

/// What the message to the invited person may say of the room: field of the request, event type, field of its content.
const SHOWN: [(&str, &str, &str); 5] = [
    ("room_name", "m.room.name", "name"),
    ("room_avatar_url", "m.room.avatar", "url"),
    ("room_alias", "m.room.canonical_alias", "alias"),
    ("room_join_rules", "m.room.join_rules", "join_rule"),
    ("room_type", "m.room.create", "type"),
];
/// Keys that are put into the room.
const KEYS_MAX: usize = 8;
