//! `/_matrix/client/v3/publicRooms`: GET, and POST with a filter.

use http::{Method, StatusCode};
use millpond_node::{
    Error,
    directory::{Directory, Listing, ListingRequest},
    peers::Peers,
};
use ruma::{
    OwnedServerName, UInt,
    api::{
        auth_scheme::AccessTokenOptional,
        client::directory::{get_public_rooms::v3 as get_rooms, get_public_rooms_filtered::v3 as get_filtered},
        error::ErrorKind,
    },
};
use serde::Deserialize;

use crate::glue::{Answer, Args, Http, Plain, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    let paths = ["/_matrix/client/v3/publicRooms", "/_matrix/client/r0/publicRooms"];
    routes.add_at(Method::GET, &paths, get);
    routes.add(post);
}

#[derive(Deserialize)]
struct Query {
    limit: Option<UInt>,
    since: Option<String>,
    server: Option<OwnedServerName>,
}

async fn get(directory: Directory, peers: Peers, request: Plain<AccessTokenOptional>) -> Result<Http, Error> {
    let Query { limit, since, server } = request.query()?;
    // Our list is for everybody who reaches us; to ask others for theirs is for our users.
    if request.sender.is_none() && server.as_ref().is_some_and(|server| !directory.is_ours(server)) {
        let message = "The list of another server needs an access token: send `Authorization: Bearer TOKEN`";
        return Err(Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, message));
    }
    let ask = ListingRequest { server, limit, since, ..ListingRequest::default() };
    let Listing { chunk, next_batch, prev_batch, total } = page(&directory, &peers, &ask).await?;
    let mut response = get_rooms::Response::new(chunk);
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = Some(total);
    Ok(Http(response.into_http()?))
}

async fn post(
    directory: Directory,
    peers: Peers,
    args: Args<get_filtered::Request>,
) -> Result<get_filtered::Response, Error> {
    let request = args.request;
    let ask = ListingRequest {
        server: request.server,
        limit: request.limit,
        since: request.since,
        term: request.filter.generic_search_term,
        room_types: request.filter.room_types,
    };
    let Listing { chunk, next_batch, prev_batch, total } = page(&directory, &peers, &ask).await?;
    let mut response = get_filtered::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = Some(total);
    Ok(response)
}

/// Our own list, or that of a server that can be reached.
async fn page(directory: &Directory, peers: &Peers, ask: &ListingRequest) -> Result<Listing, Error> {
    match &ask.server {
        Some(server) if peers.reaches(server)? => peers.public_rooms(server, ask).await,
        _ => directory.listing(ask),
    }
}
