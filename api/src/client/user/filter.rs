//! `/user/{userId}/filter`: upload, download.

use millpond_node::{Error, filters::Filters};
use ruma::api::client::filter::{create_filter, get_filter};

use super::own;
use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(create);
    routes.add(show);
}

async fn create(
    filters: Filters,
    Args { sender, request, .. }: Args<create_filter::v3::Request>,
) -> Result<create_filter::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    Ok(create_filter::v3::Response::new(filters.create(&sender.user_id, &request.filter).await?))
}

async fn show(
    filters: Filters,
    Args { sender, request, .. }: Args<get_filter::v3::Request>,
) -> Result<get_filter::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    Ok(get_filter::v3::Response::new(filters.filter(&sender.user_id, &request.filter_id)?))
}
