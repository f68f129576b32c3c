//! The room directory: aliases made here, and the rooms that are listed publicly (client-server spec, "Room aliases",
//! "Listing rooms").

mod listing;

use http::StatusCode;
use millpond_matrix::{power::Powers, rules::rules};
use millpond_store::{
    View, job,
    rows::{Alias, Room, RoomShort},
    tables,
};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId, api::error::ErrorKind, events::TimelineEventType,
};

pub use self::listing::{Listing, ListingRequest};
pub(crate) use self::listing::{field, is_world_readable};
use crate::{
    Core, Error,
    rooms::{current, known_room, rows},
};

/// The directory of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Directory {
    core: Core,
}

impl Directory {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Makes an alias for a room that the user is in. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for an alias that is not ours, 403 for who is not in the room, 409 for a taken one, storage
    /// errors.
    pub async fn create_alias(&self, user: &UserId, alias: &RoomAliasId, room_id: &RoomId) -> Result<(), Error> {
        let ours = self.core.identity().server_name();
        if alias.server_name() != ours {
            return Err(Error::invalid_param(format!("aliases made here end with :{ours}")));
        }
        let (alias, row) = (alias.to_owned(), Alias { room_id: room_id.to_owned(), creator: user.to_owned() });
        let (taken, wanted) = (alias.clone(), row.clone());
        let create = job(
            move |view| {
                let (room, _) = known_room(view, &wanted.room_id)?;
                if !current::is_joined(view, room, &wanted.creator)? {
                    return Err(Error::forbidden(format!("you are not in room {}", wanted.room_id)));
                }
                if view.contains(tables::ALIASES, &*taken)? {
                    let message = format!("the alias {taken} is taken");
                    return Err(Error::matrix(StatusCode::CONFLICT, ErrorKind::Unknown, message));
                }
                Ok(())
            },
            move |(), txn| {
                txn.put(tables::ALIASES, &*alias, &row)?;
                txn.put(tables::ROOM_ALIASES, (&*row.room_id, &*alias), &())
            },
        );
        self.core.write(create).await?;
        Ok(())
    }

    /// Takes an alias back: its maker may, and who may change the room's canonical alias. Dropping the future does not undo
    /// it.
    ///
    /// # Errors
    /// 404 if there is no such alias here, 403 for others, storage errors.
    pub async fn delete_alias(&self, user: &UserId, alias: &RoomAliasId) -> Result<(), Error> {
        let (user, alias) = (user.to_owned(), alias.to_owned());
        let gone = alias.clone();
        let delete = job(
            move |view| {
                let row = view.get(tables::ALIASES, &*alias)?.ok_or_else(|| no_alias(&alias))?;
                if row.creator != user && !may_list(view, &row.room_id, &user)? {
                    return Err(Error::forbidden("only its maker and the room's moderators may delete an alias"));
                }
                Ok(row.room_id)
            },
            move |room_id: OwnedRoomId, txn| {
                txn.remove(tables::ROOM_ALIASES, (&*room_id, &*gone))?;
                txn.remove(tables::ALIASES, &*gone).map(drop)
            },
        );
        self.core.write(delete).await?;
        Ok(())
    }

    /// The aliases of a room that were made here.
    ///
    /// # Errors
    /// 403 for who may not look into the room, storage errors.
    pub fn aliases(&self, user: &UserId, room_id: &RoomId) -> Result<Vec<OwnedRoomAliasId>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (room, _) = known_room(view, room_id)?;
        if !current::is_joined(view, room, user)? && !listing::is_world_readable(view, room)? {
            return Err(Error::forbidden(format!("you are not in room {room_id}")));
        }
        let aliases = view.scan(tables::ROOM_ALIASES, (room_id,))?;
        Ok(aliases.map(|row| row.map(|((_, alias), ())| alias)).collect::<Result<_, _>>()?)
    }

    /// Whether a room is listed publicly.
    ///
    /// # Errors
    /// 404 for rooms that are not here, storage errors.
    pub fn is_published(&self, room_id: &RoomId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        if rows::room_short(snapshot.view(), room_id)?.is_none() {
            return Err(Error::not_found(format!("room {room_id} is not known here")));
        }
        Ok(snapshot.view().contains(tables::PUBLISHED, room_id)?)
    }

    /// Lists a room publicly, or no more. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 for rooms that are not here, 403 for who may not change the room's canonical alias, storage errors.
    pub async fn publish(&self, user: &UserId, room_id: &RoomId, published: bool) -> Result<(), Error> {
        self.is_published(room_id)?;
        let (user, room_id) = (user.to_owned(), room_id.to_owned());
        let listed = room_id.clone();
        let publish = job(
            move |view| match may_list(view, &room_id, &user)? {
                true => Ok(()),
                false => Err(Error::forbidden("only the room's moderators may change where it is listed")),
            },
            move |(), txn| match published {
                true => txn.put(tables::PUBLISHED, &*listed, &()),
                false => txn.remove(tables::PUBLISHED, &*listed).map(drop),
            },
        );
        self.core.write(publish).await?;
        Ok(())
    }
}

/// Whether a user has a say in how the room is found: he is in it and may set its canonical alias.
fn may_list(view: View<'_>, room_id: &RoomId, user: &UserId) -> Result<bool, Error> {
    let Some((short, room)) = rows::room(view, room_id)? else { return Ok(false) };
    if !current::is_joined(view, short, user)? {
        return Ok(false);
    }
    let powers = powers(view, short, &room)?;
    Ok(powers.is_some_and(|powers| powers.may_send(user, &TimelineEventType::RoomCanonicalAlias, true)))
}

fn powers(view: View<'_>, short: RoomShort, room: &Room) -> Result<Option<Powers>, Error> {
    let pdu = |kind| -> Result<_, Error> {
        let row = current::entry_row(view, short, kind, "")?;
        Ok(row.map(|row| rows::pdu(&room.room_id, row)).transpose()?)
    };
    let (Some(create), levels) = (pdu("m.room.create")?, pdu("m.room.power_levels")?) else { return Ok(None) };
    let Ok(rules) = rules(&room.version) else { return Ok(None) };
    Ok(Powers::of(rules, &create, levels.as_deref()).ok())
}

fn no_alias(alias: &RoomAliasId) -> Error {
    Error::not_found(format!("there is no room of the alias {alias}"))
}
