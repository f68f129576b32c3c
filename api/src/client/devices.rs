//! `/_matrix/client/v3/devices` and `/devices/{device_id}`: list, show, rename.

use millpond_node::{Error, accounts::Accounts, rows};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, UInt,
    api::client::device::{Device, get_device, get_devices, update_device},
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(show);
    routes.add(rename);
}

async fn list(
    accounts: Accounts,
    Args { sender, .. }: Args<get_devices::v3::Request>,
) -> Result<get_devices::v3::Response, Error> {
    let devices = accounts.devices(&sender.user_id)?;
    Ok(get_devices::v3::Response::new(devices.into_iter().map(shown).collect()))
}

async fn show(
    accounts: Accounts,
    Args { sender, request, .. }: Args<get_device::v3::Request>,
) -> Result<get_device::v3::Response, Error> {
    let device = accounts.device(&sender.user_id, &request.device_id)?;
    Ok(get_device::v3::Response::new(shown((request.device_id, device))))
}

async fn rename(
    accounts: Accounts,
    Args { sender, request, .. }: Args<update_device::v3::Request>,
) -> Result<update_device::v3::Response, Error> {
    accounts.rename_device(&sender.user_id, &request.device_id, request.display_name).await?;
    Ok(update_device::v3::Response::new())
}

fn shown((device_id, row): (OwnedDeviceId, rows::Device)) -> Device {
    let mut device = Device::new(device_id);
    device.display_name = row.display_name;
    device.last_seen_ip = row.last_seen_ip;
    device.last_seen_ts = row.last_seen_ms.map(|ms| MilliSecondsSinceUnixEpoch(UInt::new_saturating(ms)));
    device
}
