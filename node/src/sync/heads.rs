//! What syncs ask of every room of a user, kept in memory: which rooms there are, when something happened in each last, of
//! what kind they are. Entries hold while no commit touches what they were read from; what is forgotten is read again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use lru::LruCache;
use millpond_store::{
    Error, Position, Topic, View,
    rows::{Membership, RoomShort},
    tables,
};
use ruma::{OwnedRoomId, OwnedUserId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use crate::{
    notify::Notifier,
    rooms::{current, rows},
    timeline::{
        reader::sender,
        sight::{JoinedUntil, RoomSight},
    },
};

/// The rooms of a user.
pub(super) struct UserRooms {
    /// Every room that he has a membership in and has not forgotten.
    pub(super) all: Vec<(RoomShort, Membership)>,
    /// Those that he is joined to.
    pub(super) joined: Arc<HashSet<RoomShort>>,
    /// Those that he is out of.
    pub(super) left: Vec<RoomShort>,
    direct: OnceLock<HashSet<OwnedRoomId>>,
    tags: OnceLock<HashMap<OwnedRoomId, HashSet<String>>>,
    put_out: OnceLock<HashSet<RoomShort>>,
}

/// The newest end of a room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// The position of the newest event, 0 if there is none or it is history.
    pub(super) last: u64,
    /// And of the newest one that people would look at.
    pub(super) bump: u64,
}

/// What does not change about a room.
#[derive(Debug)]
pub(super) struct Nature {
    pub(super) room_id: OwnedRoomId,
    /// `type` of its create event.
    pub(super) kind: Option<String>,
}

/// The memory. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Heads(Arc<Mutex<Known>>);

struct Known {
    users: LruCache<OwnedUserId, (Position, Arc<UserRooms>)>,
    /// Up to where the heads are known.
    seen: Position,
    heads: HashMap<RoomShort, Head>,
    natures: LruCache<RoomShort, Arc<Nature>>,
}

impl Default for Heads {
    fn default() -> Self {
        let (users, natures) = (LruCache::new(USERS_KEPT), LruCache::new(NATURES_KEPT));
        Self(Arc::new(Mutex::new(Known { users, seen: Position(0), heads: HashMap::new(), natures })))
    }
}

impl Heads {
    /// The rooms of a user as of `view`.
    pub(super) fn of(&self, notifier: &Notifier, view: View<'_>, user: &UserId) -> Result<Arc<UserRooms>, Error> {
        let now = view.position()?;
        let known = self.lock().users.get(user).cloned();
        if let Some((read_at, rooms)) = known
            && (read_at == now
                || read_at < now
                    && notifier.touched((read_at, now), [Topic::UserRooms(user.to_owned())]) == Some(vec![false]))
        {
            return Ok(rooms);
        }
        let rooms = Arc::new(UserRooms::read(view, user)?);
        self.lock().users.put(user.to_owned(), (now, rooms.clone()));
        Ok(rooms)
    }

    /// The heads of some rooms, in their order, as of `view` or a moment later.
    pub(super) fn heads(
        &self,
        notifier: &Notifier,
        view: View<'_>,
        rooms: impl Iterator<Item = RoomShort>,
    ) -> Result<Vec<Head>, Error> {
        let now = view.position()?;
        let mut known = self.lock();
        if known.seen < now {
            match notifier.touched_rooms((known.seen, now)) {
                Some(touched) => {
                    for room in touched {
                        known.heads.remove(&room);
                    }
                }
                None => known.heads.clear(),
            }
            known.seen = now;
        }
        rooms
            .map(|room| {
                if let Some(head) = known.heads.get(&room) {
                    return Ok(*head);
                }
                let head = head(view, room)?;
                // One from before what others have seen must not stay.
                if known.seen == now {
                    known.heads.insert(room, head);
                }
                Ok(head)
            })
            .collect()
    }

