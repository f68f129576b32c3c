//! Wake-ups: who waits for a topic is woken after a commit that touched it. A wake-up carries nothing; so
//! **register first, then read, then wait**, else a commit between the read and the wait is missed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::future::select_all;
use millpond_store::{Commit, Position, Topic};
use tokio::sync::{Notify, watch};

/// The registry of waiters.
#[derive(Clone)]
pub struct Notifier {
    waiting: Arc<Mutex<HashMap<Topic, Weak<Notify>>>>,
    position: Arc<watch::Sender<Position>>,
    touched: Arc<Mutex<Touched>>,
}

/// When each topic was touched last, since the first commit after the start.
#[derive(Default)]
struct Touched {
    /// The position of the first commit that was noted.
    first: Option<Position>,
    /// And of the last.
    last: Position,
    topics: HashMap<Topic, Position>,
}

impl Default for Notifier {
    fn default() -> Self {
        let position = Arc::new(watch::Sender::new(Position(0)));
        Self { waiting: Arc::default(), position, touched: Arc::default() }
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
        Registration { notifies }
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
            if matches!(topic, Topic::Room(_) | Topic::User(_)) {
                touched.topics.insert(topic.clone(), commit.position);
            }
        }
    }

    /// Whether each of these rooms and users was touched by a commit after one position and up to another; none if that is
    /// not known: the time before the start, and commits that a reader sees a moment before they are noted here.
    pub fn touched(
        &self,
        (after, up_to): (Position, Position),
        topics: impl IntoIterator<Item = Topic>,
    ) -> Option<Vec<bool>> {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.first.is_none_or(|first| first > after) || touched.last < up_to {
            return None;
        }
        let last = |topic| touched.topics.get(&topic).copied();
        Some(topics.into_iter().map(|topic| last(topic).is_some_and(|last| last > after)).collect())
    }

    /// Wakes those who wait for topics, without a commit (typing).
    pub fn wake(&self, topics: &[Topic]) {
        // The outbox looks at every commit; what it owes without one is as good as a commit.
        if topics.iter().any(|topic| matches!(topic, Topic::Outbox(_))) {
            self.position.send_modify(|_| {});
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
}

impl Registration {
    /// Waits until any of the topics is touched; may be dropped at any time.
    pub async fn changed(self) {
        if self.notifies.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.notifies).await;
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

    #[test]
    fn what_was_not_seen_is_not_called_untouched() {
        use millpond_store::rows::RoomShort;
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
}
