//! Bundled aggregations: `m.relations` of an event, from its relation rows (client-server spec, "Aggregations of child
//! events").

use std::cmp::Ordering;

use millpond_store::{
    Error,
    rows::{EventRow, EventShort, Relation},
    tables,
};
use ruma::OwnedEventId;

use super::reader::{Form, RoomReader, sender};
use crate::{
    json::{comma, key, plain_member, raw, text_member, unquote},
    rooms::rows,
};

/// The raw `m.relations` object of an event, if anything is bundled with it.
pub(super) fn of(reader: &RoomReader<'_>, row: &EventRow) -> Result<Option<String>, Error> {
    bundle(reader, row, Threads::Shown)
}

/// Whether threads are bundled: not with the latest reply of another one, else a chain of them would go on without end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    Shown,
    Hidden,
}

fn bundle(reader: &RoomReader<'_>, row: &EventRow, threads: Threads) -> Result<Option<String>, Error> {
    // Most events have no relations: one look and no allocation.
    if row.meta.redacted_by.is_some() || !reader.view.any(tables::RELATIONS, (&*row.header.event_id,))? {
        return Ok(None);
    }
    let mut found = Found::default();
    for relation in reader.view.scan(tables::RELATIONS, (&*row.header.event_id,))?.rev().take(RELATIONS_MAX) {
        found.add(reader, row, relation?.1)?;
    }
    let mut out = vec![b'{'];
    if let Some(edit) = found.edit {
        key(&mut out, "m.replace");
        reader.write_with(&mut out, &edit, Form::Full, None)?;
    }
    if !found.references.is_empty() {
        key(&mut out, "m.reference");
        raw(&mut out, "{\"chunk\":[");
        for event_id in found.references.iter().rev() {
            comma(&mut out);
            out.push(b'{');
            text_member(&mut out, "event_id", event_id.as_str());
            out.push(b'}');
        }
        raw(&mut out, "]}");
    }
    if let Some(thread) = found.thread.filter(|_| threads == Threads::Shown) {
        write_thread(&mut out, reader, row, thread)?;
    }
    out.push(b'}');
    let text = String::from_utf8(out).map_err(|_| Error::Corrupt { table: "EVENTS", why: "not UTF-8".to_owned() })?;
    Ok(Some(text).filter(|text| text != "{}"))
}

#[derive(Default)]
struct Found {
    edit: Option<EventRow>,
    /// Newest first.
    references: Vec<OwnedEventId>,
    thread: Option<Thread>,
}

struct Thread {
    latest: EventRow,
    count: u64,
    participated: bool,
}

impl Found {
    fn add(&mut self, reader: &RoomReader<'_>, target: &EventRow, relation: Relation) -> Result<(), Error> {
        match relation.rel_type.as_str() {
            "m.replace" if is_edit(target, &relation) => {
                let row = related(reader, target, relation.event)?;
                self.edit = self.edit.take().into_iter().chain(row).max_by(by_age);
            }
            "m.reference" => {
                let row = related(reader, target, relation.event)?;
                self.references.extend(row.map(|row| row.header.event_id));
            }
            "m.thread" => {
                let Some(latest) = related(reader, target, relation.event)? else { return Ok(()) };
                let own = relation.sender == reader.who.user;
                match &mut self.thread {
                    Some(thread) => {
                        thread.count += 1;
                        thread.participated |= own;
                    }
                    None => self.thread = Some(Thread { latest, count: 1, participated: own }),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A relating event that is in the same room and shown to the reader.
fn related(reader: &RoomReader<'_>, target: &EventRow, event: EventShort) -> Result<Option<EventRow>, Error> {
    let row = rows::event(reader.view, event)?;
    let shown = row.meta.room == target.meta.room && reader.shows(&row)?;
    Ok(shown.then_some(row))
}

/// Whether a replacement is one: of a message, by its own sender, of its own type.
fn is_edit(target: &EventRow, relation: &Relation) -> bool {
    target.header.state_key.is_none()
        && relation.sender == *sender(target)
        && relation.kind == unquote(target.header.kind.of(&target.json))
        && !target.header.content.of(&target.json).contains("\"rel_type\":\"m.replace\"")
}

/// By timestamp; of equal ones the greater id is the newer.
fn by_age(one: &EventRow, other: &EventRow) -> Ordering {
    let key = |row: &EventRow| row.header.origin_server_ts;
    key(one).cmp(&key(other)).then_with(|| one.header.event_id.cmp(&other.header.event_id))
}

fn write_thread(out: &mut Vec<u8>, reader: &RoomReader<'_>, root: &EventRow, thread: Thread) -> Result<(), Error> {
    key(out, "m.thread");
    out.push(b'{');
    key(out, "latest_event");
    let edits = bundle(reader, &thread.latest, Threads::Hidden)?;
    reader.write_with(out, &thread.latest, Form::Full, edits.as_deref())?;
    plain_member(out, "count", thread.count);
    let participated = thread.participated || *reader.who.user == *sender(root);
    plain_member(out, "current_user_participated", participated);
    out.push(b'}');
    Ok(())
}

/// Relations of one event that are looked at, the newest: an event must not be able to make every reader slow.
const RELATIONS_MAX: usize = 5_000;
