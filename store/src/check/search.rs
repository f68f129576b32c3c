//! The search index: its blocks are in order, and every event in them is in its room's timeline with its content.

use std::collections::HashMap;

use super::Report;
use crate::{
    Error, View,
    rows::{EventShort, RoomShort},
    tables,
};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    // Every event is in many lists: what was found about it is kept.
    let mut known: HashMap<EventShort, Option<RoomShort>> = HashMap::new();
    for row in view.scan(tables::SEARCH_WORDS, ())? {
        let ((_, room, first), postings) = row?;
        let events: Vec<_> = postings.0.iter().map(|posting| posting.event).collect();
        let ordered = events.first().is_some_and(|event| *event >= first) && events.is_sorted();
        report.expect(ordered, || format!("a block of the search index of room {} is empty or out of order", room.0));
        for event in events {
            let searchable = match known.get(&event) {
                Some(found) => *found,
                None => {
                    let row = view.get(tables::EVENTS, event)?;
                    let row = row.filter(|row| {
                        let meta = &row.meta;
                        meta.position.is_some() && meta.redacted_by.is_none() && !meta.purged
                    });
                    let found = row.map(|row| row.meta.room);
                    known.insert(event, found);
                    found
                }
            };
            report.expect(searchable == Some(room), || {
                format!("the search index of room {} names event {}, which is not shown there", room.0, event.0)
            });
        }
    }
    Ok(())
}
