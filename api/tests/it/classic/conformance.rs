//! The server-server operations of the specification (`tests/spec/endpoints.tsv`), each asked through the classic door: with a
//! wrong method, without a signature, and rightly. What is answered is held against the second table of `docs/api-coverage.md`.

use std::collections::BTreeMap;

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{answer, hostile::Shared};
use crate::{
    harness::{Answered, NOW_MS},
    nodes::encoded,
};

const TABLE: &str = include_str!("../../spec/endpoints.tsv");
const DOCUMENT: &str = include_str!("../../../../docs/api-coverage.md");
const V1: &str = "/_matrix/federation/v1";

struct Operation {
    method: Method,
    path: String,
    id: &'static str,
    is_signed: bool,
}

fn operations() -> Vec<Operation> {
    let mut lines = TABLE.lines();
    let columns: Vec<_> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let [api, method, path, id, auth] = ["api", "method", "path", "operation_id", "auth"].map(column);
    let rows = lines.map(|line| line.split('\t').collect::<Vec<_>>()).filter(|cells| cells[api] == "server-server");
    rows.map(|cells| Operation {
        method: cells[method].parse().unwrap(),
        path: cells[path].to_owned(),
        id: cells[id],
        is_signed: cells[auth] == "yes",
    })
    .collect()
}

/// What the document says: operation id to state and the third column.
fn listed() -> BTreeMap<String, (String, String)> {
    let (_, table) = DOCUMENT.split_once("## The server-server API").unwrap();
    let lines = table.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let id = cells[0].rsplit(' ').next().unwrap();
            (id.to_owned(), (cells[1].to_owned(), cells[2].to_owned()))
        })
        .collect()
}

#[test]
fn every_server_operation_is_listed_once_with_tests_that_exist() {
    let (operations, listed) = (operations(), listed());
    assert_eq!((operations.len(), listed.len()), (36, 36));
    for operation in operations {
        let (state, why) = &listed[operation.id];
        assert!(["works", "refuses", "not built yet"].contains(&state.as_str()), "{}: {state}", operation.id);
        for file in why.split(", ").filter(|_| state == "works") {
            let path = format!("{}/tests/it/{file}", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&path).exists(), "{}: {path}", operation.id);
        }
    }
}

/// The node, the other server, and what there is to ask about.
struct Stage {
    shared: Shared,
    event: String,
    media: String,
}

