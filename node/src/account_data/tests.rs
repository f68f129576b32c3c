use ruma::{room_id, user_id};
use serde_json::json;

use super::*;
use crate::testing;

fn raw(value: serde_json::Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(&value).unwrap()
}

fn changes(core: &Core, from: Position) -> Changes {
    since(core.snapshot().unwrap().view(), user_id!("@alice:here"), from).unwrap()
}

fn position(core: &Core) -> Position {
    core.snapshot().unwrap().view().position().unwrap()
}

#[tokio::test]
async fn what_is_set_is_read_back_and_another_user_sees_nothing_of_it() {
    let service = AccountData::new(testing::core());
    let (alice, room) = (user_id!("@alice:here"), room_id!("!r:here"));
    service.set(alice, None, "m.direct", &raw(json!({ "a": 1 }))).await.unwrap();
    service.set(alice, Some(room), "m.direct", &raw(json!({ "a": 2 }))).await.unwrap();
    assert_eq!(service.content(alice, None, "m.direct").unwrap().get(), r#"{"a":1}"#);
    assert_eq!(service.content(alice, Some(room), "m.direct").unwrap().get(), r#"{"a":2}"#);
    let other = service.content(user_id!("@bob:here"), None, "m.direct").unwrap_err();
    assert_eq!(other.kind(), Some(&ErrorKind::NotFound));
}

#[tokio::test]
async fn sync_gets_each_changed_type_once_with_its_newest_content() {
    let core = testing::core();
    let service = AccountData::new(core.clone());
    let (alice, room) = (user_id!("@alice:here"), room_id!("!r:here"));
    service.set(alice, None, "x.old", &raw(json!({}))).await.unwrap();
    let before = position(&core);
    for n in 0..3 {
        service.set(alice, None, "x.n", &raw(json!({ "n": n }))).await.unwrap();
    }
    service.set(alice, Some(room), "x.room", &raw(json!({}))).await.unwrap();
    let changed = changes(&core, before);
    assert_eq!(changed.global.len(), 1);
    assert_eq!(changed.global[0].json().get(), r#"{"content":{"n":2},"type":"x.n"}"#);
    assert_eq!(changed.rooms[room].len(), 1);
    assert!(changes(&core, position(&core)).global.is_empty());
    let kinds =
        |c: &Changes| c.global.iter().map(|e| e.get_field::<String>("type").unwrap().unwrap()).collect::<Vec<_>>();
    assert_eq!(kinds(&changes(&core, Position(0))), ["x.n", "x.old", "m.push_rules"]);
}

#[tokio::test]
async fn types_that_the_server_keeps_and_non_objects_are_refused() {
    let service = AccountData::new(testing::core());
    let alice = user_id!("@alice:here");
    for kind in ["m.push_rules", "m.fully_read"] {
        let error = service.set(alice, None, kind, &raw(json!({}))).await.unwrap_err();
        assert!(matches!(
            error,
            Error::Matrix { status: StatusCode::METHOD_NOT_ALLOWED, kind: ErrorKind::BadJson, .. }
        ));
    }
    for content in [json!([]), json!("text"), json!(null)] {
        let error = service.set(alice, None, "x.y", &raw(content)).await.unwrap_err();
        assert_eq!(error.kind(), Some(&ErrorKind::BadJson));
    }
    let error = service.set(alice, Some(room_id!("!r:here")), "m.tag", &raw(json!({ "tags": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), Some(&ErrorKind::BadJson));
}

#[tokio::test]
async fn tags_are_room_account_data() {
    let core = testing::core();
    let service = AccountData::new(core.clone());
    let (alice, room) = (user_id!("@alice:here"), room_id!("!r:here"));
    let mut info = TagInfo::new();
    info.order = Some(0.25);
    service.set_tag(alice, room, "m.favourite", info).await.unwrap();
    service.set_tag(alice, room, "u.work", TagInfo::new()).await.unwrap();
    service.remove_tag(alice, room, "u.work").await.unwrap();
    assert_eq!(service.tags(alice, room).unwrap().len(), 1);
    let content = service.content(alice, Some(room), "m.tag").unwrap();
    assert_eq!(content.get(), r#"{"tags":{"m.favourite":{"order":0.25}}}"#);
    assert_eq!(changes(&core, Position(0)).rooms[room].len(), 1);
    let long = service.set_tag(alice, room, &"x".repeat(256), TagInfo::new()).await.unwrap_err();
    assert_eq!(long.kind(), Some(&ErrorKind::InvalidParam));
}

#[tokio::test]
async fn a_change_wakes_the_user() {
    let core = testing::core();
    let waiting = core.notifier().register([Topic::User(user_id!("@alice:here").to_owned())]);
    AccountData::new(core).set(user_id!("@alice:here"), None, "x.y", &raw(json!({}))).await.unwrap();
    waiting.changed().await;
}
