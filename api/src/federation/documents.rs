//! `/_matrix/key/v2/server` and `/_matrix/key/v2/query`: key documents as their servers signed them. Nothing is added to
//! them: a document proves itself.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::discovery::{get_remote_server_keys, get_remote_server_keys_batch, get_server_keys};

use crate::glue::{Args, Http, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(query);
    routes.add(query_many);
}

pub(crate) async fn own(federation: Federation, _: Args<get_server_keys::v2::Request>) -> Result<Http, Error> {
    Ok(Http::json(federation.own_document()))
}

async fn query(federation: Federation, args: Args<get_remote_server_keys::v2::Request>) -> Result<Http, Error> {
    let servers = [args.request.server_name.clone()];
    Ok(Http::json(federation.documents(args.peer.as_ref(), &servers).await?))
}

async fn query_many(
    federation: Federation,
    args: Args<get_remote_server_keys_batch::v2::Request>,
) -> Result<Http, Error> {
    let servers: Vec<_> = args.request.server_keys.keys().cloned().collect();
    Ok(Http::json(federation.documents(args.peer.as_ref(), &servers).await?))
}
