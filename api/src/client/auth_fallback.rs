//! `GET /_matrix/client/v3/auth/{auth_type}/fallback/web`: the page for a stage that a client cannot do by itself: single
//! sign-on, and the terms for strangers.

use millpond_node::{Core, Error};
use ruma::api::client::uiaa::{
    AuthType,
    get_uiaa_fallback_page::v3::{Request, Response},
};

use crate::{
    glue::Args,
    oauth::{confirm, terms},
};

pub(crate) async fn handler(core: Core, args: Args<Request>) -> Result<Response, Error> {
    let Request { auth_type, session, .. } = args.request;
    let config = core.config();
    let path = match auth_type {
        AuthType::Sso if config.single_sign_on => confirm::PATH,
        AuthType::Terms if !config.registration_terms.is_empty() => terms::PATH,
        other => {
            let message = format!("There is no page for {}: clients do this stage themselves", other.as_str());
            return Err(Error::not_found(message));
        }
    };
    Ok(Response::redirect(confirm::page_url(&config.client_base_url, path, &session)))
}
