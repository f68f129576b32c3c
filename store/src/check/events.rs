//! Events: interned numbers both ways, no event without its state, every group down to a whole one.

use super::Report;
use crate::{
    Error, View,
    rows::{EventRow, EventShort},
    tables,
};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::EVENT_IDS, ())? {
        let (id, event) = row?;
        let stored = view.get(tables::EVENTS, event)?;
        report.expect(stored.is_some_and(|row| row.header.event_id == id), || {
            format!("{id} is numbered {} and not stored there", event.0)
        });
    }
    for row in view.scan(tables::EVENTS, ())? {
        let (event, row) = row?;
        check_event(view, report, event, &row)?;
    }
    for row in view.scan(tables::STATE_KEYS, ())? {
        let ((kind, state_key), short) = row?;
        let name = view.get(tables::STATE_KEY_NAMES, short)?;
        report.expect(name.is_some_and(|name| name.kind == kind && name.state_key == state_key), || {
            format!("state key {} of {kind} has no way back", short.0)
        });
    }
    for row in view.scan(tables::STATE_GROUPS, ())? {
        let (group, row) = row?;
        let parent = row.parent.map(|parent| view.get(tables::STATE_GROUPS, parent)).transpose()?.flatten();
        let nearer = parent.is_some_and(|parent| parent.depth < row.depth);
        report.expect(if row.parent.is_some() { nearer } else { row.depth == 0 }, || {
            format!("state group {} hangs from a group that is not there or is no nearer to a whole one", group.0)
        });
        for (key, event) in row.changes {
            report.expect(view.contains(tables::STATE_KEY_NAMES, key)?, || {
                format!("state group {} has an unknown key {}", group.0, key.0)
            });
            if let Some(event) = event {
                report.expect(view.contains(tables::EVENTS, event)?, || {
                    format!("state group {} has an unknown event {}", group.0, event.0)
                });
            }
        }
    }
    Ok(())
}

fn check_event(view: View<'_>, report: &mut Report, event: EventShort, row: &EventRow) -> Result<(), Error> {
    let id = &row.header.event_id;
    report.expect(view.get(tables::EVENT_IDS, &**id)? == Some(event), || {
        format!("{id} has another number than {}", event.0)
    });
    report.expect(view.contains(tables::ROOMS, row.meta.room)?, || format!("{id} belongs to an unknown room"));
    if let Some(group) = row.meta.state_after {
        report.expect(view.contains(tables::STATE_GROUPS, group)?, || format!("{id} is without its state"));
    }
    if let Some(position) = row.meta.position {
        let there = view.get(tables::TIMELINE, (row.meta.room, position))?;
        let expected = Some(event).filter(|_| !row.meta.purged);
        report.expect(there == expected, || format!("{id} is not at its place in the timeline"));
        report.expect(row.meta.state_after.is_some(), || format!("{id} is in the timeline without a state"));
    }
    for other in [row.meta.redacted_by, row.meta.replaces].into_iter().flatten() {
        report.expect(view.contains(tables::EVENTS, other)?, || {
            format!("{id} refers to event {}, which is not there", other.0)
        });
    }
    Ok(())
}
