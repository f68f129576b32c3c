//! Key documents that we hand out: our own to everybody; those of others to who shares a room with their server, because
//! a document proves itself and any member may carry it (overlay.md section 1). To all others we do not tell whom we know.

use millpond_store::{View, tables};
use ruma::{OwnedServerName, ServerName, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Federation, Origin, is_in};
use crate::{Error, peers};

/// Servers in one question.
const MAX_ASKED: usize = 100;

impl Federation {
    /// Our own document, as JSON.
    pub fn own_document(&self) -> Vec<u8> {
        self.core.identity().key_document().as_bytes().to_vec()
    }

    /// Answers `/_matrix/key/v2/query` with what we hold, as JSON.
    ///
    /// # Errors
    /// 400 for too many servers; storage errors.
    pub fn documents(&self, origin: &Origin, servers: &[OwnedServerName]) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }
        if servers.len() > MAX_ASKED {
            return Err(Error::invalid_param(format!("at most {MAX_ASKED} servers in one question")));
        }
        let broken = |e: serde_json::Error| Error::internal(format!("a key document is not JSON: {e}"));
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut server_keys = Vec::new();
        for server in servers {
            let document = if self.core.identity().is_ours(server) {
                Some(self.core.identity().key_document().clone())
            } else if *server == origin.server || share_a_room(view, &origin.server, server)? {
                peers::held(view, server)?
            } else {
                None
            };
            if let Some(document) = document {
                server_keys.push(serde_json::from_slice(document.as_bytes()).map_err(broken)?);
            }
        }
        serde_json::to_vec(&Answer { server_keys }).map_err(broken)
    }
}

/// Whether `asker` is in a room in which the other server is or was.
fn share_a_room(view: View<'_>, asker: &ServerName, other: &ServerName) -> Result<bool, Error> {
    for row in view.scan(tables::ROOMS, ())? {
        let (room, _) = row?;
        if !is_in(view, room, asker)? {
            continue;
        }
        if is_in(view, room, other)? {
            return Ok(true);
        }
        for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))? {
            let ((_, _, state_key), _) = row?;
            if <&UserId>::try_from(state_key.as_str()).is_ok_and(|user| user.server_name() == other) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
