//! The push gateway API: what a gateway is told, and what it answers.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use millpond_store::rows::Pusher;
use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{Key, due::Due};
use crate::{
    Error,
    egress::{Egress, EgressError, Limits, Network, is_public},
};

/// What is told of an event.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<OwnedEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room_id: Option<OwnedRoomId>,
    #[serde(flatten)]
    pub(super) rest: Option<Rest>,
}

/// What a pusher with the format `event_id_only` spares itself.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rest {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) sender: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sender_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room_alias: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) user_is_target: bool,
    pub(super) prio: &'static str,
    pub(super) content: Box<RawValue>,
}

#[derive(Serialize)]
struct Body<'a> {
    notification: Notification<'a>,
}

#[derive(Serialize)]
struct Notification<'a> {
    #[serde(flatten)]
    event: &'a Event,
    counts: Counts,
    devices: [Device<'a>; 1],
}

#[derive(Serialize)]
struct Counts {
    /// Named even where it is zero: a badge is taken away by it.
    unread: u64,
}

#[derive(Serialize)]
struct Device<'a> {
    app_id: &'a str,
    pushkey: &'a str,
    /// Seconds since the epoch.
    pushkey_ts: u64,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Map::is_empty")]
    tweaks: &'a Map<String, Value>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    rejected: Vec<String>,
}

/// Why a gateway was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The pushkey is no good any more.
    #[error("the gateway rejects the pushkey")]
    Rejected,
    /// It could not be asked.
    #[error("the gateway could not be asked: {0}")]
    Egress(#[from] EgressError),
    /// It answered with another status than 200.
    #[error("the gateway answered {0}")]
    Status(u16),
    /// Its answer is not what the specification has.
    #[error("the gateway's answer is not understood")]
    Answer,
    /// Ours: nothing that can be sent.
    #[error("the notification could not be made: {0}")]
    Made(String),
}

/// Tells a gateway of an event, or of a changed count only.
pub(super) async fn tell(
    egress: &Egress,
    allow: &[Network],
    (key, pusher): (&Key, &Pusher),
    due: &Due,
    unread: u64,
) -> Result<(), Failure> {
    let made = |e: &dyn std::fmt::Display| Failure::Made(e.to_string());
    let data: Box<RawValue> = RawValue::from_string(pusher.data.clone()).map_err(|e| made(&e))?;
    let device = Device {
        app_id: &key.1,
        pushkey: &key.2,
        pushkey_ts: pusher.set_at_ms / 1000,
        data: &data,
        tweaks: &due.tweaks,
    };
    let notification = Notification { event: &due.event, counts: Counts { unread }, devices: [device] };
    let body = serde_json::to_vec(&Body { notification }).map_err(|e| made(&e))?;
    let request = Request::builder().method(Method::POST).uri(&pusher.url);
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body));
    let limits = Limits { https_only: !may_be_plain(&pusher.url, allow), ..LIMITS };
    let answer = egress.send(request.map_err(|e| made(&e))?, limits).await?;
    if !answer.status().is_success() {
        return Err(Failure::Status(answer.status().as_u16()));
    }
    let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| Failure::Answer)?;
    if answer.rejected.contains(&key.2) { Err(Failure::Rejected) } else { Ok(()) }
}

/// That a URL is one of a push gateway.
///
/// # Errors
/// 400 `M_INVALID_PARAM`.
pub(super) fn check_url(url: &str, allow: &[Network]) -> Result<(), Error> {
    let uri: Uri = url.parse().map_err(|_| Error::invalid_param("`data.url` is not a URL"))?;
    if uri.scheme_str() != Some("https") && !may_be_plain(url, allow) {
        return Err(Error::invalid_param("`data.url` must be an https URL"));
    }
    if let Some(address) = address(url)
        && !is_public(address)
        && !allow.iter().any(|network| network.contains(address))
    {
        return Err(Error::invalid_param("`data.url` is not on the public internet"));
    }
    if uri.path() != PATH {
        return Err(Error::invalid_param(format!("the path of `data.url` must be {PATH}")));
    }
    Ok(())
}

/// A gateway of the owner's own, at an address in a network that he has listed, may be spoken to without TLS.
fn may_be_plain(url: &str, allow: &[Network]) -> bool {
    let listed = |address| allow.iter().any(|network| network.contains(address));
    url.starts_with("http:") && address(url).is_some_and(listed)
}

/// The address that a URL names, if it names one.
fn address(url: &str) -> Option<IpAddr> {
    match url::Url::parse(url).ok()?.host()? {
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
        url::Host::Domain(_) => None,
    }
}

/// The path of every gateway (push gateway API).
const PATH: &str = "/_matrix/push/v1/notify";
/// A gateway answers with a list of keys.
const LIMITS: Limits = Limits { time: Duration::from_secs(20), body: 64 << 10, redirects: 0, https_only: true };
