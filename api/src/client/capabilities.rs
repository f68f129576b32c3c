//! `GET /_matrix/client/v3/capabilities`

use millpond_matrix::rules;
use millpond_node::Error;
use ruma::api::client::discovery::get_capabilities::v3::{
    Capabilities, GetLoginTokenCapability, Request, Response, RoomVersionStability, RoomVersionsCapability,
    ThirdPartyIdChangesCapability,
};

use crate::glue::Args;

pub(crate) async fn handler(_: Args<Request>) -> Result<Response, Error> {
    let mut capabilities = Capabilities::default();
    let available = rules::SUPPORTED.iter().map(|version| (version.clone(), RoomVersionStability::Stable)).collect();
    capabilities.room_versions = RoomVersionsCapability::new(rules::DEFAULT, available);
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    capabilities.get_login_token = GetLoginTokenCapability::new(true);
    Ok(Response::new(capabilities))
}
