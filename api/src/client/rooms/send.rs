//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`

use millpond_node::{
    Error,
    rooms::{ClientTxn, Rooms},
};
use ruma::api::client::message::send_message_event::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, args: Args<Request>) -> Result<Response, Error> {
    args.sender.active()?;
    let (request, sender) = (args.request, args.sender);
    let txn = ClientTxn { device_id: &sender.device_id, txn_id: &request.txn_id };
    let kind = request.event_type.into();
    let content = request.body.json().get();
    let sent = rooms.send(&sender.user_id, txn, &request.room_id, kind, content).await?;
    Ok(Response::new(sent.event_id))
}
