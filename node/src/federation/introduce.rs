//! Introductions that a peer brings: for us, or for another member of the room to whom we carry them (overlay.md section 2).
//! Whoever is not joined to the room is refused, and so is a carrier that is not.

use std::time::Duration;

use millpond_mailbox::{introduction::Introduction, name::NodeName};
use millpond_overlay::Overlay;
use ruma::{OwnedServerName, RoomId, ServerName};
use tokio::time::Instant;

use super::{Door, Federation, Origin, is_in, limits::Act};
use crate::{
    Error,
    peers::{is_linked, node_of, server_of},
};

/// For reaching the one whom it is for.
const CARRY: Duration = Duration::from_secs(30);

impl Federation {
    /// Takes or carries an introduction.
    ///
    /// # Errors
    /// 400 for bytes that are none, 403 unless all who take part are joined to the room, 429 for too many, 504 when the
    /// other cannot be reached.
    pub async fn introduction(&self, origin: &Origin, bytes: &[u8]) -> Result<(), Error> {
        if origin.door == Door::Classic {
            return Err(refused());
        }
        let intro = Introduction::from_bytes(bytes).map_err(|e| Error::invalid_param(e.to_string()))?;
        let room_id = RoomId::parse(intro.room_id()).map_err(|_| refused())?;
        let to = self.server_of(intro.to())?;
        self.check_joined(origin, &room_id, &origin.server)?;
        self.check_joined(origin, &room_id, &to)?;
        let overlay = self.parts.links.overlay().await?;
        if self.core.identity().is_ours(&to) {
            return self.take_introduction(overlay, origin, &room_id, intro).await;
        }
        self.limits.take(&origin.server, Act::Carry)?;
        {
            let snapshot = self.core.snapshot()?;
            if !is_linked(snapshot.view(), &to)? {
                return Err(refused());
            }
        }
        let carried = overlay.carry(intro.to(), &intro, Instant::now() + CARRY).await;
        carried.map_err(|e| Error::unreachable(e.to_string()))
    }

    async fn take_introduction(
        &self,
        overlay: &Overlay,
        origin: &Origin,
        room_id: &RoomId,
        intro: Introduction,
    ) -> Result<(), Error> {
        let carrier = node_of(self.core.snapshot()?.view(), &origin.server)?.ok_or_else(refused)?;
        let opened = overlay.open_introduction(intro).await.map_err(|e| Error::invalid_param(e.to_string()))?;
        let peer = self.server_of(opened.peer())?;
        self.check_joined(origin, room_id, &peer)?;
        overlay.take_introduction(&carrier, opened).await.map_err(|e| Error::forbidden(e.to_string()))
    }

    /// The server that a node speaks for.
    fn server_of(&self, node: &NodeName) -> Result<OwnedServerName, Error> {
        if node == self.core.identity().node_name() {
            return Ok(self.core.identity().server_name().to_owned());
        }
        server_of(self.core.snapshot()?.view(), node)?.ok_or_else(refused)
    }

    /// That a server is joined to a room in which we are.
    fn check_joined(&self, origin: &Origin, room_id: &RoomId, server: &ServerName) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (room, _) = self.resident(view, origin, room_id).map_err(|error| match error {
            Error::Matrix { .. } => refused(),
            error => error,
        })?;
        if is_in(view, room, server)? { Ok(()) } else { Err(refused()) }
    }
}

fn refused() -> Error {
    Error::forbidden("introductions are taken and carried between joined members of one room only")
}
