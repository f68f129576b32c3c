//! `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`: sends messages to devices.

use millpond_node::{Error, to_device::ToDevice};
use ruma::api::client::to_device::send_event_to_device::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(
    to_device: ToDevice,
    Args { sender, request, .. }: Args<Request>,
) -> Result<Response, Error> {
    to_device.send(&sender.user_id, &sender.device_id, request).await?;
    Ok(Response::new())
}
