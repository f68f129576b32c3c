//! `/_matrix/client/v3/publicRooms`: GET, and POST with a filter.

use millpond_node::{
    Error,
    directory::{Directory, Listing, ListingRequest},
    peers::Peers,
};
use ruma::api::client::directory::{get_public_rooms::v3 as get_rooms, get_public_rooms_filtered::v3 as get_filtered};

use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(get);
    routes.add(post);
}

async fn get(directory: Directory, peers: Peers, args: Args<get_rooms::Request>) -> Result<get_rooms::Response, Error> {
    let request = args.request;
    let ask = ListingRequest {
        server: request.server,
        limit: request.limit,
        since: request.since,
        ..ListingRequest::default()
    };
    let Listing { chunk, next_batch, prev_batch, total } = page(&directory, &peers, &ask).await?;
    let mut response = get_rooms::Response::new(chunk);
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = Some(total);
    Ok(response)
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
