//! `/user/{userId}/account_data/{type}` and `/user/{userId}/rooms/{roomId}/account_data/{type}`.

use millpond_node::{Error, account_data::AccountData};
use ruma::{
    api::client::config::{
        get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data,
    },
    serde::Raw,
};

use super::own;
use crate::glue::{Args, Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(global);
    routes.add(set_global);
    routes.add(of_room);
    routes.add(set_of_room);
}

async fn global(
    account_data: AccountData,
    Args { sender, request, .. }: Args<get_global_account_data::v3::Request>,
) -> Result<get_global_account_data::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    let content = account_data.content(&sender.user_id, None, &request.event_type.to_string())?;
    Ok(get_global_account_data::v3::Response::new(Raw::from_json(content)))
}

async fn set_global(
    account_data: AccountData,
    Args { sender, request, .. }: Args<set_global_account_data::v3::Request>,
) -> Result<set_global_account_data::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    account_data.set(&sender.user_id, None, &request.event_type.to_string(), request.data.json()).await?;
    Ok(set_global_account_data::v3::Response::new())
}

async fn of_room(
    account_data: AccountData,
    Args { sender, request, .. }: Args<get_room_account_data::v3::Request>,
) -> Result<get_room_account_data::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    let content = account_data.content(&sender.user_id, Some(&request.room_id), &request.event_type.to_string())?;
    Ok(get_room_account_data::v3::Response::new(Raw::from_json(content)))
}

async fn set_of_room(
    account_data: AccountData,
    Args { sender, request, .. }: Args<set_room_account_data::v3::Request>,
) -> Result<set_room_account_data::v3::Response, Error> {
    own(&sender, &request.user_id)?;
    let kind = request.event_type.to_string();
    account_data.set(&sender.user_id, Some(&request.room_id), &kind, request.data.json()).await?;
    Ok(set_room_account_data::v3::Response::new())
}
