//! Account data: what clients keep for a user, globally or per room (client-server API, "Client config"), and room tags.

use std::{collections::BTreeMap, ops::Bound};

use http::StatusCode;
use millpond_store::{Position, Topic, View, WriteTxn, job, rows, tables};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::error::ErrorKind,
    events::{
        AnyGlobalAccountDataEvent, AnyRoomAccountDataEvent,
        tag::{TagEventContent, TagInfo, TagName, Tags},
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{Core, Error, push_rules};

/// The account data of local users.
#[derive(Clone)]
pub struct AccountData {
    core: Core,
}

impl AccountData {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// The content of one type, global or of a room.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` if there is none; storage errors.
    pub fn content(&self, user: &UserId, room: Option<&RoomId>, kind: &str) -> Result<Box<RawValue>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let content = match row(view, user, room, kind)? {
            None if room.is_none() && kind == PUSH_RULES => {
                Some(push_rules::content(&push_rules::ruleset(view, user)?))
            }
            row => row.map(|row| row.content),
        };
        let content = content.ok_or_else(|| Error::not_found(format!("there is no account data of type {kind}")))?;
        RawValue::from_string(content).map_err(|e| corrupt(e.to_string()))
    }

    /// Sets the content of one type, global or of a room. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 405 `M_BAD_JSON` for types that the server keeps itself; 400 `M_BAD_JSON` for what is not an object, or not tags.
    pub async fn set(&self, user: &UserId, room: Option<&RoomId>, kind: &str, content: &RawValue) -> Result<(), Error> {
        check(kind, content)?;
        let (user, room) = (user.to_owned(), room.map(ToOwned::to_owned));
        let (kind, content) = (kind.to_owned(), content.get().to_owned());
        let write =
            job(|_| Ok::<_, Error>(()), move |(), txn| put(txn, &user, room.as_deref(), &kind, &content).map(drop));
        self.core.write(write).await?;
        Ok(())
    }

    /// The tags that a user gave a room.
    ///
    /// # Errors
    /// Storage errors.
    pub fn tags(&self, user: &UserId, room: &RoomId) -> Result<Tags, Error> {
        tags(self.core.snapshot()?.view(), user, room)
    }

    /// Gives a room a tag, replacing what was known about it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for a tag of over 255 bytes; storage errors.
    pub async fn set_tag(&self, user: &UserId, room: &RoomId, tag: &str, info: TagInfo) -> Result<(), Error> {
        if tag.is_empty() || tag.len() > TAG_MAX {
            return Err(Error::invalid_param(format!("a tag has 1 to {TAG_MAX} bytes, this one has {}", tag.len())));
        }
        let name = TagName::from(tag);
        self.change_tags(user, room, move |tags| {
            tags.insert(name.clone(), info.clone());
        })
        .await
    }

    /// Takes a tag off a room; it need not be there. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn remove_tag(&self, user: &UserId, room: &RoomId, tag: &str) -> Result<(), Error> {
        let name = TagName::from(tag);
        self.change_tags(user, room, move |tags| {
            tags.remove(&name);
        })
        .await
    }

    async fn change_tags(
        &self,
        user: &UserId,
        room: &RoomId,
        change: impl Fn(&mut Tags) + Send + 'static,
    ) -> Result<(), Error> {
        let (user, room) = (user.to_owned(), room.to_owned());
        let (reader, reader_room) = (user.clone(), room.clone());
        let write = job(
            move |view| {
                let mut tags = tags(view, &reader, &reader_room)?;
                change(&mut tags);
                serde_json::to_string(&TagEventContent::new(tags)).map_err(|e| Error::bad_json(e.to_string()))
            },
            move |content: String, txn| put(txn, &user, Some(&room), TAG, &content).map(drop),
        );
        self.core.write(write).await?;
        Ok(())
    }
}

/// Account data that changed, as /sync shows it.
#[derive(Debug, Default)]
pub struct Changes {
    /// Global account data.
    pub global: Vec<Raw<AnyGlobalAccountDataEvent>>,
    /// Account data of rooms.
    pub rooms: BTreeMap<OwnedRoomId, Vec<Raw<AnyRoomAccountDataEvent>>>,
}

