//! Server administration: `/_matrix/client/v3/admin/whois/{userId}`, `/_matrix/client/v1/admin/lock/{userId}` and
//! `/suspend/{userId}`.

use millpond_node::{
    Error,
    accounts::{Accounts, Mark},
};
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::admin::{get_user_info, is_user_locked, is_user_suspended, lock_user, suspend_user},
};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::glue::{Args, Http, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(whois);
    routes.add(locked);
    routes.add(lock);
    routes.add(suspended);
    routes.add(suspend);
}

/// ruma's type says null for an address or a time that is not known.
#[derive(Serialize)]
struct Connection {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<MilliSecondsSinceUnixEpoch>,
}

#[derive(Serialize)]
struct Session {
    connections: [Connection; 1],
}

#[derive(Serialize)]
struct Device {
    sessions: [Session; 1],
}

async fn whois(accounts: Accounts, args: Args<get_user_info::v3::Request>) -> Result<Http, Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        user_id: &'a ruma::UserId,
        devices: BTreeMap<String, Device>,
    }
    let user_id = args.request.user_id;
    accounts.check_whois(&args.sender, &user_id)?;
    let devices = accounts.devices(&user_id)?.into_iter().map(|(id, row)| {
        let last_seen = row.last_seen_ms.map(|ms| MilliSecondsSinceUnixEpoch(UInt::new_saturating(ms)));
        let connection = Connection { ip: row.last_seen_ip, last_seen };
        (id.to_string(), Device { sessions: [Session { connections: [connection] }] })
    });
    Http::of(&Body { user_id: &user_id, devices: devices.collect() })
}

async fn locked(
    accounts: Accounts,
    args: Args<is_user_locked::v1::Request>,
) -> Result<is_user_locked::v1::Response, Error> {
    let locked = accounts.mark(&args.sender, &args.request.user_id, Mark::Locked)?;
    Ok(is_user_locked::v1::Response::new(locked))
}

async fn lock(accounts: Accounts, args: Args<lock_user::v1::Request>) -> Result<lock_user::v1::Response, Error> {
    accounts.set_mark(&args.sender, &args.request.user_id, Mark::Locked, args.request.locked).await?;
    Ok(lock_user::v1::Response::new(args.request.locked))
}

async fn suspended(
    accounts: Accounts,
    args: Args<is_user_suspended::v1::Request>,
) -> Result<is_user_suspended::v1::Response, Error> {
    let suspended = accounts.mark(&args.sender, &args.request.user_id, Mark::Suspended)?;
    Ok(is_user_suspended::v1::Response::new(suspended))
}

async fn suspend(
    accounts: Accounts,
    args: Args<suspend_user::v1::Request>,
) -> Result<suspend_user::v1::Response, Error> {
    accounts.set_mark(&args.sender, &args.request.user_id, Mark::Suspended, args.request.suspended).await?;
    Ok(suspend_user::v1::Response::new(args.request.suspended))
}
