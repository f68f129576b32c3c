//! `/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device` and its events (MSC3814).

use std::collections::BTreeMap;

use http::Method;
use millpond_node::{
    Error,
    accounts::{Accounts, Dehydrate},
};
use ruma::{
    OwnedDeviceId, OwnedOneTimeKeyId,
    api::auth_scheme::AccessToken,
    encryption::{DeviceKeys, OneTimeKey},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::glue::{Http, Plain, Routes};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
const EVENTS: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device}/events";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add_at(Method::PUT, &[PATH], put);
    routes.add_at(Method::GET, &[PATH], show);
    routes.add_at(Method::DELETE, &[PATH], remove);
    routes.add_at(Method::POST, &[EVENTS], events);
}

#[derive(Deserialize)]
struct Put {
    device_id: OwnedDeviceId,
    device_data: Box<RawValue>,
    initial_device_display_name: Option<String>,
    device_keys: Raw<DeviceKeys>,
    #[serde(default)]
    one_time_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
    #[serde(default)]
    fallback_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

/// What all data of a device says.
#[derive(Deserialize)]
struct Data {
    #[serde(rename = "algorithm")]
    _algorithm: String,
}

async fn put(accounts: Accounts, plain: Plain<AccessToken>) -> Result<Http, Error> {
    plain.sender.active()?;
    let put: Put = plain.body()?;
    serde_json::from_str::<Data>(put.device_data.get())
        .map_err(|e| Error::bad_json(format!("`device_data` is not as it should be: {e}")))?;
    let device_id = put.device_id.clone();
    let dehydrate = Dehydrate {
        device_id: put.device_id,
        data: put.device_data.get().to_owned(),
        display_name: put.initial_device_display_name,
        device_keys: put.device_keys,
        one_time_keys: put.one_time_keys,
        fallback_keys: put.fallback_keys,
    };
    accounts.dehydrate(&plain.sender.user_id, dehydrate).await?;
    Http::of(&json!({ "device_id": device_id }))
}

async fn show(accounts: Accounts, plain: Plain<AccessToken>) -> Result<Http, Error> {
    let (device_id, data) = accounts.dehydrated(&plain.sender.user_id)?;
    let data = RawValue::from_string(data).map_err(|e| Error::internal(e.to_string()))?;
    #[derive(serde::Serialize)]
    struct Shown {
        device_id: OwnedDeviceId,
        device_data: Box<RawValue>,
    }
    Http::of(&Shown { device_id, device_data: data })
}

async fn remove(accounts: Accounts, plain: Plain<AccessToken>) -> Result<Http, Error> {
    let device_id = accounts.discard_dehydrated(&plain.sender.user_id).await?;
    Http::of(&json!({ "device_id": device_id }))
}

#[derive(Deserialize)]
struct Since {
    next_batch: Option<String>,
}

async fn events(accounts: Accounts, plain: Plain<AccessToken>) -> Result<Http, Error> {
    let (since, device_id): (Since, OwnedDeviceId) = (plain.body()?, plain.path::<String>(0)?.into());
    let user = &plain.sender.user_id;
    let (events, next_batch) = accounts.dehydrated_messages(user, &device_id, since.next_batch.as_deref())?;
    Http::of(&json!({ "events": events, "next_batch": next_batch }))
}
