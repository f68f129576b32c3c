//! `GET /_matrix/client/v3/sync`

use millpond_node::{
    Error,
    presence::Presence,
    sync::{Request as Ask, Sync},
};
use ruma::api::client::sync::sync_events::v3::{Filter, Request};

use crate::glue::{Args, Http};

pub(crate) async fn handler(sync: Sync, presence: Presence, args: Args<Request>) -> Result<Http, Error> {
    let (request, sender) = (args.request, args.sender);
    let filter = match request.filter {
        None => Default::default(),
        Some(Filter::FilterDefinition(filter)) => filter,
        Some(Filter::FilterId(id)) if id.starts_with('{') => {
            return Err(Error::bad_json("`filter` is not a filter as the specification has it"));
        }
        Some(Filter::FilterId(id)) => sync.filter(&sender.user_id, &id)?,
        Some(_) => return Err(Error::invalid_param("`filter` is neither a filter nor the id of one")),
    };
    let _there = presence.poll(&sender.user_id, &sender.device_id, request.set_presence)?;
    let ask = Ask {
        since: request.since.filter(|since| !since.is_empty()),
        filter,
        full_state: request.full_state,
        timeout: request.timeout.unwrap_or_default(),
        use_state_after: request.use_state_after,
    };
    Ok(Http::json(sync.answer(&sender.user_id, &sender.device_id, ask).await?))
}
