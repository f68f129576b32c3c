//! Files that nobody is given.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{Error, NodeHandle};
use ruma::OwnedMxcUri;
use serde::Deserialize;
use serde_json::json;

use super::{answer, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quarantine {
    uri: OwnedMxcUri,
    /// `false` gives it free again.
    withheld: bool,
}

pub(super) async fn quarantine(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let quarantine = async {
        let Quarantine { uri, withheld } = read(request).await?;
        let (server, media_id) = uri.parts().map_err(|_| Error::invalid_param("`uri` is not an mxc:// URI"))?;
        node.media.quarantine(server, media_id, withheld).await?;
        Ok(json!({ "uri": uri, "withheld": withheld }))
    };
    answer(quarantine.await)
}
