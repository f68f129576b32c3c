//! Invites by an address, through an identity server that the test plays.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use bytes::Bytes;
use http::{Request, StatusCode};
use millpond_node::config::Classic;
use ruma::{
    CanonicalJsonObject,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    classic::{named::named, tls::Authority},
    encryption::{key_pair, public},
    harness::{TestNode, TestUser},
    nodes::{Net, until},
    room::{escape, path},
};

/// What the identity server was asked, and whom it knows.
#[derive(Clone, Default)]
struct Identity {
    asked: Arc<Mutex<Vec<Value>>>,
    known: Arc<Mutex<Option<String>>>,
    key: Arc<Mutex<String>>,
    host: Arc<Mutex<String>>,
}

async fn lookup(State(it): State<Identity>, body: Bytes) -> String {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let hash = body["addresses"][0].as_str().unwrap().to_owned();
    it.asked.lock().unwrap().push(body);
    let mapping = it.known.lock().unwrap().clone();
    json!({ "mappings": mapping.map(|user| json!({ hash: user })).unwrap_or(json!({})) }).to_string()
}

async fn store(State(it): State<Identity>, body: Bytes) -> String {
    let body: Value = serde_json::from_slice(&body).unwrap();
    it.asked.lock().unwrap().push(body);
    let (key, host) = (it.key.lock().unwrap().clone(), it.host.lock().unwrap().clone());
    let key = json!({ "public_key": key, "key_validity_url": format!("http://{host}/valid") });
    json!({ "token": "sometoken", "public_keys": [key], "display_name": "b...@e..." }).to_string()
}

async fn public_key(State(it): State<Identity>) -> String {
    let key = it.key.lock().unwrap().clone();
    json!({ "public_key": key }).to_string()
}

/// An identity server, and its host.
async fn identity_server() -> (String, Identity) {
    let it = Identity::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    it.host.lock().unwrap().clone_from(&host);
    let routes = Router::new()
        .route(
            "/_matrix/identity/v2/hash_details",
            get(async || json!({ "algorithms": ["none", "sha256"], "lookup_pepper": "salt" }).to_string()),
        )
        .route("/_matrix/identity/v2/lookup", post(lookup))
        .route("/_matrix/identity/v2/store-invite", post(store))
        .route("/_matrix/identity/v2/pubkey/{id}", get(public_key))
        .route("/valid", get(async || json!({ "valid": true }).to_string()))
        .with_state(it.clone());
    tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
    (host, it)
}

/// An identity server, and a node that is told of it.
async fn with_identity_server() -> (TestNode, Identity) {
    let (host, it) = identity_server().await;
    let node = TestNode::with(|config| {
        config.classic = Some(Classic::new("pond.example".try_into().unwrap()));
        config.identity_server = Some(format!("http://{host}"));
        config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    });
    (node, it)
}

fn ask(it: &Identity) -> Value {
    let host = it.host.lock().unwrap().clone();
    json!({ "id_server": host, "id_access_token": "t", "medium": "email", "address": "Bob@Example.org" })
}

fn proof(user: &TestUser, key: &Ed25519KeyPair) -> CanonicalJsonObject {
    let signed = json!({ "mxid": user.id, "token": "sometoken" });
    let mut signed: CanonicalJsonObject = serde_json::from_value(signed).unwrap();
    sign_json("id.example", key, &mut signed).unwrap();
    signed
}

fn signed(inviter: &TestUser, proof: &CanonicalJsonObject) -> Value {
    let mut body = serde_json::to_value(proof).unwrap();
    body["sender"] = json!(inviter.id);
    json!({ "third_party_signed": body })
}

#[tokio::test]
async fn who_is_known_by_the_address_is_invited() {
    let (node, it) = with_identity_server().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    *it.known.lock().unwrap() = Some(bob.id.to_string());
    node.ok(node.post(&alice, path(&room, "invite"), ask(&it))).await;
    node.join(&bob, &room).await;
    let asked = it.asked.lock().unwrap().clone();
    // SHA-256 of "bob@example.org email salt": the address itself is not told.
    let body = json!({ "addresses": ["6bDNKYcvZMN8uBsz5mgArieiORBvY3Vdm_DfgARmMi8"], "algorithm": "sha256", "pepper": "salt" });
    assert_eq!(asked, [body]);
}

