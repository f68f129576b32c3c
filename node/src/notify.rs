//! Wake-ups: who waits for a topic is woken after a commit that touched it. A wake-up carries nothing; so
//! **register first, then read, then wait**, else a commit between the read and the wait is missed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::future::select_all;
use millpond_store::{Commit, Position, Topic, rows::RoomShort};
use ruma::OwnedUserId;
use tokio::sync::{Notify, watch};

/// The registry of waiters.
#[derive(Clone)]
pub struct Notifier {
    waiting: Arc<Mutex<HashMap<Topic, Weak<Notify>>>>,
    watches: Arc<Mutex<Vec<Weak<Watch>>>>,
    position: Arc<watch::Sender<Position>>,
    touched: Arc<Mutex<Touched>>,
}

/// Who waits for a user and all the rooms he is in: too many to register for one by one.
struct Watch {
    user: OwnedUserId,
    rooms: Arc<HashSet<RoomShort>>,
    notify: Arc<Notify>,
}

impl Watch {
    fn is_for(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Room(room) => self.rooms.contains(room),
            Topic::User(user) => *user == self.user,
            _ => false,
        }
    }
}

/// When each topic was touched last, since the first commit after the start.
#[derive(Default)]
struct Touched {
    /// The position of the first commit that was noted.
    first: Option<Position>,
    /// And of the last.
    last: Position,
    topics: HashMap<Topic, Position>,
    /// The rooms among them by that position.
    rooms: BTreeSet<(Position, RoomShort)>,
}

impl Touched {
    /// Whether everything that happened between two positions is known here.
    fn knows(&self, (after, up_to): (Position, Position)) -> bool {
        self.first.is_some_and(|first| first <= after) && self.last >= up_to
    }
}

impl Default for Notifier {
    fn default() -> Self {
        let position = Arc::new(watch::Sender::new(Position(0)));
        Self { waiting: Arc::default(), watches: Arc::default(), position, touched: Arc::default() }
    }
}

impl Notifier {
    /// Registers for topics; wake-ups after this call are not lost.
    pub fn register(&self, topics: impl IntoIterator<Item = Topic>) -> Registration {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notifies = Vec::new();
        for topic in topics {
            let known = waiting.get(&topic).and_then(Weak::upgrade);
            let notify = known.unwrap_or_else(|| {
                let fresh = Arc::new(Notify::new());
                waiting.insert(topic, Arc::downgrade(&fresh));
                fresh
            });
            notifies.push(Box::pin(notify.notified_owned()));
        }
        for notified in &mut notifies {
            notified.as_mut().enable();
        }
        Registration { notifies, watch: None }
    }

    /// Registers for a user and rooms, as [`Notifier::register`] and at the same price for any number of rooms.
    pub fn watch(&self, user: OwnedUserId, rooms: Arc<HashSet<RoomShort>>) -> Registration {
        let notify = Arc::new(Notify::new());
        let mut notified = Box::pin(notify.clone().notified_owned());
        notified.as_mut().enable();
        let watch = Arc::new(Watch { user, rooms, notify });
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        Registration { notifies: vec![notified], watch: Some(watch) }
    }

    /// Wakes those who wait for what a commit touched. Called on the writer's thread.
    pub fn commit(&self, commit: &Commit) {
        self.note(commit);
        self.position.send_replace(commit.position);
        self.wake(&commit.touched);
    }

    fn note(&self, commit: &Commit) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.first.get_or_insert(commit.position);
        touched.last = commit.position;
        for topic in &commit.touched {
            if !matches!(topic, Topic::Room(_) | Topic::User(_) | Topic::UserRooms(_)) {
                continue;
            }
            let before = touched.topics.insert(topic.clone(), commit.position);
            if let Topic::Room(room) = topic {
                touched.rooms.extend([(commit.position, *room)]);
                if let Some(before) = before.filter(|before| *before != commit.position) {
                    touched.rooms.remove(&(before, *room));
                }
            }
        }
    }

    /// Whether each of these rooms and users was touched by a commit after one position and up to another; none if that is
    /// not known: the time before the start, and commits that a reader sees a moment before they are noted here.
    pub fn touched(&self, span: (Position, Position), topics: impl IntoIterator<Item = Topic>) -> Option<Vec<bool>> {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |topic| touched.topics.get(&topic).copied();
        let is_touched = |topic| last(topic).is_some_and(|last| last > span.0);
        touched.knows(span).then(|| topics.into_iter().map(is_touched).collect())
    }

    /// The rooms that were touched, as [`Notifier::touched`] says it: as much work as there are of them.
    pub fn touched_rooms(&self, span: (Position, Position)) -> Option<HashSet<RoomShort>> {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let after = (Bound::Excluded((span.0, RoomShort(u64::MAX))), Bound::Unbounded);
        touched.knows(span).then(|| touched.rooms.range(after).map(|(_, room)| *room).collect())
    }

    /// Wakes those who wait for topics, without a commit (typing).
    pub fn wake(&self, topics: &[Topic]) {
        // The outbox looks at every commit; what it owes without one is as good as a commit.
        if topics.iter().any(|topic| matches!(topic, Topic::Outbox(_))) {
            self.position.send_modify(|_| {});
        }
        for watch in self.watches.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            if topics.iter().any(|topic| watch.is_for(topic)) {
                watch.notify.notify_waiters();
            }
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            match waiting.get(topic).map(Weak::upgrade) {
                Some(Some(notify)) => notify.notify_waiters(),
                Some(None) => drop(waiting.remove(topic)),
                None => {}
            }
        }
    }

    /// The position of the last commit since start, as it changes.
    pub fn positions(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }
}

