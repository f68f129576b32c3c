//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}` and `/3pid/onbind`

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::thirdparty::{
    bind_callback,
    exchange_invite::v1::{Request, Response},
};

use crate::glue::Args;

pub(crate) async fn handler(federation: Federation, args: Args<Request>) -> Result<Response, Error> {
    federation.exchange_third_party_invite(&args.sender, &args.request.room_id, &args.request).await?;
    Ok(Response::new())
}

pub(crate) async fn on_bind(
    federation: Federation,
    Args { request, .. }: Args<bind_callback::v1::Request>,
) -> Result<bind_callback::v1::Response, Error> {
    federation.on_bind(&request.mxid, request.invites).await?;
    Ok(bind_callback::v1::Response::new())
}
