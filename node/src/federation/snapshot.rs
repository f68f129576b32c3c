//! What an invite says of its room: the whole state before it with its auth chain, and the key documents to check them
//! with, so that the invited user can enter while everybody else sleeps (overlay.md section 5, "What unmodified clients
//! force on us", 2).

use std::collections::BTreeSet;

use millpond_store::{
    View,
    rows::{EventRow, EventShort, Room, RoomShort},
};
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::room_state::{auth_chain, events, jsons, state_before};
use crate::{Error, identity::Identity, peers, rooms::rows};

/// Events that travel with an invite; a larger room is entered through a resident server.
pub(crate) const MAX_EVENTS: usize = 2_000;
/// And their bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Key documents that travel with an invite.
const MAX_DOCUMENTS: usize = 500;

/// The field of an invite that holds it.
pub(crate) const FIELD: &str = "org.millpond.snapshot";

/// A room as the inviter describes it, unchecked.
#[derive(Debug, Deserialize, Serialize)]
pub struct Snapshot {
    /// The state before the invite.
    pub state: Vec<Box<RawValue>>,
    /// The auth chain of that state and of the invite.
    pub auth_chain: Vec<Box<RawValue>>,
    /// Key documents of the servers whose events these are. Each proves itself.
    pub key_documents: Vec<Box<RawValue>>,
}

impl Snapshot {
    /// The snapshot in the body of an invite, if there is one that is not too large.
    pub fn of_invite(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(rename = "org.millpond.snapshot")]
            snapshot: Snapshot,
        }
        let Body { snapshot } = serde_json::from_slice(body).ok()?;
        let events = snapshot.state.len() + snapshot.auth_chain.len();
        let bytes: usize = snapshot.state.iter().chain(&snapshot.auth_chain).map(|event| event.get().len()).sum();
        (events <= MAX_EVENTS && bytes <= MAX_BYTES && snapshot.key_documents.len() <= MAX_DOCUMENTS)
            .then_some(snapshot)
    }
}

/// The room of an invite as it was before it; none where that is too large.
///
/// # Errors
/// Storage errors.
pub(crate) fn of(
    view: View<'_>,
    identity: &Identity,
    room: &(RoomShort, Room),
    (event, row): (EventShort, &EventRow),
) -> Result<Option<Snapshot>, Error> {
    let short_state = state_before(view, &room.1, event, row)?;
    if short_state.len() > MAX_EVENTS {
        return Ok(None);
    }
    let state = events(view, &short_state)?;
    let mut chain = auth_chain(view, room, state.values().cloned().chain([row.clone()]))?;
    chain.retain(|id, _| !state.contains_key(id));
    let bytes: usize = state.values().chain(chain.values()).map(|row| row.json.len()).sum();
    if state.len() + chain.len() > MAX_EVENTS || bytes > MAX_BYTES {
        return Ok(None);
    }
    let mut servers = BTreeSet::new();
    for row in state.values().chain(chain.values()).chain([row]) {
        servers.insert(rows::pdu(&room.1.room_id, row.clone())?.sender().server_name().to_owned());
    }
    let key_documents = documents(view, identity, servers)?;
    Ok(Some(Snapshot { state: jsons(state)?, auth_chain: jsons(chain)?, key_documents }))
}

fn documents(
    view: View<'_>,
    identity: &Identity,
    servers: BTreeSet<OwnedServerName>,
) -> Result<Vec<Box<RawValue>>, Error> {
    let broken = |e: serde_json::Error| Error::internal(format!("a key document is not JSON: {e}"));
    let mut documents = Vec::new();
    for server in servers.into_iter().take(MAX_DOCUMENTS) {
        let document = match identity.is_ours(&server) {
            true => Some(identity.key_document().clone()),
            false => peers::held(view, &server)?,
        };
        if let Some(document) = document {
            documents.push(serde_json::from_slice(document.as_bytes()).map_err(broken)?);
        }
    }
    Ok(documents)
}

/// The server that a key document says it is of.
pub(crate) fn named(document: &RawValue) -> Option<OwnedServerName> {
    #[derive(Deserialize)]
    struct Head {
        server_name: OwnedServerName,
    }
    serde_json::from_str::<Head>(document.get()).ok().map(|head| head.server_name)
}
