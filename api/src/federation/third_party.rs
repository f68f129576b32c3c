//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::thirdparty::exchange_invite::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(federation: Federation, args: Args<Request>) -> Result<Response, Error> {
    federation.exchange_third_party_invite(&args.sender, &args.request.room_id, &args.request).await?;
    Ok(Response::new())
}
