//! `/user/{userId}/rooms/{roomId}/tags`: list, set, remove.

use millpond_node::{Error, account_data::AccountData};
use ruma::api::client::tag::{create_tag, delete_tag, get_tags};

use super::own;
use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(set);
    routes.add(remove);
}

async fn list(
    account_data: AccountData,
    Args { sender, request, .. }: Args<get_tags::v3::Request>,
) -> Result<get_tags::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    Ok(get_tags::v3::Response::new(account_data.tags(&sender.user_id, &request.room_id)?))
}

async fn set(
    account_data: AccountData,
    Args { sender, request, .. }: Args<create_tag::v3::Request>,
) -> Result<create_tag::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    account_data.set_tag(&sender.user_id, &request.room_id, &request.tag, request.tag_info).await?;
    Ok(create_tag::v3::Response::new())
}

async fn remove(
    account_data: AccountData,
    Args { sender, request, .. }: Args<delete_tag::v3::Request>,
) -> Result<delete_tag::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    account_data.remove_tag(&sender.user_id, &request.room_id, &request.tag).await?;
    Ok(delete_tag::v3::Response::new())
}
