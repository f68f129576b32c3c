//! `POST /_matrix/policy/v1/sign`

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::policy::sign_event::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(federation: Federation, args: Args<Request>) -> Result<Response, Error> {
    let (server, signature) = federation.recommend(&args.sender, args.request.pdu).await?;
    Ok(Response::new(server, signature))
}
