//! `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`.

use millpond_node::{
    Error,
    presence::Presence,
    receipts::{Kind, Markers, Receipts},
};
use ruma::{
    api::client::receipt::create_receipt::v3::{ReceiptType, Request, Response},
    events::receipt::ReceiptThread,
};

use crate::glue::Args;

pub(super) async fn handler(
    receipts: Receipts,
    presence: Presence,
    Args { sender, request, .. }: Args<Request>,
) -> Result<Response, Error> {
    presence.act(&sender.user_id, &sender.device_id)?;
    let kind = match request.receipt_type {
        ReceiptType::Read => Kind::Read,
        ReceiptType::ReadPrivate => Kind::ReadPrivate,
        ReceiptType::FullyRead if request.thread != ReceiptThread::Unthreaded => {
            return Err(Error::invalid_param("m.fully_read takes no thread_id"));
        }
        ReceiptType::FullyRead => {
            let markers = Markers { fully_read: Some(request.event_id), ..Markers::default() };
            receipts.set_markers(&sender.user_id, &request.room_id, markers).await?;
            return Ok(Response::new());
        }
        _ => return Err(Error::invalid_param("the receipt type must be m.read, m.read.private or m.fully_read")),
    };
    receipts.set(&sender.user_id, &request.room_id, kind, &request.event_id, request.thread).await?;
    Ok(Response::new())
}
