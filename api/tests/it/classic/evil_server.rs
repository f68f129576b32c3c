//! A server over real TLS that says what a test wants, and one that is resident in a room and describes it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use millpond_matrix::signing::sign_json;
use ruma::{CanonicalJsonObject, serde::Base64};
use serde_json::{Value, json};

use super::{Stranger, tls::Authority};
use crate::{
    harness::{NOW_MS, TestNode, TestUser},
    nodes::encoded,
};

pub(super) type Answer = Box<dyn Fn(&str, &Value) -> Response<Bytes> + Send + Sync>;

/// The server, the node that asks it, and what was asked.
pub(super) struct Evil {
    pub(super) node: TestNode,
    pub(super) alice: TestUser,
    pub(super) server: Arc<Server>,
    _authority: Authority,
}

pub(super) struct Server {
    pub(super) stranger: Stranger,
    pub(super) answer: Mutex<Answer>,
    pub(super) asked: Mutex<Vec<String>>,
}

pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).unwrap()
}

pub(super) fn ok(json: &Value) -> Response<Bytes> {
    plain(StatusCode::OK, json.to_string())
}

impl Server {
    /// Its key document, good unless `change` makes it another one after it was signed.
    pub(super) fn document(&self, change: impl FnOnce(&mut Value)) -> Value {
        let public: Base64 = Base64::new(self.stranger.key.public_key().to_vec());
        let document = json!({ "server_name": self.stranger.name, "valid_until_ts": NOW_MS + 1_000_000,
            "verify_keys": { "ed25519:1": { "key": public } }, "old_verify_keys": {} });
        let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
        sign_json(self.stranger.name.as_str(), &self.stranger.key, &mut object).unwrap();
        let mut document = serde_json::to_value(object).unwrap();
        change(&mut document);
        document
    }

    fn reply(&self, path: &str, body: &Value) -> Response<Bytes> {
        self.asked.lock().unwrap().push(path.to_owned());
        (self.answer.lock().unwrap())(path, body)
    }

    /// Its user joins a room of a node.
    pub(super) async fn enter(&self, node: &TestNode, room: &str) {
        self.stranger.enter(node, room).await;
    }

    pub(super) fn was_asked(&self, part: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|path| path.contains(part))
    }
}

impl Server {
    /// A server that answers with its good key document, and with this.
    pub(super) async fn start(
        authority: &Authority,
        answer: impl Fn(&Server, &str, &Value) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let place = authority.place().await;
        let stranger = Stranger::new(place.name.as_str());
        let nothing: Answer = Box::new(|_, _| plain(StatusCode::NOT_FOUND, "{}"));
        let server = Arc::new(Server { stranger, answer: Mutex::new(nothing), asked: Mutex::default() });
        let itself = Arc::downgrade(&server);
        *server.answer.lock().unwrap() = Box::new(move |path, body| {
            let server = itself.upgrade().unwrap();
            match answer(&server, path, body) {
                Some(answer) => answer,
                None if path == "/_matrix/key/v2/server" => ok(&server.document(|_| {})),
                None => plain(StatusCode::NOT_FOUND, "{\"errcode\":\"M_NOT_FOUND\"}"),
            }
        });
        let (listener, acceptor) = place.bare();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let server = server.clone();
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await?.to_bytes();
                            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                            Ok::<_, hyper::Error>(server.reply(&path, &body).map(Full::new))
                        }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }
}

impl Evil {
    /// A node, and a server that answers with its good key document, and with this.
    pub(super) async fn new(
        answer: impl Fn(&Server, &str, &Value) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new();
        let server = Server::start(&authority, answer).await;
        let here = authority.place().await;
        let node = TestNode::with(|config| authority.named(config, &here.name));
        node.node.media.use_source(Arc::new(node.node.peers.clone()));
        let alice = node.user("alice").await;
        Self { node, alice, server, _authority: authority }
    }

    /// Alice tries to join a room of the server; gives the status and how long it took.
    pub(super) async fn join(&self, room: &str) -> (StatusCode, Value, Duration) {
        let begun = Instant::now();
        let via = &self.server.stranger.name;
        let path = format!("/_matrix/client/v3/join/{}?via={}", encoded(room), encoded(via.as_str()));
        let (status, json) = self.node.post(&self.alice, path, json!({})).await;
        (status, json, begun.elapsed())
    }

