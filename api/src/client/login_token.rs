//! `POST /_matrix/client/v1/login/get_token`

use millpond_node::{
    Error,
    accounts::{Accounts, LOGIN_TOKEN_LIFETIME},
};
use ruma::api::client::session::get_login_token::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    accounts.confirm(&args.sender, args.request.auth.as_ref(), args.asked()).await?;
    Ok(Response::new(LOGIN_TOKEN_LIFETIME, accounts.login_token(&args.sender.user_id)))
}
