//! Forward extremities: the accepted events that no accepted event follows.

use std::collections::{BTreeSet, HashSet};

use ruma::OwnedEventId;

use crate::{CheckedPdu, ReadError, RoomReader, check::Origin};

/// The forward extremities once `pdu` is appended, sorted.
pub(super) fn next_extremities(pdu: &CheckedPdu, reader: &impl RoomReader) -> Result<Vec<OwnedEventId>, ReadError> {
    let mut extremities: BTreeSet<OwnedEventId> = reader.extremities()?.into_iter().collect();
    let mut todo = pdu.prev_events().to_vec();
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        if extremities.remove(&id) || !seen.insert(id.clone()) {
            continue;
        }
        if seen.len() > MAX_WALK {
            // A stale extremity is joined by the next event of ours; a walk without end would hold the writer.
            break;
        }
        // A soft-failed or rejected event took no extremity's place; the event that follows it takes the places of what
        // lies before it.
        if let Some(prev) = reader.pdu(&id)?.filter(|prev| prev.flags().rejected || prev.flags().soft_failed) {
            todo.extend(prev.prev_events().iter().cloned());
        }
    }
    // An event that was just built cannot have successors; one that came late, after a gap was bridged by a peer's word
    // on the state, can.
    if pdu.origin() == Origin::Local || !reader.has_successors(pdu.event_id())? {
        extremities.insert(pdu.owned_event_id());
    }
    Ok(extremities.into_iter().collect())
}

/// Most soft-failed or rejected events behind one event that are walked over, against a peer that makes chains of them.
const MAX_WALK: usize = 500;