    /// That nothing of the room is here.
    pub(super) async fn nothing_of(&self, room: &str) {
        let joined = self.node.ok(self.node.get(&self.alice, "/_matrix/client/v3/joined_rooms")).await;
        assert_eq!(joined["joined_rooms"], json!([]));
        let state = format!("/_matrix/client/v3/rooms/{}/state", encoded(room));
        assert_ne!(self.node.get(&self.alice, state).await.0, StatusCode::OK);
    }

    pub(super) async fn is_refused(&self, room: &str) -> Value {
        let (status, json, took) = self.join(room).await;
        assert!(status.is_client_error() || status.is_server_error(), "{status} {json}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        self.nothing_of(room).await;
        json
    }
}

/// A room of the server: its create event, the creator's join, open join rules.
pub(super) struct Room {
    pub(super) id: String,
    pub(super) events: Vec<(String, Value)>,
}

pub(super) fn room(stranger: &Stranger) -> Room {
    let creator = stranger.user("m");
    let event = |kind: &str, key: &str, content: Value, depth: u64| {
        json!({ "type": kind, "state_key": key, "sender": creator, "origin_server_ts": NOW_MS, "content": content, "depth": depth,
            "prev_events": [], "auth_events": [] })
    };
    let create = stranger.sign(event("m.room.create", "", json!({ "room_version": "12" }), 1));
    let id = format!("!{}", &create.0[1..]);
    let mut events = vec![create];
    let rest = [
        ("m.room.member", creator.as_str(), json!({ "membership": "join" })),
        ("m.room.power_levels", "", json!({ "users": {} })),
        ("m.room.join_rules", "", json!({ "join_rule": "public" })),
    ];
    for (at, (kind, key, content)) in rest.into_iter().enumerate() {
        let mut next = event(kind, key, content, at as u64 + 2);
        next["room_id"] = json!(id);
        next["prev_events"] = json!([events.last().unwrap().0]);
        // The create event is implied from version 12 on.
        next["auth_events"] = events.iter().skip(1).take(2).map(|(id, _)| json!(id)).collect();
        events.push(stranger.sign(next));
    }
    Room { id, events }
}

impl Room {
    pub(super) fn template(&self, user: &str) -> Value {
        let auth: Vec<_> = [2, 3].map(|at: usize| self.events[at].0.clone()).into();
        json!({ "room_version": "12", "event": { "type": "m.room.member", "state_key": user, "sender": user, "room_id": self.id,
            "origin_server_ts": NOW_MS, "depth": 5, "content": { "membership": "join" },
            "prev_events": [self.events[3].0], "auth_events": auth } })
    }

    pub(super) fn described(&self) -> Value {
        let state: Vec<_> = self.events.iter().map(|(_, event)| event.clone()).collect();
        json!({ "state": state, "auth_chain": state, "origin": "x", "members_omitted": false })
    }
}

/// Answers joins into a room, where `change` may make something else of template and description.
pub(super) async fn resident(
    change: impl Fn(&Server, &Room, &str, Value) -> Value + Send + Sync + 'static,
) -> (Evil, String) {
    let rooms: Mutex<Option<Arc<Room>>> = Mutex::default();
    let evil = Evil::new(move |server, path, _| {
        let mut rooms = rooms.lock().unwrap();
        let room = rooms.get_or_insert_with(|| Arc::new(room(&server.stranger))).clone();
        let user = path.rsplit('/').next().unwrap().replace("%40", "@").replace("%3A", ":");
        let json = match path {
            path if path.contains("/make_join/") => room.template(&user),
            path if path.contains("/send_join/") => room.described(),
            path if path.contains("/state_ids/") => {
                let ids: Vec<_> = room.events.iter().map(|(id, _)| id).collect();
                json!({ "pdu_ids": ids, "auth_chain_ids": ids })
            }
            path if path.contains("/state/") => {
                let state = room.described()["state"].take();
                json!({ "pdus": state, "auth_chain": [] })
            }
            "/room" => json!(room.id),
            _ => return None,
        };
        Some(ok(&change(server, &room, path, json)))
    })
    .await;
    let answer = evil.server.reply("/room", &Value::Null);
    let id: String = serde_json::from_slice(answer.body()).unwrap_or_default();
    (evil, id)
}
