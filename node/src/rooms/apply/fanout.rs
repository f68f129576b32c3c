//! Who is owed an event. One pure function decides, so that fan-out can change in one place; the rows are written in the
//! event's own commit, so that a crash cannot lose them.

use std::collections::BTreeSet;

use millpond_matrix::Pdu;
use millpond_store::{
    Error, Topic, WriteTxn,
    rows::{EventShort, OutboxItem, Room, RoomShort},
    tables,
};
use ruma::{OwnedServerName, UserId, events::TimelineEventType};

use crate::{identity::Identity, peers};

/// To whom we owe an event.
#[derive(Clone, Debug, Default)]
pub(crate) enum Owed {
    /// To nobody: history, or a join that a resident server sends out.
    #[default]
    Nobody,
    /// To every server in the room but these: an event of ours, or one that enters the room through us.
    AllBut(BTreeSet<OwnedServerName>),
    /// An event that another server sends out itself. In an overlay room it goes on to all but these, because not everybody
    /// has a link with its sender; in a classic room every server reaches every other one.
    Onward(BTreeSet<OwnedServerName>),
}

impl Owed {
    /// The servers that get it otherwise; none when nobody gets it from us.
    pub(super) fn except(&self, room: &Room) -> Option<&BTreeSet<OwnedServerName>> {
        match self {
            Self::AllBut(except) => Some(except),
            Self::Onward(except) => room.overlay.then_some(except),
            Self::Nobody => None,
        }
    }
}

/// The destinations of an event, of the servers in the room after it.
fn destinations(
    mut all: BTreeSet<OwnedServerName>,
    pdu: &Pdu,
    identity: &Identity,
    except: &BTreeSet<OwnedServerName>,
) -> BTreeSet<OwnedServerName> {
    // Who has just been removed is in the room no more, and must hear of it.
    if *pdu.kind() == TimelineEventType::RoomMember
        && let Some(Ok(user)) = pdu.state_key().map(<&UserId>::try_from)
        && !pdu.content().get().contains("\"invite\"")
    {
        all.insert(user.server_name().to_owned());
    }
    all.retain(|server| !identity.is_ours(server) && !except.contains(server));
    all
}

/// Owes an event to those who are to get it from us.
pub(super) fn write(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    (short, room): (RoomShort, &Room),
    pdu: &Pdu,
    event: EventShort,
    owed: &Owed,
) -> Result<(), Error> {
    let Some(except) = owed.except(room) else { return Ok(()) };
    let to = destinations(servers(txn, short)?, pdu, identity, except);
    owe(txn, identity, room, event, to)
}

/// The servers in a room.
pub(super) fn servers(txn: &WriteTxn<'_>, room: RoomShort) -> Result<BTreeSet<OwnedServerName>, Error> {
    txn.view().scan(tables::ROOM_SERVERS, (room,))?.map(|row| row.map(|((_, server), _)| server)).collect()
}

/// Owes an event to these servers, as far as there is a way to them.
pub(super) fn owe(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    room: &Room,
    event: EventShort,
    to: BTreeSet<OwnedServerName>,
) -> Result<(), Error> {
    for server in to {
        // To whom this room has no way from us gets it from a member who has one, or catches up when there is one.
        if !peers::route(txn.view(), identity, &server)?.is_some_and(|route| route.carries(room)) {
            continue;
        }
        let position = txn.next_position().0;
        txn.put(tables::OUTBOX, (&*server, position), &OutboxItem::Pdu(event))?;
        txn.touch(Topic::Outbox(server));
    }
    Ok(())
}
