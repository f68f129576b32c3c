//! Joins with a part of the state: a room is in use at once, its members come behind, and nobody is told in between what is not
//! known.

use std::time::Duration;

use http::StatusCode;
use millpond_node::peers::{PATIENCE, PeerError};
use millpond_store::check::check;
use ruma::{OwnedServerName, ServerName, api::federation::event::get_room_state_ids};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    evil_server::{Room, Server, resident},
    named::named,
    tls::Authority,
};
use crate::{
    harness::{TestNode, TestUser},
    nodes::{Net, Running, encoded, until},
};

const LAZY: &str = "%7B%22room%22%3A%7B%22state%22%3A%7B%22lazy_load_members%22%3Atrue%7D%7D%7D";

/// A node that takes and sends events, and completes rooms when it is told to.
struct Half {
    node: TestNode,
    name: OwnedServerName,
    dan: TestUser,
    _stop: DropGuard,
}

impl Half {
    async fn new(authority: &Authority) -> Self {
        let place = authority.place().await;
        let name = place.name.clone();
        let node = TestNode::live(|config| authority.named(config, &name));
        let stop = CancellationToken::new();
        tokio::spawn(millpond_api::serve(node.node.clone(), vec![place.door()], stop.clone()));
        let (inbox, outbox) = (node.node.inbox.clone(), node.node.outbox.clone());
        let (one, other) = (stop.clone(), stop.clone());
        tokio::spawn(async move { inbox.work(one).await.unwrap() });
        tokio::spawn(async move { outbox.pump(other).await.unwrap() });
        let dan = node.user("dan").await;
        Self { node, name, dan, _stop: stop.drop_guard() }
    }

    async fn join(&self, room: &str, via: &ServerName) {
        let path = format!("/_matrix/client/v3/join/{}?via={}", encoded(room), encoded(via.as_str()));
        self.node.ok(self.node.post(&self.dan, path, json!({}))).await;
    }

    async fn say(&self, room: &str, text: &str) {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", encoded(room), text.len());
        self.node.ok(self.node.put(&self.dan, path, json!({ "msgtype": "m.text", "body": text }))).await;
    }

    async fn texts(&self, room: &str) -> Vec<String> {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", encoded(room));
        let page = self.node.ok(self.node.get(&self.dan, path)).await;
        let events = page["chunk"].as_array().unwrap().iter();
        events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }

    async fn sync(&self, filter: &str, since: &str) -> Value {
        let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
        self.node.ok(self.node.get(&self.dan, format!("/_matrix/client/v3/sync?filter={filter}{since}"))).await
    }

    fn partial(&self) -> usize {
        self.node.node.inbox.completions().unwrap().len()
    }

