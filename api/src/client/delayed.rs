//! Delayed events (MSC4140): `PUT /rooms/{roomId}/delayed_event/{eventType}/{txnId}` and what is done to them later, under
//! the unstable prefix. Clients of today schedule through `/send` and `/state` with a delay in the query.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{Method, StatusCode, header::CONTENT_TYPE};
use millpond_node::{
    Error,
    accounts::Sender,
    delayed::{Action, DELAY_MAX, Delayed, Filter, Schedule},
    limits::{Kind, Limits},
};
use ruma::{
    OwnedRoomId,
    api::auth_scheme::{AccessToken, NoAccessToken},
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::glue::{Http, Plain, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    let schedule = "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room}/delayed_event/{type}/{txn}";
    routes.add_at(Method::PUT, &[schedule], put);
    let all = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";
    routes.add_at(Method::GET, &[all], page);
    let one = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{id}";
    routes.add_at(Method::GET, &[one], show);
    routes.add_at(Method::POST, &[one], act_by_body);
    let action = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{id}/{action}";
    routes.add_at(Method::POST, &[action], act);
}

/// What is to be sent later, by whichever endpoint.
pub(crate) struct Ask<'a> {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    pub(crate) txn_id: Option<String>,
    pub(crate) content: &'a str,
    pub(crate) delay: Duration,
}

/// The delay in the query of `/send` or `/state`, if there is one.
///
/// # Errors
/// 400 `M_INVALID_PARAM`.
pub(crate) fn delay(query: Option<&str>) -> Result<Option<Duration>, Error> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let delay = pairs.into_iter().find(|(name, _)| name == "org.matrix.msc4140.delay");
    let millis = delay.map(|(_, value)| value.parse().map(Duration::from_millis)).transpose();
    millis.map_err(|_| Error::invalid_param("the delay must be a positive number of milliseconds"))
}

/// Schedules an event.
///
/// # Errors
/// As [`Delayed::schedule`]; 403 for suspended accounts.
pub(crate) async fn schedule(delayed: &Delayed, sender: &Sender, ask: Ask<'_>) -> Result<Http, Error> {
    sender.active()?;
    if ask.delay > DELAY_MAX {
        return Ok(too_long("M_UNKNOWN"));
    }
    let schedule = Schedule {
        user: &sender.user_id,
        device: &sender.device_id,
        txn_id: ask.txn_id,
        room_id: &ask.room_id,
        kind: ask.kind,
        state_key: ask.state_key,
        content: ask.content,
        delay: ask.delay,
    };
    let delay_id = delayed.schedule(schedule).await?;
    Http::of(&json!({ "delay_id": delay_id }))
}

/// A delay that is too long. Clients that send through `/send` and `/state` know the code in a field of its own, which those
/// of the proposal's present text find as `errcode`.
fn too_long(errcode: &str) -> Http {
    let max_ms = u64::try_from(DELAY_MAX.as_millis()).unwrap_or(u64::MAX);
    let body = json!({
        "errcode": errcode,
        "org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED",
        "error": format!("The delay is longer than {max_ms} ms"),
        "org.matrix.msc4140.max_delay": max_ms,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Http(response)
}

#[derive(Deserialize)]
struct Put {
    delay: u64,
    state_key: Option<String>,
    content: Box<RawValue>,
}

async fn put(delayed: Delayed, limits: Limits, plain: Plain<AccessToken>) -> Result<Http, Error> {
    count(&limits, &plain)?;
    let body: Put = plain.body()?;
    let delay = Duration::from_millis(body.delay);
    if delay > DELAY_MAX {
        return Ok(too_long("ORG.MATRIX.MSC4140_MAX_DELAY_EXCEEDED"));
    }
    let ask = Ask {
        room_id: plain.path(0)?,
        kind: plain.path(1)?,
        txn_id: Some(plain.path(2)?),
        state_key: body.state_key,
        content: body.content.get(),
        delay,
    };
    schedule(&delayed, &plain.sender, ask).await
}

async fn page(delayed: Delayed, limits: Limits, plain: Plain<AccessToken>) -> Result<Http, Error> {
    count(&limits, &plain)?;
    let filter: Filter = plain.query()?;
    Ok(Http::json(delayed.page(&plain.sender.user_id, &filter)?))
}

async fn show(delayed: Delayed, limits: Limits, plain: Plain<AccessToken>) -> Result<Http, Error> {
    count(&limits, &plain)?;
    Ok(Http::json(delayed.one(&plain.sender.user_id, &plain.path::<String>(0)?)?))
}

#[derive(Deserialize)]
struct Act {
    action: String,
}

async fn act_by_body(delayed: Delayed, limits: Limits, plain: Plain<NoAccessToken>) -> Result<Http, Error> {
    let Act { action } = plain.body()?;
    update(&delayed, &limits, &plain, Action::parse(&action)?).await
}

async fn act(delayed: Delayed, limits: Limits, plain: Plain<NoAccessToken>) -> Result<Http, Error> {
    let action = Action::parse(&plain.path::<String>(1)?)?;
    update(&delayed, &limits, &plain, action).await
}

/// Who knows the id may do it, with or without an account.
async fn update(
    delayed: &Delayed,
    limits: &Limits,
    plain: &Plain<NoAccessToken>,
    action: Action,
) -> Result<Http, Error> {
    limits.take(Kind::Action, None, plain.address)?;
    delayed.act(&plain.path::<String>(0)?, action).await?;
    Ok(Http::json("{}"))
}

fn count(limits: &Limits, plain: &Plain<AccessToken>) -> Result<(), Error> {
    limits.take(Kind::Action, Some((&plain.sender.user_id, &plain.sender.device_id)), plain.address)
}
