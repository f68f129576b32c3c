//! `GET /_matrix/client/v3/auth/{auth_type}/fallback/web`: the page for a stage that a client cannot do by itself. Only single
//! sign-on needs one.

use millpond_node::{Core, Error};
use ruma::api::client::uiaa::{
    AuthType,
    get_uiaa_fallback_page::v3::{Request, Response},
};

use crate::{glue::Args, oauth::confirm};

pub(crate) async fn handler(core: Core, args: Args<Request>) -> Result<Response, Error> {
    let Request { auth_type, session, .. } = args.request;
    let config = core.config();
    if auth_type != AuthType::Sso || !config.single_sign_on {
        let message = format!("There is no page for {}: clients do this stage themselves", auth_type.as_str());
        return Err(Error::not_found(message));
    }
    Ok(Response::redirect(confirm::page_url(&config.client_base_url, &session)))
}
