//! Key documents that we hand out. Our own goes to everybody. Over a link, those of others go to who shares a room with their
//! server, because a document proves itself and any member may carry it (overlay.md section 1); to all others we do not tell
//! whom we know. Through the classic door we are a notary for servers of the DNS like any other: what is asked for is fetched
//! if need be, so the answer does not tell whom we know either, and carries our signature beside its server's.

use std::time::Duration;

use millpond_mailbox::time::UnixMillis;
use millpond_matrix::signing::sign_json;
use millpond_store::{View, tables};
use ruma::{CanonicalJsonObject, OwnedServerName, ServerName, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Federation, Origin, is_in};
use crate::{Error, peers};

/// Servers in one question.
const MAX_ASKED: usize = 100;
/// Of these, servers whose document is not here and is fetched for the one who asks.
const MAX_FETCHED: usize = 8;
/// How long our own document may be believed: a day, as long as a changed key may take to be seen everywhere.
const VALID_FOR: Duration = Duration::from_secs(24 * 3600);

impl Federation {
    /// Our own document, as JSON.
    pub fn own_document(&self) -> Vec<u8> {
        let now = UnixMillis(self.core.clock().now_ms());
        self.core.identity().public_document(now.after(VALID_FOR))
    }

    /// Answers `/_matrix/key/v2/query`, as JSON; without an origin it came through the classic door.
    ///
    /// # Errors
    /// 400 for too many servers; storage errors.
    pub async fn documents(&self, origin: Option<&Origin>, servers: &[OwnedServerName]) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }
        if servers.len() > MAX_ASKED {
            return Err(Error::invalid_param(format!("at most {MAX_ASKED} servers in one question")));
        }
        let broken = |e: serde_json::Error| Error::internal(format!("a key document is not JSON: {e}"));
        let mut server_keys = Vec::new();
        let mut fetched = 0;
        for server in servers {
            let document = if self.core.identity().is_ours(server) {
                Some(self.own_document())
            } else {
                match origin {
                    Some(origin) => self.carried(origin, server)?,
                    None => self.notarised(server, &mut fetched).await?,
                }
            };
            if let Some(document) = document {
                server_keys.push(serde_json::from_slice(&document).map_err(broken)?);
            }
        }
        serde_json::to_vec(&Answer { server_keys }).map_err(broken)
    }

    /// The document of a member of a shared room, for a linked peer.
    fn carried(&self, origin: &Origin, server: &ServerName) -> Result<Option<Vec<u8>>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        if *server != *origin.server && !share_a_room(view, &origin.server, server)? {
            return Ok(None);
        }
        Ok(peers::held(view, server)?.map(|document| document.as_bytes().to_vec()))
    }

    /// The document of a server of the DNS, with our signature added.
    async fn notarised(&self, server: &ServerName, fetched: &mut usize) -> Result<Option<Vec<u8>>, Error> {
        let classic = self.parts.peers.classic();
        let now_ms = self.core.clock().now_ms();
        let mut row = classic.held_keys(server)?;
        if row.as_ref().is_none_or(|row| row.valid_until_ms < now_ms)
            && classic.reaches(server)
            && *fetched < MAX_FETCHED
        {
            *fetched += 1;
            row = classic.refreshed_keys(server).await?;
        }
        let Some(row) = row else { return Ok(None) };
        let broken = |what: String| Error::internal(format!("a key document cannot be signed: {what}"));
        let mut document: CanonicalJsonObject =
            serde_json::from_str(&row.document).map_err(|e| broken(e.to_string()))?;
        let identity = self.core.identity();
        sign_json(identity.server_name().as_str(), identity.signing_key(), &mut document)
            .map_err(|e| broken(e.to_string()))?;
        serde_json::to_vec(&document).map(Some).map_err(|e| broken(e.to_string()))
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
