//! `GET /_matrix/client/v3/login/sso/redirect[/{idpId}]`: there is no identity provider to send anybody to.

use millpond_node::Error;
use ruma::api::client::session::{sso_login, sso_login_with_provider};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(redirect);
    routes.add(redirect_to);
}

async fn redirect(_: Args<sso_login::v3::Request>) -> Result<sso_login::v3::Response, Error> {
    Err(none())
}

async fn redirect_to(
    _: Args<sso_login_with_provider::v3::Request>,
) -> Result<sso_login_with_provider::v3::Response, Error> {
    Err(none())
}

fn none() -> Error {
    Error::not_found("This homeserver has no single sign-on: log in by password")
}