/// What changed after a position, in the order of the changes; from position 0 all there is, and the default push rules
/// of a user who never changed them.
///
/// # Errors
/// Storage errors.
pub fn since(view: View<'_>, user: &UserId, since: Position) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    if since == Position(0) {
        for row in view.scan(tables::ACCOUNT_DATA, (user,))? {
            let ((_, room, kind), data) = row?;
            changes.push(&room, &kind, &data.content)?;
        }
        if !view.contains(tables::ACCOUNT_DATA, (user, "", PUSH_RULES))? {
            changes.push("", PUSH_RULES, &push_rules::content(&push_rules::ruleset(view, user)?))?;
        }
        return Ok(changes);
    }
    let (from, to) = (Bound::Excluded((user, since.0)), Bound::Included((user, u64::MAX)));
    for entry in view.range(tables::ACCOUNT_DATA_LOG, from, to)? {
        let (_, key) = entry?;
        let data = view.get(tables::ACCOUNT_DATA, (user, &key.room_id, &key.kind))?;
        let data = data.ok_or_else(|| corrupt(format!("the log names {}, which is not there", key.kind)))?;
        changes.push(&key.room_id, &key.kind, &data.content)?;
    }
    Ok(changes)
}

impl Changes {
    fn push(&mut self, room: &str, kind: &str, content: &str) -> Result<(), Error> {
        let content: &RawValue = serde_json::from_str(content).map_err(|e| corrupt(e.to_string()))?;
        let event = serde_json::value::to_raw_value(&Event { content, kind }).map_err(|e| corrupt(e.to_string()))?;
        if room.is_empty() {
            self.global.push(Raw::from_json(event));
        } else {
            let room = RoomId::parse(room).map_err(|e| corrupt(e.to_string()))?;
            self.rooms.entry(room).or_default().push(Raw::from_json(event));
        }
        Ok(())
    }
}

/// The row of one type.
///
/// # Errors
/// Storage errors.
pub fn row(
    view: View<'_>,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
) -> Result<Option<rows::AccountData>, millpond_store::Error> {
    view.get(tables::ACCOUNT_DATA, (user, room.map_or("", RoomId::as_str), kind))
}

/// Writes account data inside a job of the caller's; keeps only the newest log entry of each key.
///
/// # Errors
/// Storage errors.
pub fn put(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
    content: &str,
) -> Result<Position, millpond_store::Error> {
    if let Some(old) = row(txn.view(), user, room, kind)? {
        txn.remove(tables::ACCOUNT_DATA_LOG, (user, old.position))?;
    }
    let position = txn.next_position();
    let room = room.map_or("", RoomId::as_str);
    let data = rows::AccountData { position: position.0, content: content.to_owned() };
    txn.put(tables::ACCOUNT_DATA, (user, room, kind), &data)?;
    let key = rows::AccountDataKey { room_id: room.to_owned(), kind: kind.to_owned() };
    txn.put(tables::ACCOUNT_DATA_LOG, (user, position.0), &key)?;
    txn.touch(Topic::User(OwnedUserId::from(user)));
    if matches!(kind, DIRECT | TAG) {
        txn.touch(Topic::UserRooms(OwnedUserId::from(user)));
    }
    Ok(position)
}

fn tags(view: View<'_>, user: &UserId, room: &RoomId) -> Result<Tags, Error> {
    let Some(row) = row(view, user, Some(room), TAG)? else { return Ok(Tags::new()) };
    let content: TagEventContent = serde_json::from_str(&row.content).map_err(|e| corrupt(e.to_string()))?;
    Ok(content.tags)
}

fn check(kind: &str, content: &RawValue) -> Result<(), Error> {
    if SERVER_KEPT.contains(&kind) {
        let message = format!("{kind} is kept by the server: change it through its own endpoint");
        return Err(Error::matrix(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, message));
    }
    if !content.get().trim_start().starts_with('{') {
        return Err(Error::bad_json("account data must be a JSON object"));
    }
    if kind == TAG {
        serde_json::from_str::<TagEventContent>(content.get())
            .map_err(|e| Error::bad_json(format!("{TAG} must have an object \"tags\" of tag objects: {e}")))?;
    }
    Ok(())
}

fn corrupt(why: String) -> Error {
    Error::Store(millpond_store::Error::Corrupt { table: tables::ACCOUNT_DATA.name(), why })
}

#[derive(serde::Serialize)]
struct Event<'a> {
    content: &'a RawValue,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// The type of push rules.
pub(crate) const PUSH_RULES: &str = "m.push_rules";
/// The type of the read marker.
pub(crate) const FULLY_READ: &str = "m.fully_read";
const TAG: &str = "m.tag";
const DIRECT: &str = "m.direct";
/// Types with an endpoint of their own.
const SERVER_KEPT: [&str; 2] = [PUSH_RULES, FULLY_READ];
/// Bytes in a tag (spec, "Room tagging").
const TAG_MAX: usize = 255;

#[cfg(test)]
mod tests;
