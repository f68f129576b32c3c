//! `/user/devices`, `/user/keys/query`, `/user/keys/claim`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::{
    device::get_devices,
    keys::{claim_keys, get_keys},
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(devices);
    routes.add(query);
    routes.add(claim);
}

async fn devices(
    federation: Federation,
    Args { sender, request, .. }: Args<get_devices::v1::Request>,
) -> Result<get_devices::v1::Response, Error> {
    federation.keys().user_devices(&sender.server, sender.audience(), &request.user_id)
}

async fn query(
    federation: Federation,
    Args { sender, request, .. }: Args<get_keys::v1::Request>,
) -> Result<get_keys::v1::Response, Error> {
    federation.keys().query_from(&sender.server, sender.audience(), &request)
}

async fn claim(
    federation: Federation,
    Args { sender, request, .. }: Args<claim_keys::v1::Request>,
) -> Result<claim_keys::v1::Response, Error> {
    let claimed = federation.keys().claim_from(&sender.server, sender.audience(), request.one_time_keys).await?;
    Ok(claim_keys::v1::Response::new(claimed))
}