#[tokio::test]
async fn who_is_not_known_gets_a_token_and_enters_with_the_proof_of_it() {
    let (node, it) = with_identity_server().await;
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| node.user(name));
    let (alice, bob, eve) = (alice.await, bob.await, eve.await);
    let (key, other) = (key_pair("0"), key_pair("0"));
    *it.key.lock().unwrap() = public(&key);
    let room = node.room(&alice, json!({ "name": "Pond" })).await;
    node.ok(node.post(&alice, path(&room, "invite"), ask(&it))).await;
    let asked = it.asked.lock().unwrap()[1].clone();
    assert_eq!(
        (&asked["room_name"], &asked["address"], &asked["sender"]),
        (&json!("Pond"), &json!("Bob@Example.org"), &json!(alice.id))
    );
    let event = node.ok(node.get(&alice, path(&room, "state/m.room.third_party_invite/sometoken"))).await;
    assert_eq!((&event["display_name"], &event["public_key"]), (&json!("b...@e..."), &json!(public(&key))));

    node.fails(node.post(&bob, path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
    let forged = signed(&alice, &proof(&bob, &other));
    node.fails(node.post(&bob, path(&room, "join"), forged), 403, "M_FORBIDDEN").await;
    let right = signed(&alice, &proof(&bob, &key));
    node.fails(node.post(&eve, path(&room, "join"), right.clone()), 403, "M_FORBIDDEN").await;
    node.ok(node.post(&bob, path(&room, "join"), right)).await;
    let member =
        node.ok(node.get(&alice, path(&room, &format!("state/m.room.member/{}", escape(bob.id.as_str()))))).await;
    assert_eq!(member["membership"], "join");
}

#[tokio::test]
async fn a_room_is_made_with_invites_by_address_where_they_can_be_sent() {
    let (node, it) = with_identity_server().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    *it.known.lock().unwrap() = Some(bob.id.to_string());
    let room = node.room(&alice, json!({ "invite_3pid": [ask(&it)] })).await;
    node.join(&bob, &room).await;
    let create = "/_matrix/client/v3/createRoom";
    let overlay = json!({ "invite_3pid": [ask(&it)], "creation_content": { "org.millpond.federation": "overlay" } });
    node.fails(node.post(&alice, create, overlay), 403, "M_THREEPID_DENIED").await;
    let rooms = node.ok(node.get(&alice, "/_matrix/client/v3/joined_rooms")).await;
    assert_eq!(rooms["joined_rooms"], json!([room]), "a room whose invites cannot be sent is not made");
}

#[tokio::test]
async fn who_may_not_invite_asks_nobody_and_other_identity_servers_are_not_asked() {
    let (node, it) = with_identity_server().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat" })).await;
    node.fails(node.post(&bob, path(&room, "invite"), ask(&it)), 403, "M_FORBIDDEN").await;
    node.join(&bob, &room).await;
    node.fails(node.post(&bob, path(&room, "invite"), ask(&it)), 403, "M_FORBIDDEN").await;
    let mut elsewhere = ask(&it);
    elsewhere["id_server"] = json!("id.elsewhere.example");
    node.fails(node.post(&alice, path(&room, "invite"), elsewhere), 403, "M_SERVER_NOT_TRUSTED").await;
    let private = node.room(&alice, json!({ "creation_content": { "org.millpond.federation": "overlay" } })).await;
    node.fails(node.post(&alice, path(&private, "invite"), ask(&it)), 403, "M_THREEPID_DENIED").await;
    assert!(it.asked.lock().unwrap().is_empty());
    let without = TestNode::new();
    let carol = without.user("carol").await;
    let room = without.room(&carol, json!({})).await;
    without.fails(without.post(&carol, path(&room, "invite"), ask(&it)), 403, "M_THREEPID_DENIED").await;
}

#[tokio::test]
async fn an_address_that_was_bound_brings_the_invites_that_wait_for_it() {
    let (node, it) = with_identity_server().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (key, other) = (key_pair("0"), key_pair("0"));
    *it.key.lock().unwrap() = public(&key);
    let room = node.room(&alice, json!({})).await;
    node.ok(node.post(&alice, path(&room, "invite"), ask(&it))).await;
    let member = path(&room, &format!("state/m.room.member/{}", escape(bob.id.as_str())));
    let told = |mxid: &str, proof: &CanonicalJsonObject| {
        let invite = json!({ "medium": "email", "address": "bob@example.org", "mxid": mxid, "room_id": room,
            "sender": alice.id, "signed": proof });
        let body = json!({ "medium": "email", "address": "bob@example.org", "mxid": mxid, "invites": [invite] });
        let request = Request::put("/_matrix/federation/v1/3pid/onbind").body(body.to_string()).unwrap();
        crate::classic::answer(&node, request)
    };
    let (status, answer) = told(bob.id.as_str(), &proof(&bob, &other)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    let (status, answer) = told("@bob:elsewhere.example", &proof(&bob, &key)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    node.fails(node.get(&alice, &member), 404, "M_NOT_FOUND").await;
    let (status, answer) = told(bob.id.as_str(), &proof(&bob, &key)).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({})));
    assert_eq!(node.ok(node.get(&alice, &member)).await["membership"], "invite");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_a_user_of_another_server_is_turned_into_an_invite_where_the_invite_was_made() {
    let (host, it) = identity_server().await;
    let (net, authority) = (Net::default(), Authority::new());
    let place = authority.place().await;
    let name = place.name.clone();
    let configure = |config: &mut millpond_node::config::Config| {
        authority.named(config, &name);
        config.identity_server = Some(format!("http://{host}"));
    };
    let far = net.node_with(configure, vec![place.door()]).await;
    let here = named(&net, &authority).await;
    let (alice, bob, eve) = (far.user("alice").await, here.user("bob").await, here.user("eve").await);
    let (key, other) = (key_pair("0"), key_pair("0"));
    *it.key.lock().unwrap() = public(&key);
    let room = far.room(&alice, json!({ "preset": "private_chat" })).await;
    far.ok(far.post(&alice, path(&room, "invite"), ask(&it))).await;

    // A proof by another key, or for somebody else, is refused by the server that made the invite.
    let join = format!("/_matrix/client/v3/join/{}?via={}", escape(&room), escape(far.server().as_str()));
    here.fails(here.post(&bob, &join, signed(&alice, &proof(&bob, &other))), 403, "M_FORBIDDEN").await;
    here.fails(here.post(&eve, &join, signed(&alice, &proof(&bob, &key))), 403, "M_FORBIDDEN").await;
    here.ok(here.post(&bob, &join, signed(&alice, &proof(&bob, &key)))).await;
    far.until_membership(&bob, &room, "join").await;
    let token = path(&room, "state/m.room.third_party_invite/sometoken");
    let both = async || here.get(&bob, &token).await.0 == StatusCode::OK;
    until("the room is there", both).await;
    far.say(&alice, &room, "welcome").await;
    here.until_read(&bob, &room, "welcome").await;
}
