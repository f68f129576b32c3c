//! `/.well-known/matrix/client`, `support` and `policy_server`

use millpond_node::{Core, Error};
use ruma::api::client::discovery::{
    discover_homeserver::{self, HomeserverInfo},
    discover_policy_server, discover_support,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(client);
    routes.add(support);
    routes.add(policy_server);
}

async fn client(core: Core, _: Args<discover_homeserver::Request>) -> Result<discover_homeserver::Response, Error> {
    let homeserver = HomeserverInfo::new(core.config().client_base_url.clone());
    Ok(discover_homeserver::Response::new(homeserver))
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

async fn policy_server(_: Args<discover_policy_server::Request>) -> Result<discover_policy_server::Response, Error> {
    Err(Error::not_found("This homeserver is not a policy server"))
}