impl Stage {
    async fn new() -> Self {
        let shared = Shared::new().await;
        let (node, alice) = (&shared.node, &shared.alice);
        let said = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", encoded(&shared.room));
        let said = node.ok(node.put(alice, said, json!({ "msgtype": "m.text", "body": "x" }))).await;
        let alias = "/_matrix/client/v3/directory/room/%23pond%3Apond.example";
        node.ok(node.put(alice, alias, json!({ "room_id": shared.room }))).await;
        let name = "/_matrix/client/v3/profile/%40alice%3Apond.example/displayname";
        node.ok(node.put(alice, name, json!({ "displayname": "Alice" }))).await;
        let picture = image();
        let uploaded = node.raw(Method::POST, alice, "/_matrix/media/v3/upload?filename=x.png", picture).await.1;
        let media = uploaded["content_uri"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let event = said["event_id"].as_str().unwrap().to_owned();
        Self { shared, event, media }
    }

    /// The path of an operation with what it is about here.
    fn path(&self, operation: &Operation) -> String {
        let mallory = self.shared.mallory.user("m");
        let filled = [
            ("{roomId}", encoded(&self.shared.room)),
            ("{eventId}", encoded(&self.event)),
            ("{mediaId}", self.media.clone()),
            (
                "{userId}",
                encoded(if operation.path.contains("/make_") { &mallory } else { self.shared.alice.id.as_str() }),
            ),
            ("{serverName}", "pond.example".to_owned()),
            ("{queryType}", "weather".to_owned()),
            ("{txnId}", operation.id.to_owned()),
        ];
        filled.iter().fold(operation.path.clone(), |path, (name, value)| path.replace(name, value))
    }

    /// The query and the body of a right request.
    fn rest(&self, operation: &Operation) -> (String, Value) {
        let (event, alice) = (encoded(&self.event), self.shared.alice.id.as_str());
        match operation.id {
            "backfillRoom" => (format!("?v={event}&limit=2"), Value::Null),
            "getMissingPreviousEvents" => {
                (String::new(), json!({ "earliest_events": [], "latest_events": [self.event], "limit": 5 }))
            }
            "getContentThumbnail" => ("?width=8&height=8".to_owned(), Value::Null),
            "claimUserEncryptionKeys" => {
                (String::new(), json!({ "one_time_keys": { alice: { "X": "signed_curve25519" } } }))
            }
            "queryUserEncryptionKeys" => (String::new(), json!({ "device_keys": { alice: [] } })),
            "makeJoin" | "makeKnock" => ("?ver=12".to_owned(), Value::Null),
            "queryPublicRooms" => (String::new(), json!({ "limit": 5 })),
            "queryRoomDirectory" => ("?room_alias=%23pond%3Apond.example".to_owned(), Value::Null),
            "queryProfile" => (format!("?user_id={}", encoded(alice)), Value::Null),
            "getRoomState" | "getRoomStateIds" => (format!("?event_id={event}"), Value::Null),
            "getEventByTimestamp" => (format!("?ts={NOW_MS}&dir=b"), Value::Null),
            "bulkPerspectivesKeyQuery" => (String::new(), json!({ "server_keys": { "pond.example": {} } })),
            "exchangeOpenIdToken" => ("?access_token=nobodys".to_owned(), Value::Null),
            "onBindThirdPartyIdentifier" => {
                (String::new(), json!({ "medium": "email", "address": "a@b.example", "mxid": alice, "invites": [] }))
            }
            "sendTransaction" => {
                let origin = &self.shared.mallory.name;
                (String::new(), json!({ "origin": origin, "origin_server_ts": NOW_MS, "pdus": [], "edus": [] }))
            }
            "sendInviteV1" | "sendInviteV2" | "askPolicyServerToSign" | "exchangeThirdPartyInvite" => {
                (String::new(), json!({}))
            }
            _ => (String::new(), Value::Null),
        }
    }

    async fn ask(&self, operation: &Operation, method: Method, path: &str, body: &Value) -> Answered {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        match operation.is_signed {
            true => {
                let request = self.shared.mallory.request(
                    self.shared.node.node.core.identity().server_name(),
                    method,
                    path,
                    &text,
                );
                answer(&self.shared.node, request).await
            }
            false => answer(&self.shared.node, Request::builder().method(method).uri(path).body(text).unwrap()).await,
        }
    }

    /// Knocks, leaves and joins: their templates, signed and brought back.
    async fn bring(&self, operation: &Operation) -> Answered {
        let shared = &self.shared;
        let (make, send) = match operation.id {
            "sendJoinV2" => ("make_join", "v2/send_join"),
            "sendKnock" => ("make_knock", "v1/send_knock"),
            _ => ("make_leave", "v2/send_leave"),
        };
        let user = shared.mallory.user(match make {
            "make_leave" => "m",
            "make_knock" => "knocks",
            _ => "joins",
        });
        if make == "make_knock" {
            let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.join_rules/", encoded(&shared.room));
            shared.node.ok(shared.node.put(&shared.alice, path, json!({ "join_rule": "knock" }))).await;
        }
        let room = encoded(&shared.room);
        let path = format!("{V1}/{make}/{room}/{}?ver=12", encoded(&user));
        let (status, made) = shared.mallory.get(&shared.node, &path).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let (id, event) = shared.mallory.sign(made["event"].clone());
        let path = format!("/_matrix/federation/{send}/{room}/{}", encoded(&id));
        shared.mallory.ask(&shared.node, Method::PUT, &path, event).await
    }
}

/// A picture of 16 by 16 pixels.
fn image() -> Vec<u8> {
    let gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
    gif.to_vec()
}

/// The status of a right request, and a field of its answer.
fn expected(id: &str) -> (u16, &'static str) {
    match id {
        "backfillRoom" | "getEvent" => (200, "pdus"),
        "getMissingPreviousEvents" => (200, "events"),
        "getContent" | "getContentThumbnail" => (200, ""),
        "getUserDevices" => (200, "devices"),
        "claimUserEncryptionKeys" => (200, "one_time_keys"),
        "queryUserEncryptionKeys" => (200, "device_keys"),
        "makeJoin" | "makeLeave" => (200, "room_version"),
        // The room is public: there is nothing to knock at.
        "makeKnock" => (403, "errcode"),
        "sendJoinV2" => (200, "auth_chain"),
        "sendKnock" => (200, "knock_room_state"),
        "getEventAuth" => (200, "auth_chain"),
        "getPublicRooms" | "queryPublicRooms" => (200, "chunk"),
        "queryRoomDirectory" => (200, "room_id"),
        "queryProfile" => (200, "displayname"),
        "getRoomState" => (200, "pdus"),
        "getRoomStateIds" => (200, "pdu_ids"),
        "getEventByTimestamp" => (200, "event_id"),
        "getVersion" => (200, "server"),
        "bulkPerspectivesKeyQuery" | "perspectivesKeyQuery" => (200, "server_keys"),
        "getServerKey" => (200, "verify_keys"),
        "getSpaceHierarchy" => (200, "room"),
        "sendTransaction" => (200, "pdus"),
        // No delegation and no identity server are configured, and the request has no event.
        "getWellKnown" => (404, "errcode"),
        // It is no policy server unless its owner says so.
        "askPolicyServerToSign" => (404, "errcode"),
        "onBindThirdPartyIdentifier" => (403, "errcode"),
        "sendInviteV2" | "exchangeThirdPartyInvite" => (400, "errcode"),
        "exchangeOpenIdToken" => (401, "errcode"),
        _ => (200, ""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_operation_answers_as_it_is_listed() {
    let stage = Stage::new().await;
    let (mut operations, listed) = (operations(), listed());
    // Who leaves comes last.
    operations.sort_by_key(|operation| match operation.id {
        "sendKnock" => 1,
        "sendLeaveV2" => 2,
        _ => 0,
    });
    let mut complaints = Vec::new();
    for operation in &operations {
        let path = stage.path(operation);
        let (state, _) = &listed[operation.id];
        if state != "not built yet" && operation.id != "askPolicyServerToSign" && operation.id != "queryInfo" {
            let (status, json) = stage.ask(operation, Method::PATCH, &path, &Value::Null).await;
            if (status.as_u16(), json["errcode"].as_str()) != (405, Some("M_UNRECOGNIZED")) {
                complaints.push(format!("{} with PATCH: {status} {json}", operation.id));
            }
            if operation.is_signed {
                let bare =
                    Request::builder().method(operation.method.clone()).uri(&path).body("{}".to_owned()).unwrap();
                let (status, json) = answer(&stage.shared.node, bare).await;
                if (status.as_u16(), json["errcode"].as_str()) != (401, Some("M_UNAUTHORIZED")) {
                    complaints.push(format!("{} without a signature: {status} {json}", operation.id));
                }
            }
        }
        let (query, body) = stage.rest(operation);
        let (status, json) = match operation.id {
            "sendJoinV2" | "sendKnock" | "sendLeaveV2" => stage.bring(operation).await,
            _ => stage.ask(operation, operation.method.clone(), &format!("{path}{query}"), &body).await,
        };
        let (wanted, field) = match (state.as_str(), operation.id) {
            ("refuses", "sendInviteV1") => (400, "errcode"),
            ("refuses" | "not built yet", _) => (404, "errcode"),
            _ => expected(operation.id),
        };
        if status.as_u16() != wanted || (!field.is_empty() && json.get(field).is_none()) {
            complaints.push(format!("{}: expected {wanted} with {field:?}, got {status} {json}", operation.id));
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}
