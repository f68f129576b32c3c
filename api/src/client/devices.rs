//! `/_matrix/client/v3/devices` and `/devices/{device_id}`: list, show, rename.

use millpond_node::{Error, accounts::Accounts, rows};
use ruma::{
    DeviceId,
    api::client::device::{get_device, get_devices, update_device},
};
use serde::Serialize;

use crate::glue::{Args, Http, Routes};

/// A device. ruma's type says null for what is not known, which the specification does not allow.
#[derive(Serialize)]
struct Shown<'a> {
    device_id: &'a DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ts: Option<u64>,
}

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(list);
    routes.add(show);
    routes.add(rename);
}

async fn list(accounts: Accounts, Args { sender, .. }: Args<get_devices::v3::Request>) -> Result<Http, Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        devices: Vec<Shown<'a>>,
    }
    let devices = accounts.devices(&sender.user_id)?;
    Http::of(&Body { devices: devices.iter().map(|(id, row)| shown(id, row)).collect() })
}

async fn show(accounts: Accounts, Args { sender, request, .. }: Args<get_device::v3::Request>) -> Result<Http, Error> {
    let device = accounts.device(&sender.user_id, &request.device_id)?;
    Http::of(&shown(&request.device_id, &device))
}

async fn rename(
    accounts: Accounts,
    Args { sender, request, .. }: Args<update_device::v3::Request>,
) -> Result<update_device::v3::Response, Error> {
    accounts.rename_device(&sender.user_id, &request.device_id, request.display_name).await?;
    Ok(update_device::v3::Response::new())
}

fn shown<'a>(device_id: &'a DeviceId, row: &'a rows::Device) -> Shown<'a> {
    Shown {
        device_id,
        display_name: row.display_name.as_deref(),
        last_seen_ip: row.last_seen_ip.as_deref(),
        last_seen_ts: row.last_seen_ms,
    }
}
