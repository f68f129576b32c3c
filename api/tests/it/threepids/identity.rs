//! A small identity server (identity service API v2), over HTTP: sessions, messages with tokens, bindings, and homeservers that
//! sign. It keeps to the specification and knows nothing of the node under test but the key that the node signs with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, Request, StatusCode};
use ruma::{
    api::federation::authentication::XMatrix,
    serde::Base64,
    signatures::{PublicKeyMap, verify_json},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The token of the node's owner, and one of a user.
pub const TOKENS: [&str; 2] = ["owners-token", "users-token"];

#[derive(Default)]
struct Known {
    sessions: BTreeMap<String, Session>,
    /// Messages that were sent: address and token.
    messages: Vec<(String, String)>,
    /// (medium, address) to user.
    bindings: BTreeMap<(String, String), String>,
    /// The homeserver's name and public key, as its key document would say.
    homeserver: Option<(String, String, Base64)>,
    unbinds: bool,
    /// It sends no messages to addresses of this kind.
    lacks: Option<&'static str>,
    asked_with: BTreeSet<String>,
}

struct Session {
    secret: String,
    medium: String,
    address: String,
    attempt: u64,
    token: String,
    validated: bool,
}

/// The server.
#[derive(Clone)]
pub struct IdentityServer {
    /// Host and port.
    pub host: String,
    known: Arc<Mutex<Known>>,
}

type It = State<Arc<Mutex<Known>>>;

impl IdentityServer {
    /// Starts it.
    pub async fn start() -> Self {
        let known: Arc<Mutex<Known>> = Arc::default();
        known.lock().unwrap().unbinds = true;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let base = "/_matrix/identity/v2";
        let routes = Router::new()
            .route(&format!("{base}/validate/email/requestToken"), post(email))
            .route(&format!("{base}/validate/msisdn/requestToken"), post(phone))
            .route(&format!("{base}/validate/email/submitToken"), post(submit))
            .route(&format!("{base}/validate/msisdn/submitToken"), post(submit))
            .route(&format!("{base}/3pid/getValidated3pid"), get(validated))
            .route(&format!("{base}/3pid/bind"), post(bind))
            .route(&format!("{base}/3pid/unbind"), post(unbind))
            .with_state(known.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { host, known }
    }

    /// The newest message to an address.
    pub fn message(&self, address: &str) -> Option<String> {
        let known = self.lock();
        known.messages.iter().rev().find(|(to, _)| to == address).map(|(_, token)| token.clone())
    }

    /// The number of messages.
    pub fn messages(&self) -> usize {
        self.lock().messages.len()
    }

    /// Who followed the link of the newest message to an address has validated it.
    pub fn follow_link(&self, address: &str) {
        let token = self.message(address).unwrap();
        self.lock().sessions.values_mut().find(|session| session.token == token).unwrap().validated = true;
    }

    /// Whose an address is shown to be.
    pub fn bound(&self, medium: &str, address: &str) -> Option<String> {
        self.lock().bindings.get(&(medium.to_owned(), address.to_owned())).cloned()
    }

    /// The key by which the homeserver is known.
    pub fn knows_homeserver(&self, name: &str, key_id: &str, key: Base64) {
        self.lock().homeserver = Some((name.to_owned(), key_id.to_owned(), key));
    }

    /// It does not take bindings back.
    pub fn keeps_bindings(&self) {
        self.lock().unbinds = false;
    }

    /// It has no endpoints for addresses of a kind.
    pub fn lacks(&self, medium: Option<&'static str>) {
        self.lock().lacks = medium;
    }

    /// The tokens that it was asked with.
    pub fn asked_with(&self) -> BTreeSet<String> {
        self.lock().asked_with.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }
}

fn error(status: u16, errcode: &str) -> Response {
    let body = json!({ "errcode": errcode, "error": format!("as the specification says: {errcode}") });
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

fn fine(body: &Value) -> Response {
    body.to_string().into_response()
}

/// The refusal of a caller who has no token of this server.
fn refusal(known: &mut Known, headers: &HeaderMap) -> Option<Response> {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = bearer.filter(|token| TOKENS.contains(token)) else {
        return Some(error(401, "M_UNAUTHORIZED"));
    };
    known.asked_with.insert(token.to_owned());
    None
}

async fn email(State(it): It, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let address = body["email"].as_str().unwrap().to_lowercase();
    if address.ends_with("@refused.example") {
        return error(400, "M_INVALID_EMAIL");
    }
    request_token(&it, &headers, &body, "email", address)
}

async fn phone(State(it): It, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["country"], "GB", "the only country that this server knows");
    let number = body["phone_number"].as_str().unwrap();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let address = match (number.starts_with('+'), digits.strip_prefix('0')) {
        (false, Some(rest)) => format!("44{rest}"),
        _ => digits,
    };
    request_token(&it, &headers, &body, "msisdn", address)
}

fn request_token(it: &Mutex<Known>, headers: &HeaderMap, body: &Value, medium: &str, address: String) -> Response {
    let mut known = it.lock().unwrap();
    if let Some(refusal) = refusal(&mut known, headers) {
        return refusal;
    }
    if known.lacks == Some(medium) {
        return error(404, "M_UNRECOGNIZED");
    }
    let secret = body["client_secret"].as_str().unwrap().to_owned();
    let attempt = body["send_attempt"].as_u64().unwrap();
    let same = |session: &Session| session.secret == secret && session.address == address;
    let found = known.sessions.iter().find(|(_, session)| same(session)).map(|(sid, _)| sid.clone());
    let sid = found.clone().unwrap_or_else(|| format!("s{}", known.sessions.len()));
    let token = format!("{}", 100_000 + known.sessions.len());
    let session = known.sessions.entry(sid.clone()).or_insert_with(|| Session {
        secret,
        medium: medium.to_owned(),
        address: address.clone(),
        attempt: 0,
        token,
        validated: false,
    });
    // A message is sent again only for a higher number.
    if attempt > session.attempt {
        session.attempt = attempt;
        let token = session.token.clone();
        known.messages.push((address, token));
    }
    fine(&json!({ "sid": sid }))
}

async fn submit(State(it): It, headers: HeaderMap, body: Bytes) -> Response {
    let mut known = it.lock().unwrap();
    if let Some(refusal) = refusal(&mut known, &headers) {
        return refusal;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    match known.sessions.get_mut(body["sid"].as_str().unwrap()).filter(|it| body["client_secret"] == it.secret) {
        Some(session) if body["token"] == session.token => {
            session.validated = true;
            fine(&json!({ "success": true }))
        }
        Some(_) => error(400, "M_TOKEN_INCORRECT"),
        None => error(404, "M_NO_VALID_SESSION"),
    }
}

async fn validated(State(it): It, Query(query): Query<BTreeMap<String, String>>, headers: HeaderMap) -> Response {
    let mut known = it.lock().unwrap();
    if let Some(refusal) = refusal(&mut known, &headers) {
        return refusal;
    }
    match known.sessions.get(&query["sid"]).filter(|session| session.secret == query["client_secret"]) {
        Some(Session { validated: true, medium, address, .. }) => {
            fine(&json!({ "medium": medium, "address": address, "validated_at": 1_700_000_000_123_u64 }))
        }
        Some(_) => error(400, "M_SESSION_NOT_VALIDATED"),
        None => error(404, "M_NO_VALID_SESSION"),
    }
}

async fn bind(State(it): It, headers: HeaderMap, body: Bytes) -> Response {
    let mut known = it.lock().unwrap();
    if let Some(refusal) = refusal(&mut known, &headers) {
        return refusal;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (sid, mxid) = (body["sid"].as_str().unwrap(), body["mxid"].as_str().unwrap().to_owned());
    match known.sessions.get(sid).filter(|session| body["client_secret"] == session.secret) {
        Some(Session { validated: true, medium, address, .. }) => {
            let (medium, address) = (medium.clone(), address.clone());
            let association =
                json!({ "medium": medium, "address": address, "mxid": mxid, "ts": 1, "not_before": 1, "not_after": 9 });
            known.bindings.insert((medium, address), mxid);
            fine(&association)
        }
        Some(_) => error(400, "M_SESSION_NOT_VALIDATED"),
        None => error(404, "M_NO_VALID_SESSION"),
    }
}

async fn unbind(State(it): It, request: Request<axum::body::Body>) -> Response {
    let mut known = it.lock().unwrap();
    let (parts, body) = request.into_parts();
    let bytes = futures::executor::block_on(axum::body::to_bytes(body, 1 << 16)).unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    if !known.unbinds {
        return (StatusCode::NOT_IMPLEMENTED, "no").into_response();
    }
    let host = parts.headers["host"].to_str().unwrap().to_owned();
    let mxid = body["mxid"].as_str().unwrap().to_owned();
    if !is_signed(&known, &parts, &body, &host)
        || known.homeserver.as_ref().is_none_or(|(name, ..)| !mxid.ends_with(name))
    {
        return error(403, "M_FORBIDDEN");
    }
    let text = |name: &str| body["threepid"][name].as_str().unwrap().to_owned();
    let key = (text("medium"), text("address"));
    if known.bindings.get(&key) == Some(&mxid) {
        known.bindings.remove(&key);
    }
    fine(&json!({}))
}

/// Whether a request is signed by the homeserver (server-server API, "Request Authentication").
fn is_signed(known: &Known, parts: &http::request::Parts, body: &Value, host: &str) -> bool {
    let Some((name, key_id, key)) = &known.homeserver else { return false };
    let claim = parts.headers.get("authorization").and_then(|claim| claim.to_str().ok()).unwrap_or_default();
    let Ok(claim) = XMatrix::parse(claim) else { return false };
    let signed = json!({
        "method": parts.method.as_str(), "uri": parts.uri.path(), "origin": name, "destination": host, "content": body,
        "signatures": { name: { key_id: claim.sig.encode() } },
    });
    let keys = PublicKeyMap::from([(name.clone(), [(key_id.clone(), key.clone())].into())]);
    claim.origin.as_str() == name
        && claim.key.as_str() == key_id
        && verify_json(&keys, &serde_json::from_value(signed).unwrap()).is_ok()
}
