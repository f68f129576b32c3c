//! Relations (`m.relates_to`): one row per relating event, so that nobody walks the timeline for replies and reactions.

use millpond_matrix::Pdu;
use millpond_store::{
    Error, WriteTxn,
    rows::{EventShort, Relation},
    tables,
};
use ruma::OwnedEventId;
use serde::Deserialize;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
    #[serde(default)]
    key: Option<String>,
}

/// Reads the relation of an event's content, if it has one with a `rel_type`.
fn of(pdu: &Pdu) -> Option<RelatesTo> {
    // Most events relate to nothing: a search of bytes is cheaper than a parse.
    let content = pdu.content().get();
    if pdu.state_key().is_some() || !content.contains("\"m.relates_to\"") {
        return None;
    }
    serde_json::from_str::<Content>(content).ok().map(|content| content.relates_to)
}

pub(super) fn write(txn: &mut WriteTxn<'_>, pdu: &Pdu, event: EventShort, position: i64) -> Result<(), Error> {
    let Some(relates_to) = of(pdu) else { return Ok(()) };
    let row = Relation {
        rel_type: relates_to.rel_type,
        kind: pdu.kind().to_string(),
        event,
        sender: pdu.sender().to_owned(),
        key: relates_to.key,
    };
    txn.put(tables::RELATIONS, (relates_to.event_id, position), &row)
}

/// Takes back the relation of an event that is redacted.
pub(crate) fn remove(txn: &mut WriteTxn<'_>, pdu: &Pdu, position: i64) -> Result<(), Error> {
    if let Some(relates_to) = of(pdu) {
        txn.remove(tables::RELATIONS, (relates_to.event_id, position))?;
    }
    Ok(())
}
