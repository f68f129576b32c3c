//! What linked servers say of rooms that are not here (server-server API, "Spaces"), remembered for a few minutes: pages
//! of one tree ask for the same rooms again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millpond_store::{View, rows::RoomShort, tables};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, UserId,
    api::federation::space::{SpaceHierarchyParentSummary, get_hierarchy},
    events::room::member::MembershipState,
    room::RoomSummary,
};

use super::{Spaces, summary};
use crate::{
    Error,
    clock::Clock,
    rooms::{current, rows},
};

/// What a server says of a room.
pub(super) struct Told {
    /// The room with its children's events.
    pub(super) room: SpaceHierarchyParentSummary,
    /// Its children, as far as that server knows them.
    pub(super) children: Vec<RoomSummary>,
}

type Key = (OwnedRoomId, bool);

/// What was told lately.
pub(super) struct Cache {
    clock: Clock,
    told: Mutex<HashMap<Key, Kept>>,
}

/// What is remembered of a room: also that nobody told of it.
struct Kept {
    until_ms: u64,
    told: Option<Arc<Told>>,
}

impl Cache {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, told: Mutex::default() }
    }

    fn get(&self, key: &Key) -> Option<Option<Arc<Told>>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = told.get(key)?;
        (kept.until_ms > self.clock.now_ms()).then(|| kept.told.clone())
    }

    fn put(&self, key: Key, told: Option<Arc<Told>>) {
        let now_ms = self.clock.now_ms();
        let keep = if told.is_some() { KEEP_MS } else { KEEP_NOTHING_MS };
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CAPACITY {
            all.retain(|_, kept| kept.until_ms > now_ms);
        }
        if all.len() >= CAPACITY {
            all.clear();
        }
        all.insert(key, Kept { until_ms: now_ms.saturating_add(keep), told });
    }
}

impl Spaces {
    /// Asks servers about a room until one knows it.
    pub(super) async fn ask(
        &self,
        servers: &[OwnedServerName],
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Option<Arc<Told>> {
        let key = (room_id.to_owned(), suggested_only);
        if let Some(told) = self.cache.get(&key) {
            return told;
        }
        let mut told = None;
        for server in servers.iter().take(SERVERS_MAX) {
            let mut request = get_hierarchy::v1::Request::new(room_id.to_owned());
            request.suggested_only = suggested_only;
            match self.peers.ask(server, request, PATIENCE).await {
                Ok(answer) if answer.room.summary.room_id == room_id => {
                    let mut room = answer.room;
                    room.children_state.truncate(CHILDREN_MAX);
                    let children = answer.children.into_iter().take(CHILDREN_MAX).collect();
                    told = Some(Arc::new(Told { room, children }));
                    break;
                }
                Ok(_) => tracing::debug!("a server told of another room than it was asked about"),
                Err(error) => tracing::debug!(%error, "a server did not tell of a room"),
            }
        }
        self.cache.put(key, told.clone());
        told
    }

    /// Whether a user may know of a room that is not here.
    pub(super) fn may_know(&self, user: &UserId, summary: &RoomSummary) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        if summary::is_open(summary) || summary::is_joined_to_any(view, user, summary)? {
            return Ok(true);
        }
        let Some(room) = rows::room_short(view, &summary.room_id)? else { return Ok(false) };
        let membership = current::membership(view, room, user)?.map(|row| row.membership);
        Ok(matches!(membership, Some(MembershipState::Join | MembershipState::Invite)))
    }

    /// Whether a user of ours is in a room: then we know its state.
    pub(super) fn is_resident(&self, view: View<'_>, room: RoomShort) -> Result<bool, Error> {
        let ours = view.get(tables::ROOM_SERVERS, (room, self.core.identity().server_name()))?;
        Ok(ours.is_some_and(|members| members > 0))
    }
}

/// How long a server has to tell of a room, with a client waiting for many of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Servers that are asked about one room.
const SERVERS_MAX: usize = 3;
/// Children of a space that we take from others.
const CHILDREN_MAX: usize = 200;
/// How long what was told is good: names change seldom.
const KEEP_MS: u64 = 5 * 60 * 1000;
/// How long nobody is asked again about a room of which nobody told.
const KEEP_NOTHING_MS: u64 = 30 * 1000;
/// Rooms that are remembered.
const CAPACITY: usize = 1_000;
