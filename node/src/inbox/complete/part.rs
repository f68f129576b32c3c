//! The rows of a room that was joined with a part of its state: written with the join, filled in, and gone when it is whole.

use std::collections::BTreeSet;

use millpond_store::{
    Error, Topic, View, WriteTxn,
    rows::{Partial, RoomHead, RoomShort, StagedPdu},
    tables,
};
use ruma::{OwnedEventId, OwnedServerName};

use super::super::{parked, stage};
use crate::rooms::{current, groups, rows};

/// Servers of a room that are taken from an answer to a join.
const MAX_SERVERS: usize = 10_000;

/// What is known beside the state of a room that is entered with a part of it.
pub(crate) struct Entered {
    pub(crate) mark: Partial,
    /// The servers that are in it, by the word of who described it.
    pub(crate) servers: Vec<OwnedServerName>,
}

impl Entered {
    /// What an answer to a join says.
    pub(crate) fn new(mark: Partial, servers: &[String]) -> Self {
        let named = servers.iter().take(MAX_SERVERS).filter_map(|server| OwnedServerName::try_from(&**server).ok());
        let all: BTreeSet<_> = named.chain([mark.from.clone()]).filter(|server| *server != mark.us).collect();
        Self { mark, servers: all.into_iter().collect() }
    }

    /// Written before the join, which is judged by a state without members.
    pub(in crate::inbox) fn write(&self, txn: &mut WriteTxn<'_>, room: RoomShort) -> Result<(), Error> {
        txn.put(tables::PARTIAL, room, &self.mark)?;
        for server in &self.servers {
            if !txn.view().contains(tables::ROOM_SERVERS, (room, &**server))? {
                txn.put(tables::ROOM_SERVERS, (room, &**server), &0)?;
            }
        }
        Ok(())
    }

    /// Takes it back when the join is not let in.
    pub(in crate::inbox) fn undo(txn: &mut WriteTxn<'_>, room: RoomShort) -> Result<(), Error> {
        txn.remove(tables::PARTIAL, room)?;
        forget_named_servers(txn, room)
    }
}

/// Whether we are in the room by that join.
pub(super) fn is_still(view: View<'_>, room: RoomShort, mark: &Partial) -> Result<bool, Error> {
    let same = view.get(tables::PARTIAL, room)?.is_some_and(|now| now.join == mark.join);
    Ok(same && view.get(tables::ROOM_SERVERS, (room, &*mark.us))?.is_some_and(|members| members > 0))
}

pub(super) fn fill_slice(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    members: &[(String, OwnedEventId)],
) -> Result<(), Error> {
    let Some(head) = txn.view().get(tables::ROOM_HEADS, room)? else { return Ok(()) };
    let mut changes = Vec::new();
    for (user, id) in members {
        if current::entry(txn.view(), room, MEMBER, user)?.is_some() {
            continue;
        }
        let Some(event) = rows::event_short(txn.view(), id)? else { continue };
        current::change(txn, room, MEMBER, user, Some(event))?;
        changes.push((rows::intern_state_key(txn, MEMBER, user)?, Some(event)));
    }
    let group = groups::derive(txn, Some(head.group), changes)?;
    txn.put(tables::ROOM_HEADS, room, &RoomHead { group, bump: head.bump })?;
    txn.touch(Topic::Room(room));
    Ok(())
}

/// The room is whole: who waits for it hears of it, and what waited for events that came with it is judged again.
pub(super) fn finish(txn: &mut WriteTxn<'_>, room: RoomShort) -> Result<(), Error> {
    txn.remove(tables::PARTIAL, room)?;
    let position = txn.next_position().0;
    txn.put(tables::WHOLE, room, &position)?;
    forget_named_servers(txn, room)?;
    let room_id = rows::room_id(txn.view(), room)?;
    let waiting: Vec<_> = txn.view().scan(tables::PARKED, (&*room_id,))?.collect::<Result<_, _>>()?;
    for ((_, id), _) in waiting {
        if let Some(row) = parked::unpark(txn, &room_id, &id)? {
            stage(txn, &row.origin.clone(), &[StagedPdu { origin: row.origin, via: Vec::new(), json: row.json }])?;
        }
    }
    txn.touch(Topic::Room(room));
    Ok(())
}

/// Forgets the servers that were named and have no member.
pub(super) fn forget_named_servers(txn: &mut WriteTxn<'_>, room: RoomShort) -> Result<(), Error> {
    let named: Vec<_> = txn.view().scan(tables::ROOM_SERVERS, (room,))?.collect::<Result<_, _>>()?;
    for ((_, server), members) in named {
        if members == 0 {
            txn.remove(tables::ROOM_SERVERS, (room, &*server))?;
        }
    }
    Ok(())
}

const MEMBER: &str = "m.room.member";