/// A place in the line. Dropping it gives it up.
pub struct Registration {
    notifies: Vec<std::pin::Pin<Box<tokio::sync::futures::OwnedNotified>>>,
    /// Keeps the registration for many rooms alive.
    watch: Option<Arc<Watch>>,
}

impl Registration {
    /// Waits until any of the topics is touched; may be dropped at any time.
    pub async fn changed(self) {
        if self.notifies.is_empty() {
            return std::future::pending().await;
        }
        let Self { notifies, watch } = self;
        select_all(notifies).await;
        drop(watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_between_registration_and_wait_is_not_lost() {
        let notifier = Notifier::default();
        let waiting = notifier.register([Topic::Inbox]);
        notifier.wake(&[Topic::Inbox]);
        waiting.changed().await;
    }

    #[tokio::test]
    async fn a_watch_is_woken_by_its_user_and_its_rooms_and_by_no_others() {
        let (user, other) = (ruma::user_id!("@a:b.c"), ruma::user_id!("@d:b.c"));
        let rooms = Arc::new(HashSet::from([RoomShort(1), RoomShort(2)]));
        let notifier = Notifier::default();
        for topic in [Topic::Room(RoomShort(2)), Topic::User(user.to_owned())] {
            let waiting = notifier.watch(user.to_owned(), rooms.clone());
            notifier.wake(&[Topic::Inbox, topic]);
            waiting.changed().await;
        }
        let waiting = notifier.watch(user.to_owned(), rooms);
        notifier.wake(&[Topic::Room(RoomShort(3)), Topic::User(other.to_owned())]);
        assert!(futures::FutureExt::now_or_never(waiting.changed()).is_none());
        assert!(notifier.watches.lock().unwrap().iter().all(|watch| watch.strong_count() == 0));
    }

    #[test]
    fn what_was_not_seen_is_not_called_untouched() {
        let (one, other) = (Topic::Room(RoomShort(1)), Topic::Room(RoomShort(2)));
        let notifier = Notifier::default();
        let asked = |after, up_to| notifier.touched((Position(after), Position(up_to)), [one.clone(), other.clone()]);
        assert_eq!(asked(0, 0), None, "nothing was seen yet");
        notifier.commit(&Commit { position: Position(5), touched: vec![one.clone()] });
        notifier.commit(&Commit { position: Position(7), touched: vec![other.clone()] });
        assert_eq!(asked(4, 7), None, "from before the start");
        assert_eq!(asked(5, 8), None, "a commit that was not noted yet");
        assert_eq!(asked(5, 7), Some(vec![false, true]));
        assert_eq!(asked(7, 7), Some(vec![false, false]));
    }

    #[test]
    fn touched_rooms_are_those_of_later_commits_each_once() {
        let notifier = Notifier::default();
        for (position, room) in [(5, 1), (6, 2), (7, 1), (8, 3)] {
            let touched = vec![Topic::Room(RoomShort(room)), Topic::Room(RoomShort(room)), Topic::Inbox];
            notifier.commit(&Commit { position: Position(position), touched });
        }
        let asked = |after, up_to| notifier.touched_rooms((Position(after), Position(up_to)));
        assert_eq!(asked(4, 8), None, "from before the start");
        assert_eq!(asked(5, 9), None, "a commit that was not noted yet");
        assert_eq!(asked(6, 8), Some([1, 3].map(RoomShort).into()));
        assert_eq!(asked(5, 8), Some([1, 2, 3].map(RoomShort).into()));
        assert_eq!(asked(8, 8), Some(HashSet::new()));
        assert_eq!(notifier.touched.lock().unwrap().rooms.len(), 3);
    }
}
