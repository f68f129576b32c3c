//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`

use millpond_node::{
    Error,
    rooms::{ClientTxn, Rooms},
};
use ruma::api::client::redact::redact_event::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, args: Args<Request>) -> Result<Response, Error> {
    let (request, sender) = (args.request, args.sender);
    // Suspended users may take their own words back, and nobody else's.
    if !rooms.is_sender(&sender.user_id, &request.room_id, &request.event_id)? {
        sender.active()?;
    }
    let txn = ClientTxn { device_id: &sender.device_id, txn_id: &request.txn_id };
    let sent = rooms.redact(&sender.user_id, txn, &request.room_id, &request.event_id, request.reason).await?;
    Ok(Response::new(sent.event_id))
}
