//! Who is typing (client-server API, "Typing notifications"): in memory only, each entry with its end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millpond_store::{Topic, View, rows::RoomShort, tables};
use ruma::{
    OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::{Edu, TypingContent},
};
use tokio::{sync::Notify, time::Instant};

use crate::{Core, Error, moments::Moments, peers::Route, rooms::rows, shared_rooms};

/// Who is typing in which room. Cloning is cheap.
#[derive(Clone)]
pub struct Typing {
    core: Core,
    state: Arc<Mutex<State>>,
    sooner: Arc<Notify>,
    first_serial: u64,
}

struct State {
    moments: Moments,
    rooms: HashMap<RoomShort, Room>,
    /// Up to which change each peer was told.
    told: HashMap<OwnedServerName, u64>,
}

#[derive(Default)]
struct Room {
    /// The serial of the last change.
    changed: u64,
    typing: BTreeMap<OwnedUserId, Instant>,
    /// The last change of each local user: what peers are told.
    ours: BTreeMap<OwnedUserId, OwnChange>,
}

/// A change by a local user.
#[derive(Clone, Copy)]
struct OwnChange {
    serial: u64,
    at: Instant,
}

/// `m.typing` EDUs of one transaction.
#[derive(Clone, Debug, Default)]
pub struct TypingEdus {
    /// JSON of each.
    pub edus: Vec<String>,
    /// The last change that they tell of.
    last: u64,
}

impl TypingEdus {
    /// Tells one set of changes from another that reads the same.
    pub fn last(&self) -> u64 {
        self.last
    }
}

