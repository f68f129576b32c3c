//! Unread counts (client-server API, "Receiving notifications"): what a user's push rules say about the events of others
//! that he has not read. Counted by whoever reads, never on the send path: a message costs the same in a room of two and
//! of two hundred.
//!
//! A count is kept with what it depends on: receipts, rules, ignored users. While these stay, a later sync only looks at
//! the events that came since. A redaction, or anything else, makes it count anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use millpond_store::{
    View,
    rows::{EventRow, RoomShort},
    tables,
};
use ruma::{
    OwnedEventId, OwnedUserId, UserId,
    events::{ignored_user_list::IgnoredUserListEventContent, room::member::MembershipState},
    push::Ruleset,
};

use crate::{
    Error,
    account_data::{self, PUSH_RULES},
    push_rules, receipts,
    rooms::{current, rows},
    threads,
};

mod rule;
mod told;

use rule::Judge;
pub(crate) use told::{Ear, Heard, Told, Wishes};

/// Counts unread events. Cloning is cheap; clones share what was counted.
#[derive(Clone)]
pub struct Push {
    counted: Arc<Mutex<LruCache<(OwnedUserId, RoomShort), Counted>>>,
}

/// How many events are unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that notify.
    pub notification: u64,
    /// Events that notify and are highlighted: mentions, mostly.
    pub highlight: u64,
}

/// The unread events of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Of the main timeline.
    pub main: Counts,
    /// Of each thread, by its root; threads without unread events are left out.
    pub threads: BTreeMap<OwnedEventId, Counts>,
}

impl Unread {
    /// Of the room as a whole, for clients that do not ask for threads.
    pub fn total(&self) -> Counts {
        self.threads.values().fold(self.main, |sum, counts| Counts {
            notification: sum.notification + counts.notification,
            highlight: sum.highlight + counts.highlight,
        })
    }

    fn of(&mut self, thread: Option<OwnedEventId>) -> &mut Counts {
        match thread {
            None => &mut self.main,
            Some(root) => self.threads.entry(root).or_default(),
        }
    }
}

/// A count and what it rests on.
struct Counted {
    basis: Basis,
    /// The last timeline position that was looked at.
    up_to: i64,
    unread: Unread,
}

/// Positions of the newest commits that a count depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Basis {
    receipts: u64,
    rules: u64,
    ignored: u64,
}

/// Up to where a user has read.
#[derive(Default)]
struct Read {
    /// The unthreaded receipt.
    everything: i64,
    main: i64,
    threads: BTreeMap<OwnedEventId, i64>,
}

impl Read {
    fn up_to(&self, thread: Option<&OwnedEventId>) -> i64 {
        let threaded = thread.map_or(self.main, |root| self.threads.get(root).copied().unwrap_or_default());
        threaded.max(self.everything)
    }
}

impl Default for Push {
    fn default() -> Self {
        Self { counted: Arc::new(Mutex::new(LruCache::new(KEPT))) }
    }
}

impl Push {
    /// The unread events of a user in a room that he is joined to.
    ///
    /// # Errors
    /// Storage errors.
    pub fn unread(&self, view: View<'_>, user: &UserId, room: RoomShort) -> Result<Unread, Error> {
        let newest = newest(view, room)?;
        let (read, receipts) = read(view, user, room)?;
        let position = |kind| Ok::<_, Error>(account_data::row(view, user, None, kind)?.map_or(0, |row| row.position));
        let basis = Basis { receipts, rules: position(PUSH_RULES)?, ignored: position(IGNORED)? };
        let key = (user.to_owned(), room);
        let known = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.get(&key).filter(|known| known.basis == basis).map(|known| (known.up_to, known.unread.clone()))
        };
        let (mut unread, mut walk) = (Unread::default(), Walk::new(view, user, room)?);
        match known {
            Some((up_to, unread)) if up_to >= newest => return Ok(unread),
            Some((up_to, before)) if walk.run(up_to, &read)? => unread = before,
            _ => {
                walk = Walk::new(view, user, room)?;
                walk.run(0, &read)?;
            }
        }
        walk.add_to(&mut unread);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.put(key, Counted { basis, up_to: newest, unread: unread.clone() });
        Ok(unread)
    }
}

/// A walk over a part of a timeline, from the newest event backwards.
struct Walk<'a> {
    view: View<'a>,
    user: &'a UserId,
    room: RoomShort,
    rules: Ruleset,
    ignored: Option<IgnoredUserListEventContent>,
    judge: Option<Judge>,
    found: Unread,
    /// Threads (none: the main timeline) in which the user sent an event himself: what is older there is read.
    answered: BTreeSet<Option<OwnedEventId>>,
}

