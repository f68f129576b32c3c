//! `/exchange_third_party_invite`: a user of another server shows the proof that an invited address is his.

use ruma::{CanonicalJsonObject, RoomId, UserId, api::federation::thirdparty::exchange_invite, events::StateEventType};
use serde::Deserialize;

use super::{Door, Federation, Origin, check_acl};
use crate::Error;

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
            let (short, _) = self.resident(snapshot.view(), origin, room_id)?;
            check_acl(snapshot.view(), short, &origin.server)?;
        }
        let content: Content = serde_json::from_str(request.content.json().get())
            .map_err(|e| Error::bad_json(format!("the content is not that of a third-party invite: {e}")))?;
        let signed = content.third_party_invite.signed;
        self.parts.memberships.exchange(sender, room_id, &request.state_key, signed).await
    }
}
