//! Rooms: timeline, extremities, the current state against its group, and what is counted from it.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId, events::room::member::MembershipState};

use super::Report;
use crate::{
    Error, View,
    rows::{EventShort, Room, RoomCounts, RoomShort, StateGroup},
    tables,
};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::ROOM_IDS, ())? {
        let (id, room) = row?;
        report.expect(view.get(tables::ROOMS, room)?.is_some_and(|row| row.room_id == id), || {
            format!("room {} is numbered and not stored", room.0)
        });
    }
    for row in view.scan(tables::ROOMS, ())? {
        let (room, row) = row?;
        check_room(view, report, room, &row)?;
    }
    for row in view.scan(tables::TIMELINE, ())? {
        let ((room, position), event) = row?;
        let stored = view.get(tables::EVENTS, event)?;
        let fits = stored.is_some_and(|row| row.meta.room == room && row.meta.position == Some(position));
        report.expect(fits, || {
            format!("the timeline of room {} names event {} at {position}, which is not of that place", room.0, event.0)
        });
    }
    for row in view.scan(tables::RELATIONS, ())? {
        let ((target, position), relation) = row?;
        let stored = view.get(tables::EVENTS, relation.event)?;
        report.expect(stored.is_some_and(|row| row.meta.position == Some(position) && !row.meta.purged), || {
            format!("a relation to {target} is of an event that is not there")
        });
    }
    for row in view.scan(tables::PASSED_ON, ())? {
        let ((room, server), _) = row?;
        report.expect(view.contains(tables::ROOMS, room)?, || {
            format!("events of {server} are counted in room {}, which is not there", room.0)
        });
    }
    check_log(view, report)?;
    check_parked(view, report)
}

fn check_room(view: View<'_>, report: &mut Report, room: RoomShort, row: &Room) -> Result<(), Error> {
    report.expect(view.get(tables::ROOM_IDS, &*row.room_id)? == Some(room), || {
        format!("room {} has another number", room.0)
    });
    let mut extremities = 0;
    for row in view.scan(tables::EXTREMITIES, (room,))? {
        let ((_, event), ()) = row?;
        extremities += 1;
        let stored = view.get(tables::EVENTS, event)?;
        let fits = stored.is_some_and(|row| row.meta.room == room && row.meta.state_after.is_some());
        report.expect(fits, || format!("an extremity of room {} points to nothing", room.0));
    }
    let head = view.get(tables::ROOM_HEADS, room)?.map(|head| head.group);
    report.expect(head.is_some() == (extremities > 0), || {
        format!("room {} has a current state or extremities, but not both", room.0)
    });
    let Some(head) = head else { return Ok(()) };
    check_state(view, report, room, head)?;
    check_counts(view, report, room)
}

/// The rows of the current state are those of its group.
fn check_state(view: View<'_>, report: &mut Report, room: RoomShort, head: StateGroup) -> Result<(), Error> {
    let mut expected = group_state(view, head)?;
    for row in view.scan(tables::ROOM_STATE, (room,))? {
        let ((_, kind, state_key), event) = row?;
        let in_group = expected.remove(&(kind.clone(), state_key));
        report.expect(in_group == Some(event), || {
            format!("the current {kind} of room {} is not the one of its state group", room.0)
        });
    }
    for ((kind, _), _) in expected {
        report.expect(false, || format!("the current state of room {} lacks a {kind}", room.0));
    }
    Ok(())
}

fn group_state(view: View<'_>, group: StateGroup) -> Result<BTreeMap<(String, String), EventShort>, Error> {
    let mut state = BTreeMap::new();
    let mut decided = std::collections::BTreeSet::new();
    let mut next = Some(group);
    while let Some(group) = next {
        let Some(row) = view.get(tables::STATE_GROUPS, group)? else { break };
        for (key, event) in row.changes {
            if decided.insert(key)
                && let (Some(event), Some(name)) = (event, view.get(tables::STATE_KEY_NAMES, key)?)
            {
                state.insert((name.kind, name.state_key), event);
            }
        }
        next = row.parent;
    }
    Ok(state)
}

