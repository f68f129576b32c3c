//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`

use millpond_node::{
    Error,
    delayed::Delayed,
    presence::Presence,
    rooms::{ClientTxn, Rooms},
};
use ruma::api::client::message::send_message_event::v3::{Request, Response};

use crate::{
    client::delayed::{Ask, delay, schedule},
    glue::{Answer, Args, Http},
};

pub(crate) async fn handler(
    rooms: Rooms,
    presence: Presence,
    delayed: Delayed,
    args: Args<Request>,
) -> Result<Http, Error> {
    args.sender.active()?;
    let (request, sender) = (args.request, args.sender);
    if let Some(delay) = delay(args.query.as_deref())? {
        let (txn_id, kind) = (Some(request.txn_id.to_string()), request.event_type.to_string());
        let (content, room_id) = (request.body.json().get(), request.room_id);
        return schedule(&delayed, &sender, Ask { room_id, kind, state_key: None, txn_id, content, delay }).await;
    }
    let txn = ClientTxn { device_id: &sender.device_id, txn_id: &request.txn_id };
    let kind = request.event_type.into();
    let content = request.body.json().get();
    presence.act(&sender.user_id, &sender.device_id)?;
    let sent = rooms.send(&sender.user_id, txn, &request.room_id, kind, content).await?;
    Ok(Http(Response::new(sent.event_id).into_http()?))
}
