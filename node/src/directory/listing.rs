//! The public list of rooms, filtered and in pages, the largest rooms first.

use millpond_store::{View, rows::RoomShort, tables};
use ruma::{
    OwnedMxcUri, OwnedRoomAliasId, OwnedServerName, RoomId, ServerName, UInt,
    directory::{PublicRoomsChunk, PublicRoomsChunkInit, RoomTypeFilter},
    room::{JoinRuleKind, RoomType},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::Directory;
use crate::{
    Error,
    federation::Origin,
    peers::Route,
    rooms::{current, rows},
};

/// What a client asks.
#[derive(Clone, Debug, Default)]
pub struct ListingRequest {
    /// Whose list.
    pub server: Option<OwnedServerName>,
    /// Rooms of a page at most.
    pub limit: Option<UInt>,
    /// Where to go on.
    pub since: Option<String>,
    /// Words that the name, the topic or the alias must have.
    pub term: Option<String>,
    /// Only rooms of these types; empty for all.
    pub room_types: Vec<RoomTypeFilter>,
}

/// A page of the list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The rooms.
    pub chunk: Vec<PublicRoomsChunk>,
    /// Where the next page starts.
    pub next_batch: Option<String>,
    /// Where the page before starts.
    pub prev_batch: Option<String>,
    /// How many rooms there are in all pages.
    pub total: UInt,
}

impl Directory {
    /// Whether a list is ours.
    pub fn is_ours(&self, server: &ServerName) -> bool {
        self.core.identity().is_ours(server)
    }

    /// A page of our public list for a client.
    ///
    /// # Errors
    /// 400 for a token that is not ours, storage errors.
    pub fn listing(&self, request: &ListingRequest) -> Result<Listing, Error> {
        if let Some(server) = &request.server
            && !self.core.identity().is_ours(server)
        {
            return Err(Error::not_found(format!("the rooms of {server} are not known here")));
        }
        self.page(request, Route::Link)
    }

    /// A page of our public list for another server: through the classic door it has classic rooms only, and of linked nodes
    /// contacts see it.
    ///
    /// # Errors
    /// As [`Directory::listing`]; 403 for other linked nodes.
    pub fn listing_for(&self, origin: &Origin, request: &ListingRequest) -> Result<Listing, Error> {
        if !origin.is_contact() && origin.route() == Route::Link {
            return Err(Error::forbidden("the list of rooms is for contacts"));
        }
        self.page(request, origin.route())
    }

    fn page(&self, request: &ListingRequest, route: Route) -> Result<Listing, Error> {
        let start = request.since.as_deref().map_or(Ok(0), offset)?;
        let snapshot = self.core.snapshot()?;
        let mut rooms = rooms(snapshot.view(), request, route)?;
        rooms.sort_by(|one, other| {
            other.num_joined_members.cmp(&one.num_joined_members).then_with(|| one.room_id.cmp(&other.room_id))
        });
        let total = rooms.len();
        let limit = request.limit.map_or(PAGE, |limit| usize::try_from(u64::from(limit)).unwrap_or(PAGE_MAX));
        let limit = limit.clamp(1, PAGE_MAX);
        let end = start.saturating_add(limit);
        Ok(Listing {
            chunk: rooms.into_iter().skip(start).take(limit).collect(),
            next_batch: (end < total).then(|| format!("p{end}")),
            prev_batch: (start > 0).then(|| format!("p{}", start.saturating_sub(limit))),
            total: UInt::new_saturating(total as u64),
        })
    }
}

fn offset(token: &str) -> Result<usize, Error> {
    let offset = token.strip_prefix('p').and_then(|offset| offset.parse().ok());
    offset.ok_or_else(|| Error::invalid_param("`since` is not a token of this list: ask once without it"))
}

fn rooms(view: View<'_>, request: &ListingRequest, route: Route) -> Result<Vec<PublicRoomsChunk>, Error> {
    let term = request.term.as_deref().map(str::to_lowercase).filter(|term| !term.is_empty());
    let mut rooms = Vec::new();
    for row in view.scan(tables::PUBLISHED, ())? {
        let (room_id, ()) = row?;
        let Some((room, row)) = rows::room(view, &room_id)? else { continue };
        if !route.carries(&row) {
            continue;
        }
        let chunk = chunk(view, room, &room_id)?;
        let kind = RoomTypeFilter::from(chunk.room_type.clone());
        if (request.room_types.is_empty() || request.room_types.contains(&kind))
            && term.as_deref().is_none_or(|term| matches(&chunk, term))
        {
            rooms.push(chunk);
        }
    }
    Ok(rooms)
}

fn matches(chunk: &PublicRoomsChunk, term: &str) -> bool {
    let alias = chunk.canonical_alias.as_ref().map(|alias| alias.as_str());
    let texts = [chunk.name.as_deref(), chunk.topic.as_deref(), alias];
    texts.into_iter().flatten().any(|text| text.to_lowercase().contains(term))
}

fn chunk(view: View<'_>, room: RoomShort, room_id: &RoomId) -> Result<PublicRoomsChunk, Error> {
    let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
    let mut chunk = PublicRoomsChunk::from(PublicRoomsChunkInit {
        num_joined_members: UInt::new_saturating(counts.joined),
        room_id: room_id.to_owned(),
        world_readable: is_world_readable(view, room)?,
        guest_can_join: field::<String>(view, room, "m.room.guest_access", "guest_access")?.as_deref()
            == Some("can_join"),
    });
    chunk.canonical_alias = field::<OwnedRoomAliasId>(view, room, "m.room.canonical_alias", "alias")?;
    chunk.name = field::<String>(view, room, "m.room.name", "name")?.filter(|name| !name.is_empty());
    chunk.topic = field::<String>(view, room, "m.room.topic", "topic")?;
    chunk.avatar_url = field::<OwnedMxcUri>(view, room, "m.room.avatar", "url")?;
    chunk.join_rule =
        field::<JoinRuleKind>(view, room, "m.room.join_rules", "join_rule")?.unwrap_or(JoinRuleKind::Invite);
    chunk.room_type = field::<RoomType>(view, room, "m.room.create", "type")?;
    Ok(chunk)
}

/// Whether everybody may read a room.
pub(crate) fn is_world_readable(view: View<'_>, room: RoomShort) -> Result<bool, Error> {
    let visibility = field::<String>(view, room, "m.room.history_visibility", "history_visibility")?;
    Ok(visibility.as_deref() == Some("world_readable"))
}

/// One field of a state event; what does not fit counts as absent.
pub(crate) fn field<T: DeserializeOwned>(
    view: View<'_>,
    room: RoomShort,
    kind: &str,
    name: &str,
) -> Result<Option<T>, Error> {
    #[derive(Deserialize)]
    struct Content(serde_json::Map<String, serde_json::Value>);
    let content = current::content::<Content>(view, room, kind, "")?;
    let value = content.and_then(|mut content| content.0.remove(name));
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// Rooms of a page unless the client says otherwise.
const PAGE: usize = 50;
/// Rooms of a page at most.
const PAGE_MAX: usize = 500;
