//! `/_matrix/client/v3/thirdparty/*`: networks that application services bridge. There are none, so there is no protocol,
//! and nothing to look up.

use std::collections::BTreeMap;

use millpond_node::Error;
use ruma::api::client::thirdparty::{
    get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols, get_user_for_protocol,
    get_user_for_user_id,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(protocols);
    routes.add(protocol);
    routes.add(locations);
    routes.add(users);
    routes.add(location_of_alias);
    routes.add(user_of_id);
}

async fn protocols(_: Args<get_protocols::v3::Request>) -> Result<get_protocols::v3::Response, Error> {
    Ok(get_protocols::v3::Response::new(BTreeMap::new()))
}

async fn protocol(args: Args<get_protocol::v3::Request>) -> Result<get_protocol::v3::Response, Error> {
    Err(no_protocol(&args.request.protocol))
}

async fn locations(
    args: Args<get_location_for_protocol::v3::Request>,
) -> Result<get_location_for_protocol::v3::Response, Error> {
    Err(no_protocol(&args.request.protocol))
}

async fn users(args: Args<get_user_for_protocol::v3::Request>) -> Result<get_user_for_protocol::v3::Response, Error> {
    Err(no_protocol(&args.request.protocol))
}

async fn location_of_alias(
    args: Args<get_location_for_room_alias::v3::Request>,
) -> Result<get_location_for_room_alias::v3::Response, Error> {
    Err(Error::not_found(format!("{} is not bridged to another network here", args.request.alias)))
}

async fn user_of_id(
    args: Args<get_user_for_user_id::v3::Request>,
) -> Result<get_user_for_user_id::v3::Response, Error> {
    Err(Error::not_found(format!("{} is not a user of another network that is bridged here", args.request.userid)))
}

fn no_protocol(name: &str) -> Error {
    Error::not_found(format!("no network `{name}` is bridged here"))
}
