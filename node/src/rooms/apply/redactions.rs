//! Redactions: the redacted event's row is rewritten without what the redaction removes, so that it is gone from the disk.
//! A redaction may come before its target; it then waits in a row of its own.

use millpond_matrix::{Pdu, power::Powers, redact, rules::rules};
use millpond_store::{
    Error, WriteTxn,
    rows::{EventRow, EventShort, Room, RoomShort},
    tables,
};
use ruma::events::TimelineEventType;

use super::relations;
use crate::rooms::{current, rows};

pub(super) fn write(
    txn: &mut WriteTxn<'_>,
    room: (RoomShort, &Room),
    pdu: &Pdu,
    event: EventShort,
) -> Result<(), Error> {
    if *pdu.kind() == TimelineEventType::RoomRedaction {
        return write_redaction(txn, room, pdu, event);
    }
    let Some(redaction) = txn.view().get(tables::EARLY_REDACTIONS, (room.0, pdu.event_id()))? else { return Ok(()) };
    txn.remove(tables::EARLY_REDACTIONS, (room.0, pdu.event_id()))?;
    let redaction_pdu = rows::pdu(&room.1.room_id, rows::event(txn.view(), redaction)?)?;
    apply(txn, room, &redaction_pdu, redaction, event)
}

fn write_redaction(
    txn: &mut WriteTxn<'_>,
    room: (RoomShort, &Room),
    pdu: &Pdu,
    event: EventShort,
) -> Result<(), Error> {
    let Some(target) = pdu.redacts() else { return Ok(()) };
    match rows::event_in_room(txn.view(), room.0, target)? {
        Some((target, row)) if row.meta.state_after.is_some() => apply(txn, room, pdu, event, target),
        Some(_) => Ok(()),
        None => txn.put(tables::EARLY_REDACTIONS, (room.0, target), &event),
    }
}

/// Redacts `target` if the redaction's sender may.
fn apply(
    txn: &mut WriteTxn<'_>,
    (short, room): (RoomShort, &Room),
    redaction: &Pdu,
    redaction_event: EventShort,
    target: EventShort,
) -> Result<(), Error> {
    let row = rows::event(txn.view(), target)?;
    if row.meta.redacted_by.is_some() {
        return Ok(());
    }
    let words = crate::search::words::of_event(&row);
    let (meta, position) = (row.meta.clone(), row.meta.position);
    let before = rows::pdu(&room.room_id, row)?;
    let Some(powers) = powers(txn, short, room)? else { return Ok(()) };
    if !redact::takes_effect(redaction, &before, &powers) {
        return Ok(());
    }
    let corrupt = |why: String| Error::Corrupt { table: "EVENTS", why };
    let rules = rules(&room.version).map_err(|e| corrupt(e.to_string()))?;
    let after = redact::redact(&before, rules).map_err(|e| corrupt(e.to_string()))?;
    if let Some(position) = position {
        relations::remove(txn, &before, position)?;
    }
    // What was said must not stay behind in the index either.
    crate::search::index::forget(txn, meta.room, target, &words)?;
    let meta = millpond_store::rows::EventMeta { redacted_by: Some(redaction_event), ..meta };
    txn.put(tables::EVENTS, target, &EventRow { meta, header: after.header().clone(), json: after.json().into() })
}

fn powers(txn: &WriteTxn<'_>, short: RoomShort, room: &Room) -> Result<Option<Powers>, Error> {
    let pdu = |kind| -> Result<_, Error> {
        let row = current::entry_row(txn.view(), short, kind, "")?;
        row.map(|row| rows::pdu(&room.room_id, row)).transpose()
    };
    let (Some(create), levels) = (pdu("m.room.create")?, pdu("m.room.power_levels")?) else { return Ok(None) };
    let Ok(rules) = rules(&room.version) else { return Ok(None) };
    Ok(Powers::of(rules, &create, levels.as_deref()).ok())
}
