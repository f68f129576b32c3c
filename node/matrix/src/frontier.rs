//! Comparing the frontiers of rooms after an absence: what a peer names and we do not know is what we have missed.

use std::collections::BTreeMap;

use ruma::{EventId, OwnedEventId, OwnedRoomId};

/// The forward extremities of rooms.
pub type Frontiers = BTreeMap<OwnedRoomId, Vec<OwnedEventId>>;

/// Rooms in one exchange.
pub const MAX_ROOMS: usize = 200;
/// Extremities named of one room: as many as an event may have prev events.
pub const MAX_IDS: usize = 20;

/// Of what a peer names, the events that are not here, by room; `here` says which are.
///
/// # Errors
/// What `here` fails with.
pub fn missing<E>(
    theirs: &Frontiers,
    mut here: impl FnMut(&OwnedRoomId, &EventId) -> Result<Here, E>,
) -> Result<Frontiers, E> {
    let mut missing = Frontiers::new();
    for (room, ids) in theirs.iter().take(MAX_ROOMS) {
        for id in ids.iter().take(MAX_IDS) {
            match here(room, id)? {
                Here::NoSuchRoom => break,
                Here::Yes => {}
                Here::No => missing.entry(room.clone()).or_default().push(id.clone()),
            }
        }
    }
    Ok(missing)
}

/// Whether an event is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// With its place in the DAG.
    Yes,
    /// It is missing.
    No,
    /// We are not in that room with the peer.
    NoSuchRoom,
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_room_id};

    use super::*;

    #[test]
    fn what_is_not_here_is_missing_and_rooms_of_others_are_passed_over() {
        let (room, other) = (owned_room_id!("!room:x"), owned_room_id!("!other:x"));
        let (known, unknown) = (owned_event_id!("$known"), owned_event_id!("$unknown"));
        let theirs = Frontiers::from([
            (room.clone(), vec![known.clone(), unknown.clone()]),
            (other.clone(), vec![unknown.clone()]),
        ]);
        let found = missing(&theirs, |in_room, id| {
            Ok::<_, ()>(match (*in_room == room, id == known) {
                (false, _) => Here::NoSuchRoom,
                (true, true) => Here::Yes,
                (true, false) => Here::No,
            })
        });
        assert_eq!(found, Ok(Frontiers::from([(room, vec![unknown])])));
    }

    #[test]
    fn a_peer_cannot_name_more_than_the_bounds() {
        let room = owned_room_id!("!room:x");
        let ids = (0..1000).map(|n| OwnedEventId::try_from(format!("${n}")).unwrap()).collect();
        let found = missing(&Frontiers::from([(room.clone(), ids)]), |_, _| Ok::<_, ()>(Here::No)).unwrap();
        assert_eq!(found[&room].len(), MAX_IDS);
    }
}
