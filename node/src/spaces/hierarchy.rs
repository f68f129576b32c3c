//! The tree of a space, walked depth first. A page is the walk from the start without the rooms of the pages before: rooms
//! that are here cost a few reads each, others are remembered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, UserId, api::client::space::SpaceHierarchyRoomsChunk, room::RoomSummary,
};

use super::{
    Spaces,
    summary::{self, Child},
};
use crate::{Error, peers, rooms::rows};

/// What a client asks.
#[derive(Clone, Debug)]
pub struct HierarchyRequest {
    /// The space.
    pub room_id: OwnedRoomId,
    /// Only children that are suggested.
    pub suggested_only: bool,
    /// Rooms of a page at most.
    pub limit: Option<u64>,
    /// How deep to go.
    pub max_depth: Option<u64>,
    /// Where to go on.
    pub from: Option<String>,
}

/// A page of the tree.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// The rooms.
    pub rooms: Vec<SpaceHierarchyRoomsChunk>,
    /// Where the next page starts.
    pub next_batch: Option<String>,
}

/// A room of the walk.
struct Step {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
}

/// What is known of a room.
struct Known {
    summary: RoomSummary,
    children: Vec<Child>,
}

/// Summaries that came with those of their parents.
type Hints = HashMap<OwnedRoomId, RoomSummary>;

impl Spaces {
    /// A page of the tree of a space. Dropping the future gives it up.
    ///
    /// # Errors
    /// 403 for a space that the user may not know of, 400 for a token of another question; storage errors.
    pub async fn hierarchy(&self, user: &UserId, request: &HierarchyRequest) -> Result<Hierarchy, Error> {
        let max_depth = request.max_depth.unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
        let skip = request.from.as_deref().map_or(Ok(0), |from| offset(from, request, max_depth))?;
        let limit = usize::try_from(request.limit.unwrap_or(PAGE)).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let mut walk = vec![Step { room_id: request.room_id.clone(), via: Vec::new(), depth: 0 }];
        let (mut seen, mut hints) = (HashSet::new(), Hints::new());
        let (mut rooms, mut passed) = (Vec::new(), 0);
        while let Some(step) = walk.pop() {
            if seen.len() == ROOMS_MAX || !seen.insert(step.room_id.clone()) {
                continue;
            }
            let known = self.known(user, &step, request.suggested_only, &mut hints).await?;
            let Some(known) = known else {
                if step.depth == 0 {
                    return Err(Error::forbidden(format!(
                        "room {} is not known, or not to be seen by you",
                        step.room_id
                    )));
                }
                continue;
            };
            if rooms.len() == limit {
                let next_batch = Some(token(skip + limit, request, max_depth));
                return Ok(Hierarchy { rooms, next_batch });
            }
            let below = step.depth < max_depth;
            let children = known.children.iter().rev().filter(|_| below);
            walk.extend(children.map(|child| Step {
                room_id: child.room_id.clone(),
                via: child.via.clone(),
                depth: step.depth + 1,
            }));
            passed += 1;
            if passed > skip {
                let events = known.children.into_iter().map(|child| child.event).collect();
                rooms.push(SpaceHierarchyRoomsChunk::new(known.summary, events));
            }
        }
        Ok(Hierarchy { rooms, next_batch: None })
    }

    /// What is known of a room, here or elsewhere; none for rooms that the user may not know of.
    async fn known(
        &self,
        user: &UserId,
        step: &Step,
        suggested_only: bool,
        hints: &mut Hints,
    ) -> Result<Option<Known>, Error> {
        if let Some(here) = self.here(user, &step.room_id, suggested_only)? {
            return Ok(here);
        }
        if let Some(summary) = hints.get(&step.room_id).filter(|summary| !summary::is_space(summary)) {
            let shown = self.may_know(user, summary)?;
            return Ok(shown.then(|| Known { summary: summary.clone(), children: Vec::new() }));
        }
        let servers = self.servers(user, step)?;
        let Some(told) = self.ask(&servers, &step.room_id, suggested_only).await else { return Ok(None) };
        for child in &told.children {
            hints.entry(child.room_id.clone()).or_insert_with(|| child.clone());
        }
        let told = Arc::clone(&told);
        if !self.may_know(user, &told.room.summary)? {
            return Ok(None);
        }
        let space = summary::is_space(&told.room.summary);
        let events = told.room.children_state.iter().filter(|_| space);
        let mut children: Vec<_> =
            events.filter_map(|event| summary::child(event.clone().cast_unchecked(), suggested_only)).collect();
        summary::sort(&mut children);
        Ok(Some(Known { summary: told.room.summary.clone(), children }))
    }

    /// What is known of a room of which a user of ours is a member: none if nobody is, `Some(None)` if it is hidden.
    #[allow(clippy::option_option, reason = "that a room is hidden is not that it is elsewhere")]
    fn here(&self, user: &UserId, room_id: &RoomId, suggested_only: bool) -> Result<Option<Option<Known>>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((short, row)) = rows::room(view, room_id)? else { return Ok(None) };
        if !self.is_resident(view, short)? {
            return Ok(None);
        }
        let summary = summary::of(view, short, &row)?;
        if !summary::may_know(view, user, short, &summary)? {
            return Ok(Some(None));
        }
        let children = match summary::is_space(&summary) {
            true => summary::children(view, short, suggested_only)?,
            false => Vec::new(),
        };
        Ok(Some(Some(Known { summary, children })))
    }

    /// The linked servers that may know a room.
    fn servers(&self, user: &UserId, step: &Step) -> Result<Vec<OwnedServerName>, Error> {
        if step.depth == 0 {
            return Ok(self.memberships.candidates(user, &step.room_id, Vec::new()).unwrap_or_default());
        }
        // Classic servers are told of no rooms that only a space names: they may be overlay rooms.
        let snapshot = self.core.snapshot()?;
        let mut servers = Vec::new();
        for server in &step.via {
            if !servers.contains(server) && peers::is_linked(snapshot.view(), server)? {
                servers.push(server.clone());
            }
        }
        Ok(servers)
    }
}

fn token(offset: usize, request: &HierarchyRequest, max_depth: u64) -> String {
    format!("h{offset}_{max_depth}_{}", u8::from(request.suggested_only))
}

/// The rooms that were shown before; the rest of the question must be the same.
fn offset(from: &str, request: &HierarchyRequest, max_depth: u64) -> Result<usize, Error> {
    let number = from.strip_prefix('h').and_then(|rest| rest.split('_').next()).and_then(|text| text.parse().ok());
    let offset = number.filter(|offset| token(*offset, request, max_depth) == from);
    offset.ok_or_else(|| {
        Error::invalid_param(
            "`from` is not a token of this server, or belongs to another `max_depth` or `suggested_only`",
        )
    })
}

/// Rooms of a page unless the client says otherwise, and at most.
const PAGE: u64 = 50;
const PAGE_MAX: usize = 100;
/// How deep the walk goes.
const DEPTH_MAX: u64 = 20;
/// Rooms of a tree that are looked at.
const ROOMS_MAX: usize = 1_000;