impl Typing {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        let moments = core.moments().clone();
        let first_serial = moments.next();
        let (rooms, told) = Default::default();
        let state = Arc::new(Mutex::new(State { moments, rooms, told }));
        Self { core, state, sooner: Arc::default(), first_serial }
    }

    /// A local user starts (`Some`: for so long at most) or stops typing.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN` if the user is not in the room; storage errors.
    pub fn set(&self, user: &UserId, room_id: &RoomId, timeout: Option<Duration>) -> Result<(), Error> {
        let room = shared_rooms::joined_room(self.core.snapshot()?.view(), user, room_id)?;
        if self.change(room, user, timeout, true) {
            self.wake(room)?;
        }
        Ok(())
    }

    /// A user of a peer starts or stops typing, as the peer says. What is not from a member is ignored.
    ///
    /// # Errors
    /// Storage errors.
    pub fn set_remote(&self, user: &UserId, room_id: &RoomId, typing: bool) -> Result<(), Error> {
        match shared_rooms::joined_room(self.core.snapshot()?.view(), user, room_id) {
            Ok(room) => {
                if self.change(room, user, typing.then_some(REMOTE_TIMEOUT), false) {
                    self.core.notifier().wake(&[Topic::Room(room)]);
                }
                Ok(())
            }
            Err(Error::Matrix { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The serial of the newest change: what a sync token carries.
    pub fn serial(&self) -> u64 {
        self.core.moments().last()
    }

    /// Who is typing in a room, if that changed after `since`; without a `since`, if anybody is.
    pub fn since(&self, room: RoomShort, since: Option<u64>) -> Option<Vec<OwnedUserId>> {
        let state = self.lock();
        let known = state.rooms.get(&room);
        match since {
            // What an earlier run said is over.
            Some(since) if since < self.first_serial => Some(known.map(Room::users).unwrap_or_default()),
            Some(since) => known.filter(|known| known.changed > since).map(Room::users),
            None => known.filter(|known| !known.typing.is_empty()).map(Room::users),
        }
    }

    /// The rooms in which somebody began or ended typing after `since`; none if an earlier run may have said so.
    pub(crate) fn changed_rooms(&self, since: u64) -> Option<Vec<RoomShort>> {
        let state = self.lock();
        let changed = state.rooms.iter().filter(|(_, room)| room.changed > since).map(|(short, _)| *short);
        (since >= self.first_serial).then(|| changed.collect())
    }

    /// At most `limit` EDUs of what our users changed and a server has not heard of, the oldest change first.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn edus(
        &self,
        view: View<'_>,
        destination: &ServerName,
        route: Route,
        limit: usize,
    ) -> Result<TypingEdus, Error> {
        let mut news = self.news(destination);
        news.sort_by_key(|(serial, ..)| *serial);
        let mut found = TypingEdus::default();
        for (serial, room, user, typing) in news {
            if found.edus.len() == limit {
                break;
            }
            found.last = serial;
            let stays = view.contains(tables::ROOM_SERVERS, (room, destination))?;
            if !stays || !route.carries(&rows::room_row(view, room)?) {
                continue;
            }
            let content = TypingContent::new(rows::room_id(view, room)?, user, typing);
            let edu = serde_json::to_string(&Edu::Typing(content));
            found.edus.push(edu.map_err(|e| Error::internal(format!("typing is no JSON: {e}")))?);
        }
        Ok(found)
    }

    /// The rooms in which our users' typing changed lately.
    pub(crate) fn rooms_with_news(&self) -> Vec<RoomShort> {
        let state = self.lock();
        state.rooms.iter().filter(|(_, room)| !room.ours.is_empty()).map(|(short, _)| *short).collect()
    }

    /// Notes that a server has what it was sent.
    pub fn delivered(&self, destination: &ServerName, sent: &TypingEdus) {
        if sent.last > 0 {
            self.lock().told.insert(destination.to_owned(), sent.last);
        }
    }

    fn news(&self, destination: &ServerName) -> Vec<(u64, RoomShort, OwnedUserId, bool)> {
        let state = self.lock();
        let told = state.told.get(destination).copied().unwrap_or_default();
        let mut news = Vec::new();
        for (room, known) in &state.rooms {
            for (user, change) in known.ours.iter().filter(|(_, change)| change.serial > told) {
                news.push((change.serial, *room, user.clone(), known.typing.contains_key(user)));
            }
        }
        news
    }

    /// Ends what nobody ended, and wakes who waits for the room; the only place that does, so that no end goes unseen.
    /// Runs until it is dropped, which is safe at any time.
    pub async fn run(&self) {
        loop {
            // Register before looking, so that an entry made in between is not missed.
            let sooner = self.sooner.notified();
            let (ended, next) = self.lock().expire_all(Instant::now());
            for room in ended {
                if let Err(error) = self.wake(room) {
                    tracing::warn!(%error, "could not tell that typing ended");
                }
            }
            match next {
                Some(next) => tokio::select! { () = sooner => {}, () = tokio::time::sleep_until(next) => {} },
                None => sooner.await,
            }
        }
    }

    /// Says whether anything changed that others should see.
    fn change(&self, room: RoomShort, user: &UserId, timeout: Option<Duration>, ours: bool) -> bool {
        let mut state = self.lock();
        let moments = state.moments.clone();
        let known = state.rooms.entry(room).or_default();
        let was = known.typing.contains_key(user);
        match timeout {
            Some(timeout) if was || known.typing.len() < ROOM_MAX => {
                known.typing.insert(user.to_owned(), Instant::now() + timeout.min(TIMEOUT_MAX));
                self.sooner.notify_one();
            }
            Some(_) => return false,
            None => drop(known.typing.remove(user)),
        }
        // A longer time alone changes nothing for others.
        if was == timeout.is_some() {
            return false;
        }
        let serial = moments.next();
        known.changed = serial;
        if ours {
            known.ours.insert(user.to_owned(), OwnChange { serial, at: Instant::now() });
        }
        true
    }

    fn wake(&self, room: RoomShort) -> Result<(), Error> {
        let mut topics = vec![Topic::Room(room)];
        for row in self.core.snapshot()?.view().scan(tables::ROOM_SERVERS, (room,))? {
            let ((_, server), _) = row?;
            if !self.core.identity().is_ours(&server) {
                topics.push(Topic::Outbox(server));
            }
        }
        self.core.notifier().wake(&topics);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the entries of a room that have ended; says whether there were any.
    fn expire(&mut self, room: RoomShort, now: Instant) -> bool {
        let Some(known) = self.rooms.get_mut(&room) else { return false };
        if known.typing.values().all(|end| *end > now) {
            return false;
        }
        let serial = self.moments.next();
        let ours = &mut known.ours;
        known.typing.retain(|user, end| {
            if *end <= now {
                ours.entry(user.clone()).and_modify(|changed| *changed = OwnChange { serial, at: now });
            }
            *end > now
        });
        known.changed = serial;
        true
    }

    /// The rooms where entries ended, and when the next one ends.
    fn expire_all(&mut self, now: Instant) -> (Vec<RoomShort>, Option<Instant>) {
        let rooms: Vec<_> = self.rooms.keys().copied().collect();
        let ended = rooms.into_iter().filter(|room| self.expire(*room, now)).collect();
        // A peer that was away longer has forgotten who typed.
        for room in self.rooms.values_mut() {
            let typing = &room.typing;
            room.ours.retain(|user, change| typing.contains_key(user) || change.at + REMOTE_TIMEOUT > now);
        }
        let next = self.rooms.values().flat_map(|room| room.typing.values()).min().copied();
        (ended, next)
    }
}

impl Room {
    fn users(&self) -> Vec<OwnedUserId> {
        self.typing.keys().cloned().collect()
    }
}

/// A client may not make itself type for longer than this in one go.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// How long a peer's word holds: peers repeat it while it is true, every 25 s or so.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Typing users kept per room: nobody reads more names than this.
const ROOM_MAX: usize = 100;

#[cfg(test)]
mod tests;
