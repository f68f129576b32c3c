//! What leaves by the classic route: of overlay rooms nothing, of classic rooms what it is for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use millpond_store::{job, tables};
use ruma::{OwnedServerName, RoomId, server_name};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    harness::TestNode,
    nodes::{encoded, until},
};

/// A server of which only the connections count.
async fn listener() -> (OwnedServerName, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = listener.local_addr().unwrap().to_string().try_into().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    (name, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_overlay_room_opens_no_classic_connection() {
    let (other, connections) = listener().await;
    let node = TestNode::live(|config| {
        config.classic = Some(millpond_node::config::Classic::new(server_name!("pond.example").to_owned()));
        config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let _running = node.node.start().await.unwrap();
    let alice = node.user("alice").await;
    let bob = format!("@bob:{other}");
    let overlay = json!({ "org.millpond.federation": "overlay" });
    let create = "/_matrix/client/v3/createRoom";

    let made =
        node.ok(node.post(&alice, create, json!({ "preset": "public_chat", "creation_content": overlay }))).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    // A member of the overlay room that only the classic route would reach: such a row comes from a link that is gone.
    let short = RoomId::parse(&room).unwrap();
    let short =
        millpond_node::rooms::rows::room_short(node.node.core.snapshot().unwrap().view(), &short).unwrap().unwrap();
    let member = other.clone();
    let write =
        job(|_| Ok::<_, millpond_node::Error>(()), move |(), txn| txn.put(tables::ROOM_SERVERS, (short, &*member), &1));
    node.node.core.write(write).await.unwrap();

    let in_room = |path: &str| format!("/_matrix/client/v3/rooms/{}{path}", encoded(&room));
    let invited = json!({ "user_id": bob });
    node.fails(node.post(&alice, in_room("/invite"), invited), 504, "M_UNKNOWN").await;
    let wanted = json!({ "invite": [bob], "creation_content": overlay });
    node.fails(node.post(&alice, create, wanted), 504, "M_UNKNOWN").await;
    let said =
        node.ok(node.put(&alice, in_room("/send/m.room.message/1"), json!({ "body": "x", "msgtype": "m.text" }))).await;
    let event = encoded(said["event_id"].as_str().unwrap());
    node.ok(node.post(&alice, in_room(&format!("/receipt/m.read/{event}")), json!({}))).await;
    let typing = in_room(&format!("/typing/{}", encoded(alice.id.as_str())));
    node.ok(node.put(&alice, typing, json!({ "typing": true, "timeout": 20_000 }))).await;
    node.ok(node.put(&alice, in_room(&format!("/redact/{event}/2")), json!({}))).await;
    let presence = format!("/_matrix/client/v3/presence/{}/status", encoded(alice.id.as_str()));
    node.ok(node.put(&alice, presence, json!({ "presence": "online", "status_msg": "here" }))).await;
    let keys = json!({ "display_name": "phone" });
    node.ok(node.put(&alice, format!("/_matrix/client/v3/devices/{}", alice.device_id), keys)).await;
    // Questions about people whom only an overlay room is shared with.
    node.ok(node.post(&alice, "/_matrix/client/v3/keys/query", json!({ "device_keys": { bob.as_str(): [] } }))).await;
    let claim = json!({ "one_time_keys": { bob.as_str(): { "PHONE": "signed_curve25519" } } });
    node.ok(node.post(&alice, "/_matrix/client/v3/keys/claim", claim)).await;
    let profile = format!("/_matrix/client/v3/profile/{}", encoded(&bob));
    for rest in ["", "/displayname"] {
        node.fails(node.get(&alice, format!("{profile}{rest}")), 403, "M_FORBIDDEN").await;
    }
    let file = format!("/_matrix/client/v1/media/download/{}/file", encoded(other.as_str()));
    assert_ne!(node.get(&alice, file).await.0, 200);
    node.ok(node.get(&alice, in_room("/messages?dir=b&limit=50"))).await;
    let hierarchy = format!("/_matrix/client/v1/rooms/{}/hierarchy", encoded(&room));
    node.ok(node.get(&alice, hierarchy)).await;
    node.ok(node.post(&alice, in_room("/leave"), json!({}))).await;
    let waiting = node.node.counts().unwrap().1;
    assert_eq!((connections.load(Ordering::Relaxed), waiting.len()), (0, 0), "{waiting:?}");

    // The same server is reached for a classic room, so the silence before was no accident.
    node.ok(node.post(&alice, create, json!({ "invite": [bob] }))).await;
    until("the invite is tried", async || connections.load(Ordering::Relaxed) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_goes_to_the_servers_of_classic_rooms() {
    let (other, connections) = listener().await;
    let node = TestNode::live(|config| {
        config.classic = Some(millpond_node::config::Classic::new(server_name!("pond.example").to_owned()));
        config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let _running = node.node.start().await.unwrap();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    crate::presence::seat(&node, &room, &format!("@bob:{other}")).await;
    assert_eq!((connections.load(Ordering::Relaxed), node.node.counts().unwrap().1.len()), (0, 0));
    let presence = format!("/_matrix/client/v3/presence/{}/status", encoded(alice.id.as_str()));
    node.ok(node.put(&alice, presence, json!({ "presence": "online" }))).await;
    until("the server is told", async || connections.load(Ordering::Relaxed) > 0).await;
}
