//! `DELETE /_matrix/client/v3/devices/{device_id}` and `POST /_matrix/client/v3/delete_devices`

use millpond_node::{Error, accounts::Accounts};
use ruma::api::client::device::{delete_device, delete_devices};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(one);
    routes.add(many);
}

async fn one(accounts: Accounts, args: Args<delete_device::v3::Request>) -> Result<delete_device::v3::Response, Error> {
    accounts.confirm(&args.sender, args.request.auth.as_ref(), args.asked()).await?;
    accounts.delete_devices(&args.sender.user_id, vec![args.request.device_id]).await?;
    Ok(delete_device::v3::Response::new())
}

async fn many(
    accounts: Accounts,
    args: Args<delete_devices::v3::Request>,
) -> Result<delete_devices::v3::Response, Error> {
    accounts.confirm(&args.sender, args.request.auth.as_ref(), args.asked()).await?;
    accounts.delete_devices(&args.sender.user_id, args.request.devices).await?;
    Ok(delete_devices::v3::Response::new())
}
