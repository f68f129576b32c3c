//! Presence (client-server API, "Presence"): who is there, by what the devices of local users do, and of users of classic
//! servers by their servers' word. In memory, but for the status message, which its user has written.
//!
//! Local users who share a room see each other. To other servers it goes only if they share a classic room with the user,
//! and it is taken from such only: overlay rooms know no presence (overlay.md section 5).

mod owed;
mod user;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use millpond_store::{Topic, View, job, rows::RoomShort, tables};
use ruma::{
    DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId,
    api::{error::ErrorKind, federation::transactions::edu::PresenceContent},
    events::room::member::MembershipState,
    presence::PresenceState,
};
use tokio::sync::Notify;

pub use self::owed::PresenceEdus;
use self::user::Known;
use crate::{Core, Error, rooms::rows, shared_rooms};

/// Who is there. Cloning is cheap.
#[derive(Clone)]
pub struct Presence {
    core: Core,
    state: Arc<Mutex<State>>,
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct State {
    users: HashMap<OwnedUserId, Known>,
    /// Whose changes each classic server has not heard of.
    owed: HashMap<OwnedServerName, BTreeSet<OwnedUserId>>,
}

/// How a user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Online, idle or away.
    pub state: PresenceState,
    /// What the user wrote about it.
    pub status: Option<String>,
    /// How long ago the user did something, in milliseconds.
    pub active_ago_ms: Option<u64>,
}

impl Shown {
    /// Whether the user is at it now: `currently_active`, of which nobody is told again while it lasts.
    pub fn is_active(&self) -> bool {
        self.state == PresenceState::Online
    }
}

impl Default for Shown {
    fn default() -> Self {
        Self { state: PresenceState::Offline, status: None, active_ago_ms: None }
    }
}

/// A device that waits for news: its user is there as long as this lives, and a little longer.
pub struct Poll {
    presence: Presence,
    user: OwnedUserId,
    device: OwnedDeviceId,
}

impl Drop for Poll {
    fn drop(&mut self) {
        let now_ms = self.presence.core.clock().now_ms();
        if let Some(known) = self.presence.lock().users.get_mut(&self.user) {
            known.polled(&self.device, now_ms);
        }
    }
}

