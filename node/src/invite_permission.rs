//! Whether a user takes invites (client-server API, "Invite permission"): the account data `m.invite_permission_config`.

use http::StatusCode;
use millpond_store::View;
use ruma::{UserId, api::error::ErrorKind};
use serde::Deserialize;

use crate::{Error, account_data};

/// The account data, and what it was called before it was in the specification.
const TYPES: [&str; 2] = ["m.invite_permission_config", "org.matrix.msc4380.invite_permission_config"];

#[derive(Default, Deserialize)]
struct Config {
    // Anything but these words means nothing.
    #[serde(default)]
    default_action: serde_json::Value,
    #[serde(default)]
    block_all: serde_json::Value,
}

/// That a user of ours takes invites.
///
/// # Errors
/// 403 `M_INVITE_BLOCKED`; storage errors.
pub(crate) fn check(view: View<'_>, user: &UserId) -> Result<(), Error> {
    for kind in TYPES {
        let Some(row) = account_data::row(view, user, None, kind)? else { continue };
        let config: Config = serde_json::from_str(&row.content).unwrap_or_default();
        if config.default_action == "block" || config.block_all == true {
            let message = format!("{user} takes no invites");
            return Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::InviteBlocked, message));
        }
    }
    Ok(())
}
