//! `/_synapse/admin/v1/register`: accounts for tools that know the shared secret, as Synapse documents it.

use http::Method;
use millpond_node::{
    Core, Error,
    accounts::{Accounts, NewDevice, SharedSecretRegistration},
    profile::Profiles,
};
use ruma::{api::auth_scheme::NoAuthentication, profile::ProfileFieldValue};
use serde::Deserialize;
use serde_json::json;

use crate::glue::{Http, Plain, Routes};

const PATHS: [&str; 1] = ["/_synapse/admin/v1/register"];

pub(crate) fn routes(routes: &mut Routes) {
    routes.add_at(Method::GET, &PATHS, nonce);
    routes.add_at(Method::POST, &PATHS, register);
}

async fn nonce(accounts: Accounts, _: Plain<NoAuthentication>) -> Result<Http, Error> {
    Http::of(&json!({ "nonce": accounts.registration_nonce()? }))
}

#[derive(Deserialize)]
struct Body {
    nonce: String,
    username: String,
    password: String,
    mac: String,
    displayname: Option<String>,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
}

async fn register(
    core: Core,
    accounts: Accounts,
    profiles: Profiles,
    request: Plain<NoAuthentication>,
) -> Result<Http, Error> {
    let Body { nonce, username, password, mac, displayname, admin, user_type } = request.body()?;
    let device = NewDevice { address: request.address, ..NewDevice::default() };
    let asked = SharedSecretRegistration { nonce, name: username, password, admin, user_type, mac };
    let session = accounts.register_with_shared_secret(asked, device, request.address).await?;
    if let Some(name) = displayname {
        profiles.set(&session.user_id, &ProfileFieldValue::DisplayName(name)).await?;
    }
    Http::of(&json!({
        "user_id": session.user_id, "access_token": session.access_token, "device_id": session.device_id,
        "home_server": core.identity().server_name(),
    }))
}
