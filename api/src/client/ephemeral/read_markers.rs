//! `POST /rooms/{roomId}/read_markers`.

use millpond_node::{
    Error,
    receipts::{Markers, Receipts},
};
use ruma::api::client::read_marker::set_read_marker::v3::{Request, Response};

use crate::glue::Args;

pub(super) async fn handler(
    receipts: Receipts,
    Args { sender, request, .. }: Args<Request>,
) -> Result<Response, Error> {
    let markers = Markers {
        read: request.read_receipt,
        read_private: request.private_read_receipt,
        fully_read: request.fully_read,
    };
    receipts.set_markers(&sender.user_id, &request.room_id, markers).await?;
    Ok(Response::new())
}
