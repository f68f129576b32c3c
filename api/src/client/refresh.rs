//! `POST /_matrix/client/v3/refresh`

use millpond_node::{Error, accounts::Accounts};
use ruma::api::client::session::refresh_token::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    let refreshed = accounts.refresh(&args.request.refresh_token, args.address).await?;
    let mut response = Response::new(refreshed.access_token);
    response.refresh_token = Some(refreshed.refresh_token);
    response.expires_in_ms = Some(refreshed.expires_in);
    Ok(response)
}
