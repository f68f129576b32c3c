//! `POST /_matrix/client/v3/` `rooms/{roomId}/join`, `join/{roomIdOrAlias}`, `knock/{roomIdOrAlias}`

use millpond_node::{
    Error,
    memberships::{Memberships, Signed},
};
use ruma::api::client::{
    knock::knock_room::v3 as knock_room,
    membership::{ThirdPartySigned, join_room_by_id::v3 as by_id, join_room_by_id_or_alias::v3 as by_id_or_alias},
};

use super::with_reason;
use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(join);
    routes.add(join_by_alias);
    routes.add(knock);
}

async fn join(memberships: Memberships, args: Args<by_id::Request>) -> Result<by_id::Response, Error> {
    args.sender.active()?;
    let (user, request) = (args.sender.user_id, args.request);
    if let Some(signed) = &request.third_party_signed {
        memberships.redeem(&user, &request.room_id, &proof(signed)?).await?;
    }
    let extra = with_reason(request.reason);
    Ok(by_id::Response::new(memberships.join(&user, (&*request.room_id).into(), Vec::new(), extra).await?))
}

async fn join_by_alias(
    memberships: Memberships,
    args: Args<by_id_or_alias::Request>,
) -> Result<by_id_or_alias::Response, Error> {
    args.sender.active()?;
    let (user, request) = (args.sender.user_id, args.request);
    if let Some(signed) = &request.third_party_signed {
        let (room_id, _) = memberships.resolve(&request.room_id_or_alias, Vec::new()).await?;
        memberships.redeem(&user, &room_id, &proof(signed)?).await?;
    }
    let extra = with_reason(request.reason);
    let room_id = memberships.join(&user, &request.room_id_or_alias, request.via, extra).await?;
    Ok(by_id_or_alias::Response::new(room_id))
}

async fn knock(memberships: Memberships, args: Args<knock_room::Request>) -> Result<knock_room::Response, Error> {
    args.sender.active()?;
    let (user, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    let room_id = memberships.knock(&user, &request.room_id_or_alias, request.via, extra).await?;
    Ok(knock_room::Response::new(room_id))
}

/// What an identity server has signed, without who brings it.
fn proof(signed: &ThirdPartySigned) -> Result<Signed, Error> {
    let ThirdPartySigned { sender, mxid, token, signatures, .. } = signed;
    let proof = serde_json::json!({ "mxid": mxid, "token": token, "signatures": signatures });
    let proof = serde_json::from_value(proof).map_err(|e| Error::bad_json(format!("third_party_signed: {e}")))?;
    Ok(Signed { sender: sender.clone(), mxid: mxid.clone(), token: token.clone(), proof })
}
