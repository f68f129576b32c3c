//! `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync` (MSC4186)

use std::time::Duration;

use millpond_node::{
    Error,
    presence::Presence,
    sync::{Sync, sliding},
};
use ruma::api::{
    IncomingRequest, Metadata, auth_scheme::AccessToken, client::sync::sync_events, error::DeserializationError,
    path_builder::SinglePath,
};
use ruma::presence::PresenceState;
use serde::Deserialize;

use crate::glue::{Args, Http};

pub(crate) async fn handler(sync: Sync, presence: Presence, args: Args<Request>) -> Result<Http, Error> {
    let (Request { mut asked, query }, sender) = (args.request, args.sender);
    let query = query.map_err(|e| Error::invalid_param(format!("The query is not as it should be: {e}")))?;
    asked.pos = query.pos.or(asked.pos);
    asked.timeout = query.timeout.map(Duration::from_millis).or(asked.timeout);
    let _there = presence.poll(&sender.user_id, &sender.device_id, query.set_presence)?;
    Ok(Http::json(sync.slide(&sender.user_id, &sender.device_id, asked).await?))
}

/// Our own form of the request: ruma's lacks filters, and the spelling of the proposal's text.
pub(crate) struct Request {
    asked: sliding::Request,
    query: Result<Query, String>,
}

impl Metadata for Request {
    const METHOD: http::Method = http::Method::POST;
    const RATE_LIMITED: bool = false;
    type Authentication = AccessToken;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync");
}

/// What clients of today send in the query; the proposal's text has it in the body.
#[derive(Deserialize)]
struct Query {
    pos: Option<String>,
    timeout: Option<u64>,
    #[serde(default)]
    set_presence: PresenceState,
}

impl IncomingRequest for Request {
    type EndpointError = <sync_events::v3::Request as IncomingRequest>::EndpointError;
    /// Not used: the handler answers with bytes.
    type OutgoingResponse = sync_events::v3::Response;

    fn try_from_http_request_inner(request: http::Request<&[u8]>, _: &[&str]) -> Result<Self, DeserializationError> {
        let query = axum::extract::Query::try_from_uri(request.uri()).map(|query| query.0).map_err(|e| e.to_string());
        let body = *request.body();
        Ok(Self { asked: serde_json::from_slice(if body.is_empty() { b"{}" } else { body })?, query })
    }
}
