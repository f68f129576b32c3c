//! `/query/directory`: what an alias of ours means.

use ruma::{OwnedServerName, RoomAliasId};

use super::Federation;
use crate::Error;

impl Federation {
    /// The room of an alias of ours, and servers in it.
    ///
    /// # Errors
    /// 404 for an alias that is not ours or not there.
    pub async fn directory(&self, alias: &RoomAliasId) -> Result<(ruma::OwnedRoomId, Vec<OwnedServerName>), Error> {
        if !self.core.identity().is_ours(alias.server_name()) {
            return Err(Error::not_found(format!("{alias} is not an alias of this server")));
        }
        self.memberships.resolve_alias(alias).await
    }
}
