//! `/backfill` and `/get_missing_events`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::{backfill::get_backfill, event::get_missing_events};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(backfill);
    routes.add(missing_events);
}

async fn backfill(
    federation: Federation,
    Args { sender, request, .. }: Args<get_backfill::v1::Request>,
) -> Result<get_backfill::v1::Response, Error> {
    federation.backfill(&sender, &request.room_id, &request.v, request.limit)
}

async fn missing_events(
    federation: Federation,
    Args { sender, request, .. }: Args<get_missing_events::v1::Request>,
) -> Result<get_missing_events::v1::Response, Error> {
    federation.missing_events(&sender, &request)
}
