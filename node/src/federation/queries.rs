//! `/query/directory`: what an alias of ours means. `/query/profile`: what a user of ours shows of himself.

use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, UserId,
    profile::{ProfileFieldName, UserProfile},
};

use super::{Door, Federation, Origin};
use crate::{Error, keys::shares_room_by, rooms};

impl Federation {
    /// The room of an alias of ours, and servers in it.
    ///
    /// # Errors
    /// 404 for an alias that is not ours or not there, and for all aliases to a server that is no contact.
    pub async fn directory(
        &self,
        origin: &Origin,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>), Error> {
        let may_ask = origin.is_contact() || origin.door == Door::Classic;
        if !may_ask || !self.core.identity().is_ours(alias.server_name()) {
            return Err(Error::not_found(format!("{alias} is not an alias of this server")));
        }
        let (room_id, servers) = self.parts.memberships.resolve_alias(alias).await?;
        let snapshot = self.core.snapshot()?;
        if let Some((_, room)) = rooms::rows::room(snapshot.view(), &room_id)? {
            origin.check_door(room.overlay)?;
        }
        Ok((room_id, servers))
    }

    /// The profile of a user of ours, or one field of it.
    ///
    /// # Errors
    /// 404 for users who are not here; to a server that is no contact those with whom it shares no room look the same.
    pub fn profile(
        &self,
        origin: &Origin,
        user: &UserId,
        field: Option<&ProfileFieldName>,
    ) -> Result<UserProfile, Error> {
        let unknown = || Error::not_found(format!("{user} is not a user of this server that you share a room with"));
        if !self.core.identity().is_our_user(user) {
            return Err(unknown());
        }
        if !origin.is_contact() {
            let snapshot = self.core.snapshot()?;
            if !shares_room_by(snapshot.view(), user, &origin.server, origin.route())? {
                return Err(unknown());
            }
        }
        let profile = self.parts.profiles.ours(user)?;
        let Some(field) = field else { return Ok(profile) };
        let wanted = profile.iter().filter(|(name, _)| name.as_str() == field.as_str());
        Ok(wanted.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