impl<'a> Walk<'a> {
    fn new(view: View<'a>, user: &'a UserId, room: RoomShort) -> Result<Self, Error> {
        let ignored = account_data::row(view, user, None, IGNORED)?;
        // A client wrote it; what does not parse ignores nobody.
        let ignored = ignored.and_then(|row| serde_json::from_str(&row.content).ok());
        let rules = push_rules::ruleset(view, user)?;
        let (found, answered) = Default::default();
        Ok(Self { view, user, room, rules, ignored, judge: None, found, answered })
    }

    /// Counts what is newer than `after`; false: a redaction came, so what was counted before may be wrong.
    fn run(&mut self, after: i64, read: &Read) -> Result<bool, Error> {
        let from = Bound::Excluded((self.room, after.max(read.everything)));
        let to = Bound::Included((self.room, i64::MAX));
        let mut redaction = false;
        for row in self.view.range(tables::TIMELINE, from, to)?.rev().take(WALK_MAX) {
            let ((_, position), event) = row?;
            let event = rows::event(self.view, event)?;
            redaction |= event.header.redacts.is_some();
            if event.meta.redacted_by.is_none() && !self.event(position, &event, read)? {
                break;
            }
        }
        Ok(!redaction)
    }

    /// Counts one event; false when everything before it is read.
    fn event(&mut self, position: i64, event: &EventRow, read: &Read) -> Result<bool, Error> {
        let sender: &str = serde_json::from_str(event.header.sender.of(&event.json)).unwrap_or_default();
        let thread = threads::of(self.view, self.room, event)?;
        if sender == self.user.as_str() {
            self.answered.insert(thread);
            return Ok(!is_own_join(self.view, event)?);
        }
        let by_receipt = position <= read.up_to(thread.as_ref());
        if by_receipt || self.answered.contains(&thread) || self.ignores(sender) {
            return Ok(true);
        }
        if self.judge.is_none() {
            self.judge = Some(Judge::new(self.view, self.room, self.user)?);
        }
        if let Some(judge) = &self.judge {
            let verdict = judge.verdict(&self.rules, event);
            if verdict.notifies {
                let counts = self.found.of(thread);
                counts.notification += 1;
                counts.highlight += u64::from(verdict.highlights);
            }
        }
        Ok(true)
    }

    /// Puts the result on top of what was counted of the time before this walk.
    fn add_to(self, before: &mut Unread) {
        for thread in self.answered {
            *before.of(thread) = Counts::default();
        }
        let main = std::iter::once((None, self.found.main));
        for (thread, found) in main.chain(self.found.threads.into_iter().map(|(root, counts)| (Some(root), counts))) {
            let counts = before.of(thread);
            counts.notification += found.notification;
            counts.highlight += found.highlight;
        }
        before.threads.retain(|_, counts| *counts != Counts::default());
    }

    fn ignores(&self, sender: &str) -> bool {
        let Some(list) = &self.ignored else { return false };
        <&UserId>::try_from(sender).is_ok_and(|sender| list.ignored_users.contains_key(sender))
    }
}

/// Whether an event of the user's own is his join: nobody has unread events of the time before he joined.
fn is_own_join(view: View<'_>, event: &EventRow) -> Result<bool, Error> {
    let is_member = event.header.kind.of(&event.json) == "\"m.room.member\"";
    if !is_member || current::membership_of(event) != MembershipState::Join {
        return Ok(false);
    }
    let before = event.meta.replaces.map(|before| rows::event(view, before)).transpose()?;
    Ok(before.is_none_or(|before| current::membership_of(&before) != MembershipState::Join))
}

/// The last position of a room's timeline.
fn newest(view: View<'_>, room: RoomShort) -> Result<i64, Error> {
    let last = view.scan(tables::TIMELINE, (room,))?.next_back().transpose()?;
    Ok(last.map_or(0, |((_, position), _)| position))
}

/// Up to where a user has read, and the position of his newest receipt.
fn read(view: View<'_>, user: &UserId, room: RoomShort) -> Result<(Read, u64), Error> {
    let (mut read, mut newest) = (Read::default(), 0);
    for row in view.scan(tables::RECEIPTS, (room, user))? {
        let ((_, _, _, thread), row) = row?;
        newest = newest.max(row.position);
        let Some(position) = receipts::position_of(view, room, &row.event_id)? else { continue };
        let up_to = match thread.as_str() {
            "" => &mut read.everything,
            "main" => &mut read.main,
            root => match OwnedEventId::try_from(root) {
                Ok(root) => read.threads.entry(root).or_default(),
                Err(_) => continue,
            },
        };
        *up_to = position.max(*up_to);
    }
    Ok((read, newest))
}

const IGNORED: &str = "m.ignored_user_list";
/// Events looked at in one count: who has more unread than this sees this many.
const WALK_MAX: usize = 2000;
/// (user, room) pairs whose counts are kept, about 200 bytes each.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

#[cfg(test)]
mod tests;
