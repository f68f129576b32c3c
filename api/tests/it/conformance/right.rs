//! A right request for each operation, and what must come of it. An operation that is not named in [`exception`] is asked
//! by Alice, with the defaults of [`variable`] in its path and an empty object as its body.

use bytes::Bytes;
use http::Method;
use millpond_node::accounts::NewDevice;
use serde_json::{Value, json};

use super::{
    stage::{PIXEL, Stage, backed_up, backup},
    table::{Auth, Operation},
};
use crate::{
    encryption::{cross_signing_key, self_named},
    harness::{REGISTRATION_TOKEN, TestUser},
    room::escape,
};

/// A request.
pub struct Ask {
    /// The path with its query.
    pub path: String,
    /// The access token.
    pub token: Option<String>,
    /// The body.
    pub body: Bytes,
    /// What must come of it.
    pub expected: Expected,
}

/// What must come of a right request.
#[derive(Clone, Debug)]
pub enum Expected {
    /// 200 with JSON of the specification's shape.
    Shape,
    /// 200 with something else than JSON.
    Bytes,
    /// This refusal, for which docs/api-coverage.md gives the reason.
    Refusal(u16, &'static str),
}

/// What differs from the defaults.
#[derive(Default)]
struct Exception {
    who: Option<TestUser>,
    query: String,
    variables: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    refusal: Option<(u16, &'static str)>,
    bytes: bool,
}

/// A right request.
pub async fn right(stage: &Stage, operation: &Operation) -> Ask {
    let exception = exception(stage, operation.id).await;
    let who = exception.who.unwrap_or_else(|| stage.alice.clone());
    let segments = operation.path.split('/').map(|segment| {
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return segment.to_owned();
        };
        let given = exception.variables.iter().find(|(given, _)| *given == name);
        escape(&given.map_or_else(|| variable(stage, &who, name), |(_, value)| value.clone()))
    });
    let path = segments.collect::<Vec<_>>().join("/") + &exception.query;
    Ask {
        path,
        token: (operation.auth != Auth::None).then(|| who.token.clone()),
        body: exception.body.unwrap_or_else(|| if operation.takes_json() { "{}".into() } else { Bytes::new() }),
        expected: match (exception.refusal, exception.bytes) {
            (Some((status, errcode)), _) => Expected::Refusal(status, errcode),
            (None, true) => Expected::Bytes,
            (None, false) => Expected::Shape,
        },
    }
}

/// Methods that a path takes beside those of the specification: older or unstable operations that clients use.
pub fn also_takes(id: &str, method: &Method) -> bool {
    // Scripts of the first public API send without a transaction id, below the path of those with one.
    matches!((id, method.as_str()), ("", _))
}

fn variable(stage: &Stage, who: &TestUser, name: &str) -> String {
    let (server, media_id) = stage.file.split_once('/').unwrap();
    match name {
        "roomId" | "roomIdOrAlias" => stage.room.clone(),
        "eventId" => stage.event.clone(),
        "userId" => who.id.to_string(),
        "deviceId" => who.device_id.to_string(),
        "roomAlias" => format!("#pond:{}", stage.node.server()),
        "txnId" => format!("gate{}", stage.fresh()),
        "eventType" => "m.room.message".to_owned(),
        "type" => "org.example.data".to_owned(),
        "filterId" => stage.filter.clone(),
        "serverName" => server.to_owned(),
        "mediaId" => media_id.to_owned(),
        "fileName" => "pixel.gif".to_owned(),
        "version" => "1".to_owned(),
        "sessionId" => "session".to_owned(),
        "keyName" => "displayname".to_owned(),
        "kind" => "content".to_owned(),
        "ruleId" => "tea".to_owned(),
        "receiptType" => "m.read".to_owned(),
        "relType" => "m.annotation".to_owned(),
        "tag" => "u.work".to_owned(),
        "protocol" => "irc".to_owned(),
        "idpId" | "appserviceId" | "networkId" => "some".to_owned(),
        other => panic!("no value for {{{other}}}"),
    }
}

fn body(json: Value) -> Exception {
    Exception { body: Some(json.to_string().into()), ..Exception::default() }
}

fn query(query: &str) -> Exception {
    Exception { query: format!("?{query}"), ..Exception::default() }
}

fn variables<const N: usize>(variables: [(&'static str, &str); N]) -> Exception {
    let variables = variables.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    Exception { variables, ..Exception::default() }
}

fn refusal(status: u16, errcode: &'static str) -> Exception {
    Exception { refusal: Some((status, errcode)), ..Exception::default() }
}

fn by(who: TestUser) -> Exception {
    Exception { who: Some(who), ..Exception::default() }
}

async fn exception(stage: &Stage, id: &str) -> Exception {
    if let Some(exception) = account(stage, id).await {
        return exception;
    }
    if let Some(exception) = room(stage, id).await {
        return exception;
    }
    data(stage, id).await.unwrap_or_default()
}

/// Accounts, logins, devices, keys.
async fn account(stage: &Stage, id: &str) -> Option<Exception> {
    Some(match id {
        "post3PIDs" | "add3PID" | "bind3PID" => Exception {
            body: body(json!({
                "three_pid_creds": { "client_secret": "s", "id_access_token": "t", "id_server": "x.example", "sid": "1" },
                "client_secret": "s", "id_access_token": "t", "id_server": "x.example", "sid": "1",
            }))
            .body,
            ..refusal(403, "M_THREEPID_DENIED")
        },
        "delete3pidFromAccount" | "unbind3pidFromAccount" => body(json!({ "medium": "email", "address": "a@x.example" })),
        "requestTokenTo3PIDEmail" | "requestTokenToRegisterEmail" | "requestTokenToResetPasswordEmail" => Exception {
            body: body(json!({ "client_secret": "s", "email": "a@x.example", "send_attempt": 1 })).body,
            ..refusal(403, "M_THREEPID_DENIED")
        },
        "requestTokenTo3PIDMSISDN" | "requestTokenToRegisterMSISDN" | "requestTokenToResetPasswordMSISDN" => Exception {
            body: body(json!({ "client_secret": "s", "country": "GB", "phone_number": "1", "send_attempt": 1 })).body,
            ..refusal(403, "M_THREEPID_DENIED")
        },
        "generateLoginToken" => body(json!({ "auth": stage.auth(&stage.alice) })),
        "registrationTokenValidity" => query("token=guess"),
        "deactivateAccount" => {
            let who = stage.spare_with_password().await;
            Exception { who: Some(who.clone()), ..body(json!({ "auth": stage.auth(&who) })) }
        }
        "changePassword" => {
            let who = stage.spare_with_password().await;
            Exception { who: Some(who.clone()), ..body(json!({ "auth": stage.auth(&who), "new_password": "other" })) }
        }
        "login" => body(stage.auth(&stage.alice)),
        "logout" | "logout_all" => by(stage.spare().await),
        "refresh" => {
            let new = NewDevice { refreshed: true, ..NewDevice::default() };
            let session = stage.node.node.accounts.open_session(&stage.alice.id, new).await.unwrap();
            body(json!({ "refresh_token": session.refresh_token }))
        }
        "register" => body(json!({
            "username": format!("new{}", stage.fresh()), "password": "secret",
            "auth": { "type": "m.login.registration_token", "token": REGISTRATION_TOKEN },
        })),
        "checkUsernameAvailability" => query("username=nobody"),
        "redirectToSSO" | "redirectToIdP" => {
            Exception { query: "?redirectUrl=http%3A%2F%2Flocalhost".to_owned(), ..refusal(404, "M_NOT_FOUND") }
        }
        "getWellknownPolicy" | "getWellknownSupport" => refusal(404, "M_NOT_FOUND"),
        "deleteDevices" | "deleteDevice" => {
            let who = stage.spare_with_password().await;
            let device = stage.node.device(&who).await.device_id;
            Exception {
                variables: vec![("deviceId", device.to_string())],
                who: Some(who.clone()),
                ..body(json!({ "auth": stage.auth(&who), "devices": [device] }))
            }
        }
        "getKeysChanges" => {
            let token = stage.node.token(&stage.alice).await;
            query(&format!("from={0}&to={0}", token.as_str().unwrap()))
        }
        "claimKeys" => body(json!({ "one_time_keys": {} })),
        "queryKeys" => body(json!({ "device_keys": { stage.alice.id.as_str(): [] } })),
        "uploadCrossSigningKeys" => {
            let who = stage.spare().await;
            let key = cross_signing_key(&who, "master", &self_named());
            Exception { who: Some(who), ..body(json!({ "master_key": key })) }
        }
        "getRoomKeys" | "getRoomKeysByRoomId" | "getRoomKeyBySessionId" | "deleteRoomKeys" | "deleteRoomKeysByRoomId"
        | "deleteRoomKeyBySessionId" => {
            let who = stage.spare().await;
            backup_of(stage, &who).await;
            Exception { who: Some(who), ..query("version=1") }
        }
        "putRoomKeys" => Exception {
            query: "?version=1".to_owned(),
            ..body(json!({ "rooms": { stage.room.as_str(): { "sessions": { "session": backed_up() } } } }))
        },
        "putRoomKeysByRoomId" => {
            Exception { query: "?version=1".to_owned(), ..body(json!({ "sessions": { "session": backed_up() } })) }
        }
        "putRoomKeyBySessionId" => Exception { query: "?version=1".to_owned(), ..body(backed_up()) },
        "postRoomKeysVersion" => Exception { who: Some(stage.spare().await), ..body(backup()) },
        "putRoomKeysVersion" => body(backup()),
        "deleteRoomKeysVersion" => {
            let who = stage.spare().await;
            backup_of(stage, &who).await;
            by(who)
        }
        "sendToDevice" => body(json!({ "messages": {} })),
        "getAdminLockUser" | "getAdminSuspendUser" | "getWhoIs" => variables([("userId", stage.bob.id.as_str())]),
        "setAdminLockUser" => {
            let target = stage.spare().await;
            Exception { variables: vec![("userId", target.id.to_string())], ..body(json!({ "locked": true })) }
        }
        "setAdminSuspendUser" => {
            let target = stage.spare().await;
            Exception { variables: vec![("userId", target.id.to_string())], ..body(json!({ "suspended": true })) }
        }
        _ => return None,
    })
}

async fn backup_of(stage: &Stage, who: &TestUser) {
    let node = &stage.node;
    node.ok(node.post(who, "/_matrix/client/v3/room_keys/version", backup())).await;
    let path = format!("/_matrix/client/v3/room_keys/keys/{}/session?version=1", escape(&stage.room));
    node.ok(node.put(who, path, backed_up())).await;
}

/// Rooms.
async fn room(stage: &Stage, id: &str) -> Option<Exception> {
    let on = |target: &TestUser| body(json!({ "user_id": target.id }));
    Some(match id {
        "getRoomEvents" => query("dir=b"),
        "getEventByTimestamp" => query("ts=0&dir=f"),
        "getRoomStateWithKey" => variables([("eventType", "m.room.name"), ("stateKey", "")]),
        "setRoomStateWithKey" => Exception {
            variables: vec![("eventType", "m.room.topic".to_owned()), ("stateKey", String::new())],
            ..body(json!({ "topic": "ducks" }))
        },
        "sendMessage" => body(json!({ "msgtype": "m.text", "body": "quack" })),
        "redactEvent" => {
            let event = stage.node.text(&stage.alice, &stage.room, "a mistake").await;
            variables([("eventId", &event)])
        }
        "createRoom" => body(json!({ "name": "Another" })),
        "setRoomVisibilityOnDirectory" => body(json!({ "visibility": "public" })),
        "setRoomAlias" => Exception {
            variables: vec![("roomAlias", format!("#puddle{}:{}", stage.fresh(), stage.node.server()))],
            ..body(json!({ "room_id": stage.room }))
        },
        "deleteRoomAlias" => {
            let alias = format!("#gone{}:{}", stage.fresh(), stage.node.server());
            let path = format!("/_matrix/client/v3/directory/room/{}", escape(&alias));
            stage.node.ok(stage.node.put(&stage.alice, path, json!({ "room_id": stage.room }))).await;
            variables([("roomAlias", &alias)])
        }
        "knockRoom" => {
            let knockable = json!({ "initial_state": [
                { "type": "m.room.join_rules", "content": { "join_rule": "knock" } },
            ] });
            let room = stage.node.room(&stage.alice, knockable).await;
            Exception { who: Some(stage.spare().await), ..variables([("roomIdOrAlias", &room)]) }
        }
        "ban" | "kick" => on(&stage.member().await),
        "unban" => {
            let target = stage.member().await;
            let path = crate::room::path(&stage.room, "ban");
            stage.node.ok(stage.node.post(&stage.alice, path, json!({ "user_id": target.id }))).await;
            on(&target)
        }
        "forgetRoom" => {
            let who = stage.member().await;
            stage.node.leave(&who, &stage.room).await;
            by(who)
        }
        "inviteUser" => on(&stage.spare().await),
        "inviteBy3PID" => Exception {
            body: body(json!({
                "medium": "email", "address": "a@x.example", "id_server": "x.example", "id_access_token": "t",
            }))
            .body,
            ..refusal(403, "M_THREEPID_DENIED")
        },
        "joinRoom" | "joinRoomById" => by(stage.spare().await),
        "leaveRoom" => by(stage.member().await),
        "upgradeRoom" => {
            let room = stage.node.public_room(&stage.alice).await;
            Exception { variables: vec![("roomId", room)], ..body(json!({ "new_version": "12" })) }
        }
        "getSpaceHierarchy" => variables([("roomId", &stage.space)]),
        "setTyping" => body(json!({ "typing": true, "timeout": 1000 })),
        "setReadMarker" => body(json!({ "m.fully_read": stage.event })),
        "reportRoom" | "reportEvent" => Exception { who: Some(stage.bob.clone()), ..body(json!({ "reason": "loud" })) },
        "reportUser" => {
            Exception { variables: vec![("userId", stage.bob.id.to_string())], ..body(json!({ "reason": "loud" })) }
        }
        "getEvents" => query("timeout=0"),
        "peekEvents" => query(&format!("timeout=0&room_id={}", escape(&stage.room))),
        "getMutualRooms" => query(&format!("user_id={}", escape(stage.bob.id.as_str()))),
        _ => return None,
    })
}

/// What users keep, media, the rest.
async fn data(stage: &Stage, id: &str) -> Option<Exception> {
    let file = |query: &str| Exception { query: query.to_owned(), bytes: true, ..Exception::default() };
    Some(match id {
        "setPresence" => body(json!({ "presence": "online" })),
        "postPusher" => body(json!({
            "kind": "http", "app_id": "org.example.app", "pushkey": "key", "app_display_name": "App",
            "device_display_name": "Phone", "lang": "en",
            "data": { "url": "https://push.example.org/_matrix/push/v1/notify" },
        })),
        "setProfileField" => body(json!({ "displayname": "Alice" })),
        "getProfileField" | "deleteProfileField" => {
            let path = format!("/_matrix/client/v3/profile/{}/m.tz", escape(stage.alice.id.as_str()));
            stage.node.ok(stage.node.put(&stage.alice, path, json!({ "m.tz": "Europe/Paris" }))).await;
            variables([("keyName", "m.tz")])
        }
        "searchUserDirectory" => body(json!({ "search_term": "bob" })),
        "getContentAuthed" | "getContentOverrideNameAuthed" => file(""),
        "getContentThumbnailAuthed" => file("?width=1&height=1"),
        "getContent" | "getContentOverrideName" => refusal(404, "M_NOT_FOUND"),
        "getContentThumbnail" => Exception { query: "?width=1&height=1".to_owned(), ..refusal(404, "M_NOT_FOUND") },
        "getUrlPreview" | "getUrlPreviewAuthed" => {
            Exception { query: "?url=https%3A%2F%2Fmatrix.org".to_owned(), ..refusal(403, "M_FORBIDDEN") }
        }
        "uploadContent" => Exception { body: Some(PIXEL.into()), ..Exception::default() },
        "uploadContentToMXC" => {
            let made = stage.node.ok(stage.node.post(&stage.alice, "/_matrix/media/v1/create", json!({}))).await;
            let (_, media_id) = made["content_uri"].as_str().unwrap().rsplit_once('/').unwrap();
            Exception { body: Some(PIXEL.into()), ..variables([("mediaId", media_id)]) }
        }
        "setPushRule" => body(json!({ "pattern": "tea", "actions": ["notify"] })),
        "setPushRuleActions" => body(json!({ "actions": ["notify"] })),
        "setPushRuleEnabled" => body(json!({ "enabled": true })),
        "deletePushRule" => {
            let rule = json!({ "pattern": "milk", "actions": [] });
            stage.node.ok(stage.node.put(&stage.alice, "/_matrix/client/v3/pushrules/global/content/milk", rule)).await;
            variables([("ruleId", "milk")])
        }
        "search" => body(json!({ "search_categories": { "room_events": { "search_term": "hello" } } })),
        "queryLocationByAlias" => {
            Exception { query: format!("?alias=%23pond%3A{}", stage.node.server()), ..refusal(404, "M_NOT_FOUND") }
        }
        "queryUserByID" => {
            let user = escape(stage.bob.id.as_str());
            Exception { query: format!("?userid={user}"), ..refusal(404, "M_NOT_FOUND") }
        }
        "queryLocationByProtocol" | "queryUserByProtocol" | "getProtocolMetadata" => refusal(404, "M_NOT_FOUND"),
        _ => return None,
    })
}