    /// What does not change about a room.
    pub(super) fn nature(&self, view: View<'_>, room: RoomShort) -> Result<Arc<Nature>, Error> {
        #[derive(Default, Deserialize)]
        struct Create {
            #[serde(default, rename = "type")]
            kind: Option<String>,
        }
        if let Some(nature) = self.lock().natures.get(&room) {
            return Ok(nature.clone());
        }
        let create = current::content::<Create>(view, room, "m.room.create", "")?;
        let is_here = create.is_some();
        let nature = Arc::new(Nature { room_id: rows::room_id(view, room)?, kind: create.unwrap_or_default().kind });
        if is_here {
            self.lock().natures.put(room, nature.clone());
        }
        Ok(nature)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every entry is whole by itself, and nothing that inserts one panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserRooms {
    /// The user's membership in a room.
    pub(super) fn of(&self, room: RoomShort) -> Option<&Membership> {
        let at = self.all.binary_search_by_key(&room, |(room, _)| *room).ok()?;
        Some(&self.all[at].1)
    }

    fn read(view: View<'_>, user: &UserId) -> Result<Self, Error> {
        let (mut all, mut joined, mut left) = (Vec::new(), HashSet::new(), Vec::new());
        for row in view.scan(tables::MEMBERSHIPS, (user,))? {
            let ((_, room), row) = row?;
            if row.membership == MembershipState::Join {
                joined.insert(room);
            }
            if !row.forgotten {
                if matches!(row.membership, MembershipState::Leave | MembershipState::Ban) {
                    left.push(room);
                }
                all.push((room, row));
            }
        }
        Ok(Self {
            all,
            joined: Arc::new(joined),
            left,
            direct: OnceLock::new(),
            tags: OnceLock::new(),
            put_out: OnceLock::new(),
        })
    }

    /// The user's direct chats (`m.direct`). `view` is not older than these rooms, and nothing of the user changed since.
    pub(super) fn direct(&self, view: View<'_>, user: &UserId) -> Result<&HashSet<OwnedRoomId>, Error> {
        if let Some(direct) = self.direct.get() {
            return Ok(direct);
        }
        let row = view.get(tables::ACCOUNT_DATA, (user, "", "m.direct"))?;
        let content = row.and_then(|row| serde_json::from_str::<HashMap<String, Vec<String>>>(&row.content).ok());
        let rooms = content.unwrap_or_default().into_values().flatten();
        Ok(self.direct.get_or_init(|| rooms.filter_map(|id| OwnedRoomId::try_from(id).ok()).collect()))
    }

    /// The tags of each tagged room.
    pub(super) fn tags(&self, view: View<'_>, user: &UserId) -> Result<&HashMap<OwnedRoomId, HashSet<String>>, Error> {
        #[derive(Deserialize)]
        struct Content {
            tags: HashMap<String, serde::de::IgnoredAny>,
        }
        if let Some(tags) = self.tags.get() {
            return Ok(tags);
        }
        let mut tags = HashMap::new();
        for row in view.scan(tables::ACCOUNT_DATA, (user,))? {
            let ((_, room, kind), data) = row?;
            if kind != "m.tag" {
                continue;
            }
            let (Ok(room), Ok(content)) = (OwnedRoomId::try_from(room), serde_json::from_str::<Content>(&data.content))
            else {
                continue;
            };
            tags.insert(room, content.tags.into_keys().collect());
        }
        Ok(self.tags.get_or_init(|| tags))
    }

    /// The rooms that the user was in and that somebody else put him out of.
    pub(super) fn put_out(&self, view: View<'_>, user: &UserId) -> Result<&HashSet<RoomShort>, Error> {
        if let Some(rooms) = self.put_out.get() {
            return Ok(rooms);
        }
        let mut rooms = HashSet::new();
        for (room, row) in &self.all {
            let Some(event) = row.event else { continue };
            if matches!(row.membership, MembershipState::Leave | MembershipState::Ban)
                && sender(&rows::event(view, event)?) != user.as_str()
                && RoomSight::new(view, *room, user)?.joined_until() != JoinedUntil::Never
            {
                rooms.insert(*room);
            }
        }
        Ok(self.put_out.get_or_init(|| rooms))
    }
}

fn head(view: View<'_>, room: RoomShort) -> Result<Head, Error> {
    let newest = view.scan(tables::TIMELINE, (room,))?.next_back().transpose()?;
    let last = newest.map_or(0, |((_, position), _)| u64::try_from(position).unwrap_or(0));
    let bump = view.get(tables::ROOM_HEADS, room)?.and_then(|head| head.bump);
    Ok(Head { last, bump: bump.unwrap_or(last) })
}

/// Users whose rooms are kept: 2,000 rooms take some 200 kB.
const USERS_KEPT: std::num::NonZeroUsize = std::num::NonZeroUsize::new(16).expect("not zero");
/// Rooms whose nature is kept, some 150 bytes each.
const NATURES_KEPT: std::num::NonZeroUsize = std::num::NonZeroUsize::new(8192).expect("not zero");
