//! createRoom: the whole room in one job. The events are signed and tried before it, off the writer.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use http::StatusCode;
use millpond_matrix::{
    CheckedPdu,
    build::content,
    create_room::{self, InitialState, NewRoom},
    rules::{self, RoomRules, rules},
};
use millpond_store::{
    WriteTxn, job,
    rows::{Alias, Room},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedUserId,
    RoomId, RoomVersionId, UInt, UserId,
    api::{
        client::room::{
            Visibility,
            create_room::v3::{Request, RoomPreset},
        },
        error::ErrorKind,
    },
    serde::Raw,
};
use serde::Deserialize;

use super::{
    Rooms,
    apply::{self, Context, Owed},
    local, membership, policy, rows, signer,
};
use crate::{Error, invite_permission};

/// In the create event: PDUs of this room never leave by the classic door.
pub(crate) const FEDERATION_KEY: &str = "org.millpond.federation";

impl Rooms {
    /// Creates a room.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE` for a taken alias, `M_INVALID_ROOM_STATE` when the auth rules refuse
    /// one of the events, `M_BAD_JSON` for wrong types.
    pub async fn create(&self, creator: &UserId, request: Request) -> Result<OwnedRoomId, Error> {
        let version = request.room_version.clone().unwrap_or(rules::DEFAULT);
        let rules = supported(&version)?;
        let alias = request.room_alias_name.as_deref().map(|name| self.new_alias(name)).transpose()?;
        let published = request.visibility == Visibility::Public;
        let (new_room, overlay) = self.new_room(creator, &version, alias.clone(), request)?;
        let drafts = create_room::plan(rules, new_room).map_err(local::create_error)?;
        let drawn = RoomId::new_v1(self.core.identity().server_name());
        let pdus = create_room::sign(rules, &drawn, drafts, &signer(&self.core)).map_err(local::create_error)?;
        let room_id = pdus.first().ok_or_else(|| Error::internal("a room without events"))?.room_id().to_owned();
        let room = Room { room_id: room_id.clone(), version, overlay };
        self.write_room(creator, room, pdus, alias, published).await?;
        Ok(room_id)
    }

    /// Whether the room that a request asks for will be an overlay room.
    ///
    /// # Errors
    /// As [`Rooms::create`], for what is wrong with the policy.
    pub fn policy_of_new(&self, request: &Request) -> Result<bool, Error> {
        let version = request.room_version.clone().unwrap_or(rules::DEFAULT);
        self.room_policy(&version, &mut object_of(request.creation_content.as_ref())?)
    }

    async fn write_room(
        &self,
        creator: &UserId,
        room: Room,
        pdus: Vec<CheckedPdu>,
        alias: Option<OwnedRoomAliasId>,
        published: bool,
    ) -> Result<(), Error> {
        let (core, creator, taken) = (self.core.clone(), creator.to_owned(), alias.clone());
        let create = job(
            move |view| match &taken {
                Some(alias) if view.contains(tables::ALIASES, &**alias)? => Err(Error::matrix(
                    StatusCode::BAD_REQUEST,
                    ErrorKind::RoomInUse,
                    format!("the alias {alias} is taken"),
                )),
                _ => Ok(()),
            },
            move |(), txn| {
                let short = rows::intern_room(txn, &room)?;
                let context = Context { owed: Owed::AllBut(BTreeSet::new()), ..Context::default() };
                for pdu in &pdus {
                    let applied = apply::decide_and_write(txn, core.identity(), (short, &room), pdu, &context)?;
                    membership::after_member_event(&core, txn, (short, &room), pdu, applied.event)?;
                }
                write_directory(txn, &room.room_id, alias.as_ref(), published, &creator)
            },
        );
        self.core.write(create).await?;
        Ok(())
    }

    fn new_alias(&self, name: &str) -> Result<OwnedRoomAliasId, Error> {
        let alias = format!("#{name}:{}", self.core.identity().server_name());
        match OwnedRoomAliasId::try_from(alias) {
            Ok(alias) if !name.contains(':') => Ok(alias),
            _ => Err(Error::invalid_param(format!("`{name}` cannot be the local part of an alias"))),
        }
    }

