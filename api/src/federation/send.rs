//! `PUT /_matrix/federation/v1/send/{txnId}`.

use std::collections::BTreeMap;

use millpond_node::{Error, federation::Federation, inbox::Transaction};
use ruma::api::federation::transactions::send_transaction_message::v1::{Request, Response};

use crate::glue::Args;

/// Bytes of a transaction: 50 PDUs of 64 KiB, and to-device messages of about the size of what a client may send.
const LIMIT: usize = 32 << 20;

pub(crate) async fn handler(
    federation: Federation,
    Args { sender, request, json, .. }: Args<Request, LIMIT>,
) -> Result<Response, Error> {
    if request.origin != sender.server {
        return Err(Error::forbidden("the transaction's `origin` is not the server that sends it"));
    }
    // ruma does not know `org.millpond.via`.
    let transaction: Transaction =
        serde_json::from_slice(&json).map_err(|e| Error::bad_json(format!("not a transaction: {e}")))?;
    federation.receive(&sender, request.transaction_id.as_str(), transaction).await?;
    // Judged later: that the PDUs are staged is all that can be said of them now.
    Ok(Response::new(BTreeMap::new()))
}
