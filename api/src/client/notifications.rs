//! `GET /_matrix/client/v3/notifications`

use millpond_node::{
    Error,
    notifications::{Notifications, Request as Ask},
};
use ruma::api::client::push::get_notifications::v3::Request;

use crate::glue::{Args, Http};

pub(crate) async fn handler(notifications: Notifications, args: Args<Request>) -> Result<Http, Error> {
    let (request, sender) = (args.request, args.sender);
    let highlights = match request.only.as_deref() {
        None | Some("") => false,
        Some("highlight") => true,
        Some(_) => return Err(Error::invalid_param("`only` can be highlight")),
    };
    let ask = Ask { from: request.from, limit: request.limit.map(u64::from), highlights };
    Ok(Http::json(notifications.page(&sender.user_id, &sender.device_id, ask).await?))
}
