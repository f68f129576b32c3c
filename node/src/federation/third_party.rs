//! `/exchange_third_party_invite`: a user of another server shows the proof that an invited address is his; `/3pid/onbind`: the
//! identity server says that an address is now one of our user's, with the invites that wait for it.

use millpond_store::tables;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomId, UserId,
    api::federation::thirdparty::{bind_callback, exchange_invite},
    events::StateEventType,
};
use serde::Deserialize;

use super::{Door, Federation, Origin, check_acl, limits::Act};
use crate::{Error, memberships::Signed};

/// Waiting invites of one notification that are looked at.
const MAX_INVITES: usize = 20;

#[derive(Deserialize)]
struct Content {
    third_party_invite: ThirdParty,
}

#[derive(Deserialize)]
struct ThirdParty {
    signed: CanonicalJsonObject,
}

impl Federation {
    /// Answers `/exchange_third_party_invite`: the invite goes out like any other.
    ///
    /// # Errors
    /// 403 for servers that are no contacts, for users of other servers, and for proofs that the room does not take; 404 for a
    /// room that is not here.
    pub async fn exchange_third_party_invite(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        request: &exchange_invite::v1::Request,
    ) -> Result<(), Error> {
        if !origin.is_contact() && origin.door != Door::Classic {
            return Err(Error::forbidden("third-party invites are for contacts"));
        }
        if request.kind != StateEventType::RoomMember || request.state_key.server_name() != origin.server {
            return Err(Error::forbidden("the event is not the invite of a user of your server"));
        }
        let sender: &UserId = &request.sender;
        if !self.core.identity().is_our_user(sender) {
            return Err(Error::forbidden("the inviter is not a user of this server"));
        }
        {
            let snapshot = self.core.snapshot()?;
            let (short, _) = self.whole(snapshot.view(), origin, room_id)?;
            check_acl(snapshot.view(), short, &origin.server)?;
        }
        let content: Content = serde_json::from_str(request.content.json().get())
            .map_err(|e| Error::bad_json(format!("the content is not that of a third-party invite: {e}")))?;
        let signed = content.third_party_invite.signed;
        self.parts.memberships.exchange(sender, room_id, &request.state_key, signed).await
    }

    /// Answers `/3pid/onbind`: each invite is asked for where it was made. Nobody signs this request, so the proofs must be
    /// signed with a key of the identity server that the owner has configured.
    ///
    /// # Errors
    /// 403 without a configured identity server, for users of other servers and for proofs that do not hold; 429 for too many.
    pub async fn on_bind(&self, user: &UserId, invites: Vec<bind_callback::v1::ThirdPartyInvite>) -> Result<(), Error> {
        if self.core.config().identity_server.is_none() {
            return Err(Error::forbidden("no identity server is configured here"));
        }
        if !self.core.identity().is_our_user(user) {
            return Err(Error::forbidden(format!("{user} is not a user of this server")));
        }
        let here = self.core.snapshot()?.view().get(tables::ACCOUNTS, user)?;
        // Who asks does not learn who is here.
        if here.is_none_or(|account| account.deactivated) {
            return Ok(());
        }
        for invite in invites.into_iter().take(MAX_INVITES) {
            self.limits.take(user, Act::InviteOfUser)?;
            let proof: CanonicalJsonObject = serde_json::from_str(invite.signed.json().get())
                .map_err(|e| Error::bad_json(format!("a proof cannot be read: {e}")))?;
            let text = |name: &str| proof.get(name).and_then(CanonicalJsonValue::as_str).unwrap_or_default();
            if invite.mxid != user || text("mxid") != user.as_str() {
                return Err(Error::forbidden("an invite is for another user than the address"));
            }
            self.parts.memberships.check_proof(&proof).await?;
            let (sender, mxid, token) = (invite.sender, user.to_owned(), text("token").to_owned());
            let signed = Signed { sender, mxid, token, proof };
            if let Err(error) = self.parts.memberships.redeem(user, &invite.room_id, &signed).await {
                tracing::debug!(%error, "an invite that waited for an address could not be had");
            }
        }
        Ok(())
    }
}
