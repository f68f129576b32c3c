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

/// The destinations of an event, of the servers in the room after it.
fn destinations(
    servers: impl Iterator<Item = OwnedServerName>,
    pdu: &Pdu,
    identity: &Identity,
    except: &BTreeSet<OwnedServerName>,
) -> BTreeSet<OwnedServerName> {
    let mut all: BTreeSet<_> = servers.collect();
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

pub(super) fn write(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    (short, room): (RoomShort, &Room),
    pdu: &Pdu,
    event: EventShort,
    owed: &Owed,
) -> Result<(), Error> {
    let except = match owed {
        Owed::AllBut(except) => except,
        Owed::Onward(except) if room.overlay => except,
        Owed::Onward(_) | Owed::Nobody => return Ok(()),
    };
    let mut servers = Vec::new();
    for row in txn.view().scan(tables::ROOM_SERVERS, (short,))? {
        servers.push(row?.0.1);
    }
    for server in destinations(servers.into_iter(), pdu, identity, except) {
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
