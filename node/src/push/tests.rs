use serde_json::json;

use super::*;
use crate::{
    account_data::AccountData,
    push_rules::PushRules,
    receipts::{Kind, Receipts},
    testing::Room,
};
use ruma::{EventId, events::receipt::ReceiptThread, push::RuleKind};

struct Reader {
    room: Room,
    push: Push,
}

impl Reader {
    async fn new() -> Self {
        Self { room: Room::new().await, push: Push::default() }
    }

    /// Bob's unread events; the kept count and a fresh one must agree.
    fn unread(&self) -> Unread {
        let snapshot = self.room.core.snapshot().unwrap();
        let unread = self.push.unread(snapshot.view(), &self.room.bob, self.room.short()).unwrap();
        assert_eq!(unread, Push::default().unread(snapshot.view(), &self.room.bob, self.room.short()).unwrap());
        unread
    }

    fn total(&self) -> (u64, u64) {
        let total = self.unread().total();
        (total.notification, total.highlight)
    }

    async fn read(&self, kind: Kind, event: &EventId, thread: ReceiptThread) {
        let receipts = Receipts::new(self.room.core.clone());
        receipts.set(&self.room.bob, &self.room.room_id, kind, event, thread).await.unwrap();
    }
}

#[tokio::test]
async fn messages_of_others_since_the_join_are_unread_until_the_receipt() {
    let reader = Reader::new().await;
    let room = &reader.room;
    assert_eq!(reader.total(), (0, 0));
    let first = room.say(&room.alice, "one").await;
    assert_eq!(reader.total(), (1, 0));
    let second = room.say(&room.alice, "two").await;
    assert_eq!(reader.total(), (2, 0));
    reader.read(Kind::Read, &first, ReceiptThread::Unthreaded).await;
    assert_eq!(reader.total(), (1, 0));
    reader.read(Kind::ReadPrivate, &second, ReceiptThread::Unthreaded).await;
    assert_eq!(reader.total(), (0, 0));
}

#[tokio::test]
async fn a_mention_is_highlighted_and_a_notice_is_silent() {
    let reader = Reader::new().await;
    let room = &reader.room;
    let mentions = json!({ "user_ids": [room.bob] });
    room.send(&room.alice, json!({ "msgtype": "m.text", "body": "hey", "m.mentions": mentions })).await;
    room.send(&room.alice, json!({ "msgtype": "m.notice", "body": "beep" })).await;
    assert_eq!(reader.total(), (1, 1));
}

#[tokio::test]
async fn who_may_not_notify_the_room_does_not() {
    let reader = Reader::new().await;
    let room = &reader.room;
    let snapshot = room.core.snapshot().unwrap();
    let mention = json!({ "msgtype": "m.text", "body": "all", "m.mentions": { "room": true } });
    room.send(&room.alice, mention.clone()).await;
    assert_eq!(reader.total(), (1, 1), "the creator of the room may");
    room.send(&room.bob, mention).await;
    drop(snapshot);
    let snapshot = room.core.snapshot().unwrap();
    let alices = reader.push.unread(snapshot.view(), &room.alice, room.short()).unwrap().total();
    assert_eq!((alices.notification, alices.highlight), (1, 0));
}

#[tokio::test]
async fn ones_own_event_reads_what_came_before() {
    let reader = Reader::new().await;
    let room = &reader.room;
    room.say(&room.alice, "one").await;
    assert_eq!(reader.total(), (1, 0));
    room.say(&room.bob, "two").await;
    assert_eq!(reader.total(), (0, 0));
    room.say(&room.alice, "three").await;
    assert_eq!(reader.total(), (1, 0));
}

#[tokio::test]
async fn threads_are_counted_and_read_apart() {
    let reader = Reader::new().await;
    let room = &reader.room;
    let root = room.say(&room.alice, "root").await;
    let reply = room.reply(&room.alice, &root, "in thread").await;
    let last = room.say(&room.alice, "main").await;
    let unread = reader.unread();
    assert_eq!((unread.main.notification, unread.threads[&root].notification), (2, 1));
    reader.read(Kind::Read, &last, ReceiptThread::Main).await;
    let unread = reader.unread();
    assert_eq!((unread.main.notification, unread.threads[&root].notification), (0, 1));
    reader.read(Kind::Read, &reply, ReceiptThread::Thread(root.clone())).await;
    assert_eq!(reader.unread(), Unread::default());
    room.reply(&room.alice, &root, "again").await;
    assert_eq!(reader.unread().threads[&root].notification, 1);
}

#[tokio::test]
async fn a_redacted_message_is_no_longer_unread() {
    let reader = Reader::new().await;
    let room = &reader.room;
    let event = room.say(&room.alice, "oops").await;
    assert_eq!(reader.total(), (1, 0));
    room.redact(&room.alice, &event).await;
    assert_eq!(reader.total(), (0, 0));
}

#[tokio::test]
async fn changed_rules_and_ignored_users_count_anew() {
    let reader = Reader::new().await;
    let room = &reader.room;
    room.say(&room.alice, "one").await;
    assert_eq!(reader.total(), (1, 0));
    let rules = PushRules::new(room.core.clone());
    rules.set_enabled(&room.bob, RuleKind::Override, ".m.rule.master".to_owned(), true).await.unwrap();
    assert_eq!(reader.total(), (0, 0));
    rules.set_enabled(&room.bob, RuleKind::Override, ".m.rule.master".to_owned(), false).await.unwrap();
    assert_eq!(reader.total(), (1, 0));
    let list = serde_json::value::to_raw_value(&json!({ "ignored_users": { room.alice.as_str(): {} } })).unwrap();
    AccountData::new(room.core.clone()).set(&room.bob, None, IGNORED, &list).await.unwrap();
    assert_eq!(reader.total(), (0, 0));
}
