//! Simplified sliding sync (MSC4186): a client names lists of rooms and single rooms, and gets what it does not have of
//! those, at once or as soon as there is something.
//!
//! ```text
//! request -> rules (lists by activity, rooms by id) -> per room: told up to where? -> what is new, spliced from stored bytes
//!         -> extensions -> keep what the client will have got (one commit, if it differs) -> answer with the next pos
//! ```

mod connections;
mod extensions;
mod filter;
mod kept;
mod lists;
mod order;
mod pos;
mod request;
mod required;
mod room;
mod sweep;

use std::{collections::HashSet, sync::Arc};

use millpond_store::{Position, job, rows::RoomShort};
use ruma::{DeviceId, UserId};
use tokio::time::Instant;

pub(crate) use self::connections::Connections;
pub use self::request::{Element, Extensions, Filters, List, OfRooms, Request, Required, RoomConfig, Switch, ToDevice};
use self::{connections::Turn, pos::Pos, sweep::Swept};
use super::{Sync, WAIT_MAX};
use crate::{
    Error,
    json::{raw, text_member},
    to_device,
};

impl Sync {
    /// The answer's JSON. Dropping the future is safe: nothing counts as told before the next `pos` says so.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN_POS` for a connection that has to start anew, `M_INVALID_PARAM`; storage errors.
    pub async fn slide(&self, user: &UserId, device: &DeviceId, mut request: Request) -> Result<Vec<u8>, Error> {
        request.prepare(user)?;
        let pos = request.pos.as_deref().map(Pos::parse).transpose()?;
        let name = (user.to_owned(), device.to_owned(), request.conn_id.clone().unwrap_or_default());
        let turn = Arc::new(self.connections.begin(self.core.snapshot()?.view(), name, pos)?);
        self.got_messages(user, device, &request).await?;
        let deadline = Instant::now() + request.timeout.unwrap_or_default().min(WAIT_MAX);
        let request = Arc::new(request);
        loop {
            let swept = self.sweep_sliding(user, device, &turn, &request).await?;
            if pos.is_none() || swept.news || deadline <= Instant::now() {
                return self.finish(&turn, &request, swept).await;
            }
            // Register, look again, then wait: what came in between is not missed.
            let woken = self.core.notifier().watch(user.to_owned(), swept.rooms.clone());
            if self.now()? == (swept.position, swept.typing) {
                tokio::select! {
                    _ = tokio::time::timeout_at(deadline, woken.changed()) => {}
                    // The client has sent another request in place of this one and will not read the answer.
                    () = turn.over() => return self.finish(&turn, &request, swept).await,
                }
            }
            turn.put_kept(swept.kept);
        }
    }

    /// Forgets the to-device messages that have arrived, as the extension's own token says.
    async fn got_messages(&self, user: &UserId, device: &DeviceId, request: &Request) -> Result<(), Error> {
        let asked = &request.extensions.to_device;
        let Some(since) = extensions::messages_since(asked)?.filter(|_| asked.enabled == Some(true)) else {
            return Ok(());
        };
        let snapshot = self.core.snapshot()?;
        // A token from before a restored backup says nothing about what came since.
        if since > snapshot.view().position()? || !to_device::has_acknowledgeable(snapshot.view(), user, device, since)?
        {
            return Ok(());
        }
        drop(snapshot);
        let (user, device) = (user.to_owned(), device.to_owned());
        let forget = job(|_| Ok::<_, Error>(()), move |(), txn| to_device::acknowledge(txn, &user, &device, since));
        self.core.write(forget).await?;
        Ok(())
    }

    async fn sweep_sliding(
        &self,
        user: &UserId,
        device: &DeviceId,
        turn: &Arc<Turn>,
        request: &Arc<Request>,
    ) -> Result<Swept, Error> {
        let (this, user, device) = (self.clone(), user.to_owned(), device.to_owned());
        let (turn, request) = (turn.clone(), request.clone());
        // A page of rooms takes a while: not on a thread that others wait for.
        let swept = tokio::task::spawn_blocking(move || sweep::run(&this, &user, &device, &turn, &request));
        swept.await.map_err(|e| Error::internal(format!("a sync broke off: {e}")))?
    }

    /// Remembers what the client will have got, then answers.
    async fn finish(&self, turn: &Turn, request: &Request, swept: Swept) -> Result<Vec<u8>, Error> {
        if let Some(pos) = turn.pos.filter(|_| turn.is_over()) {
            return Ok(format!("{{\"pos\":\"{pos}\"}}").into_bytes());
        }
        let Swept { mut body, state, position, typing, members, mut kept, .. } = swept;
        let (epoch, version) = turn.keep(&self.core, state).await?;
        kept.told = Some((epoch, version));
        turn.put_kept(kept);
        let pos = Pos { position, typing, epoch, version };
        turn.sent(&pos, members);
        text_member(&mut body, "pos", &pos.to_string());
        if let Some(txn_id) = &request.txn_id {
            text_member(&mut body, "txn_id", txn_id);
        }
        raw(&mut body, "}");
        Ok(body)
    }
}

/// The rooms that a waiting request listens to.
type Joined = Arc<HashSet<RoomShort>>;

/// A position as a timeline position.
fn in_timeline(position: u64) -> i64 {
    Position(position).as_timeline()
}
