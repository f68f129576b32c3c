//! `GET /_matrix/federation/v1/openid/userinfo`: for whoever holds an OpenID token of a user of ours.

use millpond_node::{Error, openid::OpenId};
use ruma::api::federation::openid::get_openid_userinfo::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(openid: OpenId, args: Args<Request>) -> Result<Response, Error> {
    Ok(Response::new(openid.user(&args.request.access_token)?))
}
