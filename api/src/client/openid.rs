//! `POST /_matrix/client/v3/user/{userId}/openid/request_token`

use millpond_node::{
    Core, Error,
    openid::{LIFETIME, OpenId},
};
use ruma::{
    api::client::account::request_openid_token::v3::{Request, Response},
    authentication::TokenType,
};

use crate::glue::Args;

pub(crate) async fn handler(openid: OpenId, core: Core, args: Args<Request>) -> Result<Response, Error> {
    let user = &args.sender.user_id;
    if *user != args.request.user_id {
        return Err(Error::forbidden(format!("you are {user}: a token for another user is not yours to have")));
    }
    let token = openid.issue(user).await?;
    Ok(Response::new(token, TokenType::Bearer, core.identity().server_name().to_owned(), LIFETIME))
}
