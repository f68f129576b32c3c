//! `GET /_matrix/client/v3/capabilities`

use millpond_matrix::rules;
use millpond_node::{Core, Error};
use ruma::api::client::discovery::get_capabilities::v3::{
    Capabilities, GetLoginTokenCapability, ProfileFieldsCapability, Request, RoomVersionStability,
    RoomVersionsCapability, ThirdPartyIdChangesCapability,
};
use serde::Serialize;

use crate::glue::{Args, Http};

/// What ruma's type does not have.
#[derive(Serialize)]
struct All {
    #[serde(flatten)]
    known: Capabilities,
    #[serde(rename = "m.forget_forced_upon_leave")]
    forget_forced_upon_leave: Enabled,
    #[serde(rename = "m.account_moderation", skip_serializing_if = "Option::is_none")]
    account_moderation: Option<AccountModeration>,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct AccountModeration {
    lock: bool,
    suspend: bool,
}

#[derive(Serialize)]
struct Body {
    capabilities: All,
}

pub(crate) async fn handler(core: Core, args: Args<Request>) -> Result<Http, Error> {
    let mut known = Capabilities::default();
    let available = rules::SUPPORTED.iter().map(|version| (version.clone(), RoomVersionStability::Stable)).collect();
    known.room_versions = RoomVersionsCapability::new(rules::DEFAULT, available);
    known.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(core.config().identity_server.is_some());
    known.get_login_token = GetLoginTokenCapability::new(true);
    known.profile_fields = Some(ProfileFieldsCapability::new(true));
    let account_moderation = args.sender.admin.then_some(AccountModeration { lock: true, suspend: true });
    let forget_forced_upon_leave = Enabled { enabled: false };
    Http::of(&Body { capabilities: All { known, forget_forced_upon_leave, account_moderation } })
}
