use std::collections::BTreeSet;

use millpond_store::{check::check, tables};
use ruma::{EventId, api::client::filter::RoomEventFilter};
use serde_json::{Value, json};

use super::*;
use crate::{
    media::Label,
    rooms::rows,
    testing::Room,
    timeline::{PageRequest, Timeline},
};

/// A room whose clock stands at one second, and a history service.
struct World {
    room: Room,
    history: History,
}

impl World {
    async fn new() -> Self {
        let room = Room::new().await;
        let history = History::new(room.core.clone(), Media::new(room.core.clone()));
        Self { room, history }
    }

    async fn bodies(&self) -> Vec<String> {
        let request = PageRequest {
            room_id: self.room.room_id.clone(),
            from: None,
            to: None,
            dir: ruma::api::Direction::Backward,
            limit: 100,
            filter: RoomEventFilter::default(),
        };
        let timeline = Timeline::new(self.room.core.clone());
        let page = timeline.page((&self.room.alice, "D".into()), request).await.unwrap();
        let page: Value = serde_json::from_slice(&page).unwrap();
        let events = page["chunk"].as_array().unwrap().clone();
        events.iter().filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    fn json(&self, event: &EventId) -> String {
        let snapshot = self.room.core.snapshot().unwrap();
        rows::event_by_id(snapshot.view(), event).unwrap().unwrap().1.json.into()
    }

    fn findings(&self) -> Vec<String> {
        check(self.room.core.snapshot().unwrap().view()).unwrap().findings
    }
}

#[tokio::test]
async fn a_purge_empties_messages_and_leaves_the_dag_and_the_state_whole() {
    let world = World::new().await;
    let first = world.room.say(&world.room.alice, "gone one").await;
    world.room.reply(&world.room.bob, &first, "gone two").await;
    let last = world.room.say(&world.room.bob, "gone three").await;
    let redacted = world.room.say(&world.room.bob, "gone before").await;
    world.room.redact(&world.room.bob, &redacted).await;
    let (state, extremities) = {
        let snapshot = world.room.core.snapshot().unwrap();
        let short = world.room.short();
        let state = snapshot.view().scan(tables::ROOM_STATE, (short,)).unwrap().count();
        (state, snapshot.view().scan(tables::EXTREMITIES, (short,)).unwrap().count())
    };
    let purged = world.history.purge(Some(&world.room.room_id), 1001).await.unwrap();
    assert_eq!(purged, Purged { events: 4, media: 0 });
    assert!(world.bodies().await.is_empty());
    for event in [&first, &last] {
        assert!(!world.json(event).contains("gone"), "{}", world.json(event));
    }
    assert!(world.findings().is_empty(), "{:?}", world.findings());
    {
        let snapshot = world.room.core.snapshot().unwrap();
        let short = world.room.short();
        assert_eq!(snapshot.view().scan(tables::ROOM_STATE, (short,)).unwrap().count(), state);
        assert_eq!(snapshot.view().scan(tables::EXTREMITIES, (short,)).unwrap().count(), extremities);
        assert!(!snapshot.view().any(tables::BACKWARD, (short,)).unwrap(), "nobody is asked for what was purged");
        assert!(!snapshot.view().any(tables::RELATIONS, (&*first,)).unwrap());
    }
    let timeline = Timeline::new(world.room.core.clone());
    let shown = timeline.event((&world.room.alice, "D".into()), &world.room.room_id, &first);
    assert_eq!(shown.unwrap_err().kind(), Some(&ruma::api::error::ErrorKind::NotFound));
    world.room.say(&world.room.bob, "goes on").await;
    assert_eq!(world.bodies().await, ["goes on"]);
    let again = world.history.purge(Some(&world.room.room_id), 1000).await.unwrap();
    assert_eq!(again, Purged::default(), "what was sent at the time itself stays");
}

#[tokio::test]
async fn files_go_with_the_last_message_that_shows_them() {
    let world = World::new().await;
    let upload = async |text: &'static [u8]| {
        let body = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(text))]);
        world.history.media.upload(&world.room.alice, Label::default(), None, body).await.unwrap()
    };
    let (lost, shown, twin) = (upload(b"lost").await, upload(b"shown").await, upload(b"lost too").await);
    for uri in [&lost, &shown, &twin] {
        world.room.send(&world.room.alice, json!({ "msgtype": "m.file", "body": "f", "url": uri })).await;
    }
    let show = millpond_store::job(|_| Ok::<_, Error>(()), {
        let (alice, shown) = (world.room.alice.clone(), shown.clone());
        move |(), txn| txn.put(tables::PROFILES, (&*alice, "avatar_url"), &format!("\"{shown}\""))
    });
    world.room.core.write(show).await.unwrap();
    let purged = world.history.purge(None, u64::MAX).await.unwrap();
    assert_eq!((purged.events, purged.media), (3, 2));
    let there = async |uri: &ruma::MxcUri| {
        let (server, media_id) = uri.parts().unwrap();
        world.history.media.download(server, media_id, Duration::ZERO).await.is_ok()
    };
    assert!(there(&shown).await && !there(&lost).await && !there(&twin).await);
}

#[tokio::test]
async fn a_room_says_how_long_messages_live_within_the_limits_of_the_settings() {
    let world = World::new().await;
    let lifetime = |settings: retention::Settings| {
        let snapshot = world.room.core.snapshot().unwrap();
        retention::lifetime_ms(snapshot.view(), &settings, world.room.short()).unwrap()
    };
    let plain = retention::Settings::default();
    assert_eq!(lifetime(plain), None);
    assert_eq!(lifetime(retention::Settings { default_ms: Some(9), ..plain }), Some(9));
    let (alice, room_id) = (&world.room.alice, &world.room.room_id);
    let policy = json!({ "max_lifetime": 500 }).to_string();
    world.room.rooms.send_state(alice, room_id, &"m.room.retention".into(), String::new(), &policy).await.unwrap();
    assert_eq!(lifetime(plain), Some(500));
    assert_eq!(lifetime(retention::Settings { min_ms: 800, ..plain }), Some(800));
    assert_eq!(lifetime(retention::Settings { by_room: false, ..plain }), None);
}

#[test]
fn addresses_of_files_are_found_in_any_json() {
    let found =
        media::files(r#"{"url":"mxc://a.b:80/Id-1_x","info":{"thumbnail_url":"mxc://c/d"},"body":"mxc:// mxc://e"}"#);
    let expected = [("a.b:80", "Id-1_x"), ("c", "d")].map(|(server, id)| (server.try_into().unwrap(), id.to_owned()));
    assert_eq!(found, BTreeSet::from(expected));
}
