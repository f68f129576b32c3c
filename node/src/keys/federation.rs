//! Answers to other servers about local users. Spec: server-server "Device Management", "End-to-End Encryption".

use millpond_store::{View, tables};
use ruma::{
    ServerName, UserId,
    api::federation::{device::get_devices, keys::get_keys},
};

use super::{Keys, lists, outbound, show, signed::Usage};
use crate::{Error, peers::Route};

/// Whom an asking server may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A contact: about everybody here, for clients ask before they make the first room.
    Contact,
    /// Another linked node: about users who share a room with it.
    CoMembers,
    /// A classic server: about users who share a classic room with it.
    ClassicCoMembers,
}

impl Keys {
    /// Answers `GET /user/devices/{userId}`.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for a user that is not ours or that the asker may not ask about; storage errors.
    pub fn user_devices(
        &self,
        origin: &ServerName,
        audience: Audience,
        user: &UserId,
    ) -> Result<get_devices::v1::Response, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        if !self.may_ask(view, origin, audience, user)? {
            return Err(Error::not_found(format!("{user} is not a user of this server that you share a room with")));
        }
        let stream_id = ruma::UInt::new_saturating(outbound::stream_id(view, user)?);
        let mut response = get_devices::v1::Response::new(user.to_owned(), stream_id);
        for (device_id, keys) in show::local_devices(view, user, &[], None)? {
            let name = view.get(tables::DEVICES, (user, &device_id))?.and_then(|device| device.display_name);
            let mut device = get_devices::v1::UserDevice::new(device_id, keys);
            device.device_display_name = name;
            response.devices.push(device);
        }
        response.master_key = show::cross_signing(view, user, Usage::Master, None)?;
        response.self_signing_key = show::cross_signing(view, user, Usage::SelfSigning, None)?;
        Ok(response)
    }

    /// Answers `POST /user/keys/query`. Users who are not ours, or not for the asker to see, are left out.
    ///
    /// # Errors
    /// Storage errors.
    pub fn query_from(
        &self,
        origin: &ServerName,
        audience: Audience,
        request: &get_keys::v1::Request,
    ) -> Result<get_keys::v1::Response, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut response = get_keys::v1::Response::default();
        for (user, filter) in &request.device_keys {
            if !self.may_ask(view, origin, audience, user)? {
                continue;
            }
            response.device_keys.insert(user.clone(), show::local_devices(view, user, filter, None)?);
            if let Some(key) = show::cross_signing(view, user, Usage::Master, None)? {
                response.master_keys.insert(user.clone(), key);
            }
            if let Some(key) = show::cross_signing(view, user, Usage::SelfSigning, None)? {
                response.self_signing_keys.insert(user.clone(), key);
            }
        }
        Ok(response)
    }

    /// Answers `POST /user/keys/claim`. Dropping it may lose claimed keys.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn claim_from(
        &self,
        origin: &ServerName,
        audience: Audience,
        mut claims: super::Claims,
    ) -> Result<super::Claimed, Error> {
        let mut refused = Vec::new();
        {
            let snapshot = self.core.snapshot()?;
            for user in claims.keys() {
                if !self.may_ask(snapshot.view(), origin, audience, user)? {
                    refused.push(user.clone());
                }
            }
        }
        claims.retain(|user, _| !refused.contains(user));
        self.claim_local(claims).await
    }

    fn may_ask(&self, view: View<'_>, origin: &ServerName, audience: Audience, user: &UserId) -> Result<bool, Error> {
        let ours = self.core.identity().is_our_user(user) && view.contains(tables::ACCOUNTS, user)?;
        Ok(ours
            && match audience {
                Audience::Contact => true,
                Audience::CoMembers => lists::shares_room_with(view, user, origin)?,
                Audience::ClassicCoMembers => lists::shares_room_by(view, user, origin, Route::Classic)?,
            })
    }
}