fn check_counts(view: View<'_>, report: &mut Report, room: RoomShort) -> Result<(), Error> {
    let mut counts = RoomCounts::default();
    let mut servers: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))? {
        let ((_, _, state_key), event) = row?;
        let Ok(user) = OwnedUserId::try_from(state_key) else { continue };
        let membership = view.get(tables::MEMBERSHIPS, (&*user, room))?;
        report.expect(membership.as_ref().is_some_and(|row| row.event == Some(event)), || {
            format!("the membership of {user} is not that of his member event")
        });
        match membership.map(|row| row.membership) {
            Some(MembershipState::Join) => {
                counts.joined += 1;
                *servers.entry(user.server_name().to_owned()).or_default() += 1;
            }
            Some(MembershipState::Invite) => counts.invited += 1,
            _ => {}
        }
    }
    let stored = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
    report.expect(stored == counts, || format!("room {} counts {stored:?} and has {counts:?}", room.0));
    let mut counted = BTreeMap::new();
    for row in view.scan(tables::ROOM_SERVERS, (room,))? {
        let ((_, server), members) = row?;
        counted.insert(server, members);
    }
    let partial = view.get(tables::PARTIAL, room)?;
    if let Some(partial) = &partial {
        let join =
            view.get(tables::EVENT_IDS, &*partial.join)?.map(|event| view.get(tables::EVENTS, event)).transpose()?;
        report
            .expect(join.flatten().is_some_and(|row| row.meta.room == room && row.meta.state_after.is_some()), || {
                format!("room {} was joined in part by an event that is not there", room.0)
            });
        counted.retain(|server, members| *members > 0 || *server == partial.us);
    }
    report.expect(counted == servers, || format!("room {} counts other servers than its members have", room.0));
    Ok(())
}

fn check_parked(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::PARKED_ON, ())? {
        let ((missing, parked), room_id) = row?;
        let waits = view.get(tables::PARKED, (&*room_id, &*parked))?.is_some_and(|row| row.missing.contains(&missing));
        report.expect(waits, || format!("{parked} is noted to wait for {missing}, and does not"));
    }
    for row in view.scan(tables::PARKED, ())? {
        let ((_, parked), row) = row?;
        for missing in &row.missing {
            report.expect(view.contains(tables::PARKED_ON, (&**missing, &*parked))?, || {
                format!("nobody wakes {parked} when {missing} comes")
            });
        }
    }
    Ok(())
}

/// What the log of the state, and the notes about order and redactions, name is there.
fn check_log(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    let last = view.position()?.0;
    for row in view.scan(tables::ROOM_STATE_LOG, ())? {
        let ((room, position, key), change) = row?;
        report.expect(position <= last, || format!("room {} changed at {position}, after the last commit", room.0));
        report.expect(view.contains(tables::STATE_KEY_NAMES, key)?, || {
            format!("room {} changed at {position} by an unknown key {}", room.0, key.0)
        });
        for event in [change.event, change.replaces].into_iter().flatten() {
            report.expect(view.contains(tables::EVENTS, event)?, || {
                format!("room {} changed at {position} by event {}, which is not there", room.0, event.0)
            });
        }
    }
    for row in view.scan(tables::SUCCESSORS, ())? {
        let ((room, earlier, later), ()) = row?;
        report.expect(view.contains(tables::EVENTS, later)?, || {
            format!("{earlier} is followed in room {} by event {}, which is not there", room.0, later.0)
        });
    }
    for row in view.scan(tables::GAPS, ())? {
        let ((room, position), gap) = row?;
        report.expect(view.contains(tables::TIMELINE, (room, position))?, || {
            format!("room {} has a gap before position {position}, where no event is", room.0)
        });
        for id in gap.missing {
            report.expect(view.contains(tables::BACKWARD, (room, &*id))?, || {
                format!("room {} has a gap before position {position} for {id}, which is not missing", room.0)
            });
        }
    }
    for row in view.scan(tables::EARLY_REDACTIONS, ())? {
        let ((room, target), redaction) = row?;
        report.expect(view.contains(tables::EVENTS, redaction)?, || {
            format!("{target} is to be redacted in room {} by event {}, which is not there", room.0, redaction.0)
        });
    }
    Ok(())
}