impl Presence {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core, state: Arc::default(), sooner: Arc::default() }
    }

    /// A device of a local user asks for news, and says how its user is.
    ///
    /// # Errors
    /// Storage errors.
    pub fn poll(&self, user: &UserId, device: &DeviceId, says: PresenceState) -> Result<Poll, Error> {
        let now_ms = self.core.clock().now_ms();
        self.change(user, |known| known.poll(device.to_owned(), says, now_ms))?;
        Ok(Poll { presence: self.clone(), user: user.to_owned(), device: device.to_owned() })
    }

    /// A local user does something at a device.
    ///
    /// # Errors
    /// Storage errors.
    pub fn act(&self, user: &UserId, device: &DeviceId) -> Result<(), Error> {
        let now_ms = self.core.clock().now_ms();
        self.change(user, |known| known.act(device, now_ms))
    }

    /// A local user says how he is. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 for a state that is none, 413 for too long a message; storage errors.
    pub async fn set(
        &self,
        user: &UserId,
        device: &DeviceId,
        says: PresenceState,
        status: Option<String>,
    ) -> Result<(), Error> {
        if !matches!(says, PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline) {
            return Err(Error::invalid_param("`presence` can be online, unavailable or offline"));
        }
        if status.as_ref().is_some_and(|status| status.len() > STATUS_MAX) {
            return Err(Error::too_large(format!("`status_msg` may have {STATUS_MAX} bytes")));
        }
        let status = status.filter(|status| !status.is_empty());
        let (owner, text) = (user.to_owned(), status.clone());
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| match &text {
                Some(text) => txn.put(tables::PRESENCE_STATUS, &owner, text),
                None => txn.remove(tables::PRESENCE_STATUS, &owner).map(drop),
            },
        );
        if status.is_some() || self.core.snapshot()?.view().contains(tables::PRESENCE_STATUS, user)? {
            self.core.write(write).await?;
        }
        let now_ms = self.core.clock().now_ms();
        self.change(user, |known| {
            known.say(device.to_owned(), says, now_ms);
            known.status = status;
        })
    }

    /// How a user is, for another one.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN` unless the two share a room, 404 `M_NOT_FOUND` for a user of another server who has not been heard
    /// of; storage errors.
    pub fn of(&self, asker: &UserId, user: &UserId) -> Result<Shown, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        if asker != user && !shared_rooms::share_room(view, asker, user)? {
            return Err(Error::forbidden(format!(
                "you share no room with {user}, so their presence is not shown to you"
            )));
        }
        let now_ms = self.core.clock().now_ms();
        let mut state = self.lock();
        if let Some(known) = state.users.get_mut(user) {
            return Ok(shown(known, now_ms));
        }
        drop(state);
        if !self.core.identity().is_our_user(user) {
            let message = format!("nothing is known of the presence of {user}");
            return Err(Error::matrix(StatusCode::NOT_FOUND, ErrorKind::NotFound, message));
        }
        let status = view.get(tables::PRESENCE_STATUS, user)?;
        Ok(Shown { status, ..Shown::default() })
    }

    /// What a server says about its users: taken of those who share a classic room with a user of ours.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn receive(&self, origin: &ServerName, content: PresenceContent) -> Result<(), Error> {
        let now_ms = self.core.clock().now_ms();
        for update in content.push.into_iter().take(UPDATES_MAX) {
            let user = &update.user_id;
            if user.server_name() != origin || !self.meets_classic(user)? {
                continue;
            }
            let full = {
                let state = self.lock();
                state.users.len() >= USERS_MAX && !state.users.contains_key(user)
            };
            if full {
                continue;
            }
            let active_ms = now_ms.saturating_sub(u64::from(update.last_active_ago));
            let status = update.status_msg.filter(|status| status.len() <= STATUS_MAX);
            self.change(user, |known| known.tell(update.presence, status, active_ms, now_ms))?;
        }
        Ok(())
    }

    /// The users whose presence changed after `since` (without one: who are not away), or who are new to the one who asks,
    /// as [`Company`] says; those only whom he shares a room with, and himself.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn news(&self, view: View<'_>, asker: &Company<'_>) -> Result<Vec<(OwnedUserId, Shown)>, Error> {
        let now_ms = self.core.clock().now_ms();
        let mut candidates = Vec::new();
        {
            let state = self.lock();
            for (user, known) in &state.users {
                let away = known.shown.state == PresenceState::Offline;
                let is_news = asker.since.map_or(!away, |(serial, _)| known.changed > serial);
                if is_news || (asker.changed && !away) {
                    candidates.push((user.clone(), is_news, shown(known, now_ms)));
                }
            }
        }
        let mut news = Vec::new();
        for (user, is_news, shown) in candidates {
            if (user == asker.user && is_news) || asker.meets(view, &user, is_news)? {
                news.push((user, shown));
            }
        }
        news.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(news)
    }

    /// Ends what nobody ended, and wakes who should see it. Runs until it is dropped, which is safe at any time.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn run(&self) -> Result<(), Error> {
        loop {
            // Register before looking, so that a change made in between is not missed.
            let sooner = self.sooner.notified();
            let now_ms = self.core.clock().now_ms();
            match self.settle_all(now_ms)? {
                // The end of each sync moves an end: nobody is woken for it, so this looks again before long.
                Some(at) => {
                    let wait = Duration::from_millis(at.saturating_sub(now_ms)).min(LOOK_EVERY);
                    tokio::select! { () = sooner => {}, () = tokio::time::sleep(wait) => {} }
                }
                None => sooner.await,
            }
        }
    }

    /// When to look again, if there is anybody to look at.
    fn settle_all(&self, now_ms: u64) -> Result<Option<u64>, Error> {
        let mut changed = Vec::new();
        let next = {
            let mut state = self.lock();
            for (user, known) in &mut state.users {
                if known.settle(now_ms) {
                    known.changed = self.core.moments().next();
                    changed.push(user.clone());
                }
            }
            // Who is away for a while is forgotten: what a sync has not shown by then is the default.
            state.users.retain(|_, known| !known.is_empty() || changed_lately(known, now_ms));
            let next = state.users.values().filter_map(|known| known.next_ms(now_ms)).min();
            next.or_else(|| (!state.users.is_empty()).then_some(u64::MAX))
        };
        for user in changed {
            self.announce(&user)?;
        }
        Ok(next)
    }

    fn change(&self, user: &UserId, change: impl FnOnce(&mut Known)) -> Result<(), Error> {
        let now_ms = self.core.clock().now_ms();
        let fresh = !self.lock().users.contains_key(user);
        let kept = match fresh && self.core.identity().is_our_user(user) {
            true => self.core.snapshot()?.view().get(tables::PRESENCE_STATUS, user)?,
            false => None,
        };
        let changed = {
            let mut state = self.lock();
            let known = state.users.entry(user.to_owned()).or_insert_with(|| Known::saying(kept));
            change(known);
            let changed = known.settle(now_ms);
            if changed {
                known.changed = self.core.moments().next();
            }
            changed
        };
        if changed || fresh {
            self.sooner.notify_one();
        }
        if changed { self.announce(user) } else { Ok(()) }
    }

    /// Wakes those who see a user, and notes which servers are to be told.
    fn announce(&self, user: &UserId) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut topics = vec![Topic::User(user.to_owned())];
        topics.extend(shared_rooms::joined_rooms(view, user)?.into_iter().map(Topic::Room));
        topics.extend(self.owe(view, user)?);
        self.core.notifier().wake(&topics);
        Ok(())
    }

    /// Whether a user of another server is in a classic room with a user of ours.
    fn meets_classic(&self, user: &UserId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let (view, us) = (snapshot.view(), self.core.identity().server_name());
        for room in shared_rooms::joined_rooms(view, user)? {
            if view.contains(tables::ROOM_SERVERS, (room, us))? && !rows::room_row(view, room)?.overlay {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks for news of presence, and what he has seen.
pub(crate) struct Company<'a> {
    pub(crate) user: &'a UserId,
    /// The rooms that he is joined to.
    pub(crate) rooms: &'a HashSet<RoomShort>,
    /// The serial and the position that he has seen.
    pub(crate) since: Option<(u64, u64)>,
    /// Since then somebody came into a room of his, or he did.
    pub(crate) changed: bool,
}

impl Company<'_> {
    /// Whether the two share a room; `known`: whether it may be one that they shared before.
    fn meets(&self, view: View<'_>, other: &UserId, known: bool) -> Result<bool, Error> {
        for row in view.scan(tables::MEMBERSHIPS, (other,))? {
            let ((_, room), row) = row?;
            if row.membership != MembershipState::Join || !self.rooms.contains(&room) {
                continue;
            }
            let seen = self.since.map_or(0, |(_, position)| position);
            if known || row.position > seen {
                return Ok(true);
            }
            let own = view.get(tables::MEMBERSHIPS, (self.user, room))?;
            if own.is_some_and(|own| own.position > seen) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn shown(known: &Known, now_ms: u64) -> Shown {
    Shown {
        state: known.shown.state.clone(),
        status: known.shown.status.clone(),
        active_ago_ms: known.active_ms.map(|at| now_ms.saturating_sub(at)),
    }
}

/// Serials are no times, but none is given out faster than one a millisecond for long.
fn changed_lately(known: &Known, now_ms: u64) -> bool {
    known.changed + KEPT_MS > now_ms
}

/// How often is looked whether somebody went away, at least.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a status message.
const STATUS_MAX: usize = 2000;
/// Users of one EDU that are looked at.
const UPDATES_MAX: usize = 100;
/// Users whose presence is kept, about 300 bytes each.
const USERS_MAX: usize = 10_000;
/// Who went away is remembered so long, for clients that come back and ask what they missed.
const KEPT_MS: u64 = 24 * 3_600_000;