    fn is_sound(&self) {
        let report = check(self.node.node.core.snapshot().unwrap().view()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// The ids of a room's state, sorted.
async fn state_ids(node: &TestNode, user: &TestUser, room: &str) -> Vec<String> {
    let state = node.ok(node.get(user, format!("/_matrix/client/v3/rooms/{}/state", encoded(room)))).await;
    let ids = state.as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned());
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

/// A room of some members who are all on one node, and one who is not in it.
async fn room_of_many(far: &Running) -> (String, Vec<TestUser>) {
    let ann = far.user("ann").await;
    let room = far.room(&ann, json!({ "preset": "public_chat", "name": "pond" })).await;
    let mut users = vec![ann];
    for name in ["ben", "cid", "eve", "fay"] {
        let user = far.user(name).await;
        far.ok(far.post(&user, format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({}))).await;
        users.push(user);
    }
    (room, users)
}

fn members_of(sync: &Value, room: &str) -> Vec<String> {
    let joined = &sync["rooms"]["join"][room];
    let parts = [&joined["state"]["events"], &joined["timeline"]["events"]];
    let events = parts.into_iter().filter_map(Value::as_array).flatten();
    let members = events.filter(|event| event["type"] == "m.room.member");
    let mut ids: Vec<_> = members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_in_use_before_its_members_are_here_and_whole_afterwards() {
    let (net, authority) = (Net::default(), Authority::new());
    let far = named(&net, &authority).await;
    let (room, users) = room_of_many(&far).await;
    let here = Half::new(&authority).await;
    let before = here.sync("%7B%7D", "").await["next_batch"].as_str().unwrap().to_owned();
    here.join(&room, &far.server()).await;
    assert_eq!(here.partial(), 1);
    here.is_sound();

    // Who loads members lazily has the room at once, others when it is whole.
    let lazy = here.sync(LAZY, "").await;
    assert!(lazy["rooms"]["join"][&room]["state"]["events"].as_array().unwrap().len() >= 5, "{lazy}");
    assert!(here.sync("%7B%7D", &before).await["rooms"]["join"][&room].is_null());
    assert!(here.sync("%7B%7D", "").await["rooms"]["join"][&room].is_null());

    // Both sides are heard, and of who speaks the member event comes with what he says.
    here.say(&room, "hello").await;
    far.until_read(&users[0], &room, "hello").await;
    far.say(&users[2], &room, "welcome").await;
    until("an event of somebody unknown is read", async || here.texts(&room).await.contains(&"welcome".to_owned()))
        .await;
    let news = here.sync(LAZY, lazy["next_batch"].as_str().unwrap()).await;
    assert!(members_of(&news, &room).contains(&users[2].id.to_string()), "{news}");

    // What takes all members waits, and other servers are sent elsewhere.
    let members = format!("/_matrix/client/v3/rooms/{}/members", encoded(&room));
    let waits = tokio::time::timeout(Duration::from_millis(300), here.node.get(&here.dan, &members)).await;
    assert!(waits.is_err(), "{waits:?}");
    let id = far.say(&users[1], &room, "last").await;
    let asked = get_room_state_ids::v1::Request::new(id.try_into().unwrap(), room.as_str().try_into().unwrap());
    let refused = far.node.peers.ask(&here.name, asked, PATIENCE).await;
    assert!(matches!(refused, Err(PeerError::Refused { status: 404, .. })), "{refused:?}");
    let user = format!("@zoe:{}", far.server()).try_into().unwrap();
    let mut asked = ruma::api::federation::membership::prepare_join_event::v1::Request::new(
        room.as_str().try_into().unwrap(),
        user,
    );
    asked.ver = vec![ruma::RoomVersionId::V12];
    let refused = far.node.peers.ask(&here.name, asked, PATIENCE).await;
    assert!(matches!(refused, Err(PeerError::Refused { status: 404, .. })), "{refused:?}");

    until("the last one is read", async || here.texts(&room).await.contains(&"last".to_owned())).await;
    assert!(here.node.node.inbox.complete_once().await.unwrap());
    assert_eq!(here.partial(), 0);
    here.is_sound();
    assert_eq!(state_ids(&here.node, &here.dan, &room).await, state_ids(&far, &users[0], &room).await);
    let all = here.node.ok(here.node.get(&here.dan, &members)).await;
    assert_eq!(all["chunk"].as_array().unwrap().len(), 6);
    // The one who was not told of the room gets it now with all members; a lazy one is not sent them.
    let plain = here.sync("%7B%7D", &before).await;
    assert_eq!(members_of(&plain, &room).len(), 6, "{plain}");
    assert_eq!(plain["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 6);
    let later = here.sync(LAZY, news["next_batch"].as_str().unwrap()).await;
    assert!(members_of(&later, &room).len() < 4, "{later}");
    assert!(later["device_lists"]["changed"].as_array().unwrap().len() >= 4, "{later}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_in_between_goes_on_when_it_starts() {
    let (net, authority) = (Net::default(), Authority::new());
    let far = named(&net, &authority).await;
    let (room, users) = room_of_many(&far).await;
    let here = Half::new(&authority).await;
    here.join(&room, &far.server()).await;
    far.say(&users[3], &room, "meanwhile").await;
    until("it is read", async || here.texts(&room).await.contains(&"meanwhile".to_owned())).await;
    let Half { node, dan, _stop, .. } = here;
    drop(_stop);
    let node = node.with_config(|_| {});
    assert_eq!(node.node.inbox.completions().unwrap().len(), 1);
    let supervisor = Box::pin(node.node.start()).await.unwrap();
    until("the room is whole", async || node.node.inbox.completions().unwrap().is_empty()).await;
    assert_eq!(state_ids(&node, &dan, &room).await, state_ids(&far, &users[0], &room).await);
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_between_has_left_and_may_come_back() {
    let (net, authority) = (Net::default(), Authority::new());
    let far = named(&net, &authority).await;
    let (room, users) = room_of_many(&far).await;
    let here = Half::new(&authority).await;
    here.join(&room, &far.server()).await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", encoded(&room));
    here.node.ok(here.node.post(&here.dan, leave, json!({}))).await;
    far.until_membership(&here.dan, &room, "leave").await;
    assert!(here.node.node.inbox.complete_once().await.unwrap());
    assert_eq!(here.partial(), 0);
    here.is_sound();
    let joined = here.node.ok(here.node.get(&here.dan, "/_matrix/client/v3/joined_rooms")).await;
    assert_eq!(joined["joined_rooms"], json!([]));

    here.join(&room, &far.server()).await;
    assert!(here.node.node.inbox.complete_once().await.unwrap());
    here.is_sound();
    assert_eq!(state_ids(&here.node, &here.dan, &room).await, state_ids(&far, &users[0], &room).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_banned_meanwhile_is_out_and_what_he_may_not_do_sets_nothing() {
    let (net, authority) = (Net::default(), Authority::new());
    let far = named(&net, &authority).await;
    let (room, users) = room_of_many(&far).await;
    let here = Half::new(&authority).await;
    here.join(&room, &far.server()).await;
    let ban = format!("/_matrix/client/v3/rooms/{}/ban", encoded(&room));
    far.ok(far.post(&users[0], ban, json!({ "user_id": users[4].id }))).await;
    far.say(&users[0], &room, "he is gone").await;
    until("it is read", async || here.texts(&room).await.contains(&"he is gone".to_owned())).await;
    assert!(here.node.node.inbox.complete_once().await.unwrap());
    let member =
        format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encoded(&room), encoded(users[4].id.as_str()));
    assert_eq!(here.node.ok(here.node.get(&here.dan, member)).await["membership"], "ban");
    here.is_sound();
    assert_eq!(state_ids(&here.node, &here.dan, &room).await, state_ids(&far, &users[0], &room).await);
}

/// A resident that answers joins with a part of the state, and then with this.
async fn in_part(
    then: impl Fn(&Server, &Room, &str, Value) -> Value + Send + Sync + 'static,
) -> (super::evil_server::Evil, String) {
    resident(move |server, room, path, mut json| {
        if path.contains("/send_join/") {
            let events = json["state"].as_array_mut().unwrap();
            events.retain(|event| event["type"] != "m.room.member");
            json["members_omitted"] = json!(true);
            json["servers_in_room"] = json!([server.stranger.name]);
            return json;
        }
        if path.contains("/state") { then(server, room, path, json) } else { json }
    })
    .await
}

async fn state_of(evil: &super::evil_server::Evil, room: &str, kind: &str) -> StatusCode {
    let path = format!("/_matrix/client/v3/rooms/{}/state/{kind}/", encoded(room));
    evil.node.get(&evil.alice, path).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_that_says_otherwise_later_takes_nothing_away() {
    // The state that it names now lacks the power levels that it let us in by.
    let (evil, room) = in_part(|_, room, path, mut json| {
        if path.contains("/state_ids/") {
            json["pdu_ids"].as_array_mut().unwrap().retain(|id| *id != json!(room.events[2].0));
        }
        json
    })
    .await;
    let (status, json, _) = evil.join(&room).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    assert!(evil.node.node.inbox.complete_once().await.unwrap());
    assert_eq!(state_of(&evil, &room, "m.room.power_levels").await, StatusCode::OK);
    let report = check(evil.node.node.core.snapshot().unwrap().view()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_rest_cannot_be_had_stays_in_use_and_is_tried_again() {
    type Lie = fn(&Server, &Room, &str, Value) -> Value;
    let lies: [Lie; 4] = [
        // An event that it does not give.
        |_, _, path, mut json| {
            if path.contains("/state_ids/") {
                json["pdu_ids"].as_array_mut().unwrap().push(json!("$31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"));
            }
            json
        },
        // No state at all.
        |_, _, _, _| json!({ "pdu_ids": [], "auth_chain_ids": [] }),
        // Two events for one entry.
        |server, room, path, mut json| {
            let mut second = room.events[2].1.clone();
            second["content"] = json!({ "users": {}, "ban": 1 });
            let (id, second) = server.stranger.sign(second);
            match path.contains("/state_ids/") {
                true => json["pdu_ids"].as_array_mut().unwrap().push(json!(id)),
                false => json["pdus"].as_array_mut().unwrap().push(second),
            }
            json
        },
        // Something else than an answer.
        |_, _, _, _| json!([7]),
    ];
    for lie in lies {
        let (evil, room) = in_part(lie).await;
        let (status, json, _) = evil.join(&room).await;
        assert_eq!(status, StatusCode::OK, "{json}");
        assert!(!evil.node.node.inbox.complete_once().await.unwrap());
        let left = evil.node.node.inbox.completions().unwrap();
        assert_eq!((left.len(), left[0].failed), (1, 1));
        let say = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", encoded(&room));
        evil.node.ok(evil.node.put(&evil.alice, say, json!({ "msgtype": "m.text", "body": "still here" }))).await;
        let report = check(evil.node.node.core.snapshot().unwrap().view()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}