    fn new_room(
        &self,
        creator: &UserId,
        version: &RoomVersionId,
        alias: Option<OwnedRoomAliasId>,
        request: Request,
    ) -> Result<(NewRoom, bool), Error> {
        let mut creation_content = object_of(request.creation_content.as_ref())?;
        let overlay = self.room_policy(version, &mut creation_content)?;
        let default_preset = match request.visibility {
            Visibility::Public => RoomPreset::PublicChat,
            _ => RoomPreset::PrivateChat,
        };
        let snapshot = self.core.snapshot()?;
        let profile = |user: &UserId| membership::profile(&self.core, snapshot.view(), user);
        for user in request.invite.iter().filter(|user| self.core.identity().is_our_user(user)) {
            invite_permission::check(snapshot.view(), user)?;
        }
        let invite = request.invite.iter().filter(|user| *user != creator);
        let invite =
            invite.map(|user| Ok((user.clone(), profile(user)?))).collect::<Result<Vec<(OwnedUserId, _)>, Error>>()?;
        let new_room = NewRoom {
            creator: creator.to_owned(),
            creator_profile: profile(creator)?,
            preset: request.preset.unwrap_or(default_preset),
            creation_content,
            power_levels: object_of(request.power_level_content_override.as_ref())?,
            alias,
            initial_state: request.initial_state.iter().map(initial_state).collect::<Result<_, _>>()?,
            name: request.name,
            topic: request.topic,
            invite,
            is_direct: request.is_direct,
            now: self.creation_time(),
        };
        Ok((new_room, overlay))
    }

    /// Now, but never the same twice: in version 12 the room id hashes the create event, and two alike would be one room.
    pub(super) fn creation_time(&self) -> MilliSecondsSinceUnixEpoch {
        let now = self.core.clock().now_ms();
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_created_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(now.max(last.unwrap_or_default() + 1)))
    }

    /// Whether the room is an overlay room; `content` then says so for ever. Without the client's word it is one on a
    /// key-named node, where classic federation is impossible, and on a node with a DNS name if the settings say so.
    /// Overlay needs version 12, whose room id hashes the create event. On a key-named node older versions are made for
    /// local use and say `m.federate: false`.
    pub(super) fn room_policy(
        &self,
        version: &RoomVersionId,
        content: &mut CanonicalJsonObject,
    ) -> Result<bool, Error> {
        let asked = content.get(FEDERATION_KEY).map(|value| value.as_str().unwrap_or_default().to_owned());
        let dns_named = self.core.identity().is_dns_named();
        let by_default = match &self.core.config().classic {
            Some(classic) if dns_named => classic.overlay_by_default,
            _ => !dns_named,
        };
        match asked.as_deref() {
            None if by_default && *version == RoomVersionId::V12 => {
                content.insert(FEDERATION_KEY.to_owned(), CanonicalJsonValue::String("overlay".to_owned()));
                Ok(true)
            }
            None if dns_named => Ok(false),
            None => {
                content.insert("m.federate".to_owned(), CanonicalJsonValue::Bool(false));
                Ok(false)
            }
            Some("overlay") if *version == RoomVersionId::V12 => Ok(true),
            Some("overlay") => Err(Error::invalid_param("overlay rooms need room version 12")),
            Some("classic") => {
                policy::check_enters(&self.core, false)?;
                // What every other server understands: a classic room is one whose create event says nothing.
                content.remove(FEDERATION_KEY);
                Ok(false)
            }
            Some(_) => Err(Error::bad_json(format!(
                "creation_content.{FEDERATION_KEY} can only be \"overlay\" or \"classic\""
            ))),
        }
    }
}

/// The rules of a version in which rooms can be made here.
pub(super) fn supported(version: &RoomVersionId) -> Result<&'static RoomRules, Error> {
    rules(version).map_err(|_| {
        let message = format!("room version {version} is not supported; this server makes versions 6 to 12");
        Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::UnsupportedRoomVersion, message)
    })
}

fn write_directory(
    txn: &mut WriteTxn<'_>,
    room_id: &RoomId,
    alias: Option<&OwnedRoomAliasId>,
    published: bool,
    creator: &UserId,
) -> Result<(), millpond_store::Error> {
    if let Some(alias) = alias {
        let row = Alias { room_id: room_id.to_owned(), creator: creator.to_owned() };
        txn.put(tables::ALIASES, &**alias, &row)?;
        txn.put(tables::ROOM_ALIASES, (room_id, &**alias), &())?;
    }
    if published {
        txn.put(tables::PUBLISHED, room_id, &())?;
    }
    Ok(())
}

fn object_of<T>(raw: Option<&Raw<T>>) -> Result<CanonicalJsonObject, Error> {
    match raw {
        Some(raw) => content(raw.json().get().as_bytes()).map_err(local::build_error),
        None => Ok(CanonicalJsonObject::new()),
    }
}

fn initial_state<T>(raw: &Raw<T>) -> Result<InitialState, Error> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
        content: CanonicalJsonObject,
    }
    let event: Event = serde_json::from_str(raw.json().get())
        .map_err(|e| Error::bad_json(format!("an entry of initial_state is not valid: {e}")))?;
    Ok(InitialState { kind: event.kind.into(), state_key: event.state_key, content: event.content })
}
