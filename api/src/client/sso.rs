//! `GET /_matrix/client/v3/login/sso/redirect[/{idpId}]`: single sign-on is our own login page, if the owner has set
//! `single-sign-on`; there are no providers to choose from.

use millpond_node::{Core, Error};
use ruma::api::client::session::{
    SsoRedirectAction, sso_login,
    sso_login_with_provider::v3::{Request as WithProvider, Response as OfProvider},
};

use crate::{
    glue::{Args, Routes},
    oauth::sso,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(redirect);
    routes.add(redirect_to);
}

async fn redirect(core: Core, args: Args<sso_login::v3::Request>) -> Result<sso_login::v3::Response, Error> {
    let config = core.config();
    if !config.single_sign_on {
        return Err(Error::not_found("This homeserver has no single sign-on: log in by password or by OAuth 2.0"));
    }
    let sso_login::v3::Request { redirect_url, action, .. } = args.request;
    if sso::target(&redirect_url).is_none() {
        return Err(Error::invalid_param("`redirectUrl` is no address that a client can be at"));
    }
    let creates = matches!(action, Some(SsoRedirectAction::Register));
    Ok(sso_login::v3::Response::new(sso::page_url(&config.client_base_url, &redirect_url, creates)))
}

async fn redirect_to(_: Args<WithProvider>) -> Result<OfProvider, Error> {
    Err(Error::not_found("This homeserver has no identity providers to choose from"))
}
