//! `/.well-known/matrix/client`, `support` and `policy_server`

use millpond_node::{Core, Error, federation::Federation};
use ruma::api::client::discovery::{discover_homeserver, discover_policy_server, discover_support};

use serde_json::json;

use crate::glue::{Args, Http, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(client);
    routes.add(support);
    routes.add(policy_server);
}

async fn client(core: Core, _: Args<discover_homeserver::Request>) -> Result<Http, Error> {
    let config = core.config();
    let mut body = json!({ "m.homeserver": { "base_url": config.client_base_url } });
    if let Some(server) = &config.identity_server {
        body["m.identity_server"] = json!({ "base_url": server });
    }
    // Where Element Call of before MSC4143's endpoint looks.
    let transports = super::rtc::configured(&core);
    if !transports.is_empty() {
        body["org.matrix.msc4143.rtc_foci"] = json!(transports);
    }
    Http::of(&body)
}

async fn support(core: Core, _: Args<discover_support::Request>) -> Result<discover_support::Response, Error> {
    let support = &core.config().support;
    let contacts = support.contacts();
    if contacts.is_empty() && support.page.is_none() {
        return Err(Error::not_found("The owner of this homeserver has not said how to reach him"));
    }
    let mut response = discover_support::Response::with_contacts(contacts);
    response.support_page.clone_from(&support.page);
    Ok(response)
}

async fn policy_server(
    federation: Federation,
    _: Args<discover_policy_server::Request>,
) -> Result<discover_policy_server::Response, Error> {
    let key = federation.policy_key().map_err(|error| match error {
        Error::Matrix { status, message, .. } if status.is_client_error() => Error::not_found(message),
        error => error,
    })?;
    Ok(discover_policy_server::Response::new(key))
}
