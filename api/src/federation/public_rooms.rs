//! `/publicRooms`: GET, and POST with a filter.

use millpond_node::{
    Error,
    directory::{Directory, Listing, ListingRequest},
};
use ruma::api::federation::directory::{
    get_public_rooms::v1 as get_rooms, get_public_rooms_filtered::v1 as get_filtered,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(get);
    routes.add(post);
}

async fn get(directory: Directory, args: Args<get_rooms::Request>) -> Result<get_rooms::Response, Error> {
    let Args { request, sender, .. } = args;
    let ask = ListingRequest { limit: request.limit, since: request.since, ..ListingRequest::default() };
    let Listing { chunk, next_batch, prev_batch, total } = directory.listing_for(&sender, &ask)?;
    let mut response = get_rooms::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = Some(total);
    Ok(response)
}

async fn post(directory: Directory, args: Args<get_filtered::Request>) -> Result<get_filtered::Response, Error> {
    let Args { request, sender, .. } = args;
    let ask = ListingRequest {
        server: None,
        limit: request.limit,
        since: request.since,
        term: request.filter.generic_search_term,
        room_types: request.filter.room_types,
    };
    let Listing { chunk, next_batch, prev_batch, total } = directory.listing_for(&sender, &ask)?;
    let mut response = get_filtered::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = Some(total);
    Ok(response)
}
