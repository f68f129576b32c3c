//! Accounts, devices, tokens: each device has an owner, and device and token name each other.

use ruma::{DeviceId, UserId};

use super::Report;
use crate::{Error, Table, View, rows::TokenOwner, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::DEVICES, ())? {
        let ((user, device), row) = row?;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || format!("device {device} belongs to no account"));
        for hash in row.access_hashes() {
            expect_owner(view, report, (tables::TOKENS, hash), (&user, &device))?;
        }
        for hash in row.refresh_hashes() {
            expect_owner(view, report, (tables::REFRESH_TOKENS, hash), (&user, &device))?;
        }
    }
    for row in view.scan(tables::ACCOUNT_MARKS, ())? {
        let (user, _) = row?;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || "an account is marked that is not there".to_owned());
    }
    for row in view.scan(tables::DEHYDRATED, ())? {
        let (user, row) = row?;
        let there = view.contains(tables::DEVICES, (&*user, &*row.device_id))?;
        report.expect(there, || format!("dehydrated device {} is none of its user's", row.device_id));
    }
    for row in view.scan(tables::PUSHERS, ())? {
        let ((user, ..), row) = row?;
        let there = view.contains(tables::DEVICES, (&*user, &*row.device_id))?;
        report.expect(there, || format!("a pusher is of device {}, which is not there", row.device_id));
    }
    for row in view.scan(tables::PRESENCE_STATUS, ())? {
        let (user, _) = row?;
        let there = view.contains(tables::ACCOUNTS, &*user)?;
        report.expect(there, || "a status message is of an account that is not there".to_owned());
    }
    for row in view.scan(tables::OPENID_TOKENS, ())? {
        let user = row?.1.user_id;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || "an OpenID token is of no account".to_owned());
    }
    for row in view.scan(tables::OAUTH_BROWSERS, ())? {
        let user = row?.1.user_id;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || "a browser is signed in to no account".to_owned());
    }
    for row in view.scan(tables::OAUTH_CODES, ())? {
        let client = row?.1.client_id;
        report.expect(view.contains(tables::OAUTH_CLIENTS, client.as_str())?, || {
            format!("a code is for client {client}, which is not registered")
        });
    }
    threepids(view, report)?;
    expect_known(view, report, tables::TOKENS)?;
    expect_known(view, report, tables::REFRESH_TOKENS)
}

/// Every address is of an account, and those that were added are known by it and nobody else's.
fn threepids(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::THREEPIDS, ())? {
        let ((user, medium, address), row) = row?;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || "an address is of no account".to_owned());
        let owner = view.get(tables::THREEPID_OWNERS, (medium.as_str(), address.as_str()))?;
        report.expect(row.added_at_ms.is_none() || owner.is_some_and(|owner| owner == user), || {
            "an address was added to an account that is not found by it".to_owned()
        });
    }
    for row in view.scan(tables::THREEPID_OWNERS, ())? {
        let ((medium, address), user) = row?;
        let row = view.get(tables::THREEPIDS, (&*user, medium.as_str(), address.as_str()))?;
        report.expect(row.is_some_and(|row| row.added_at_ms.is_some()), || {
            "an account is found by an address that was not added to it".to_owned()
        });
    }
    Ok(())
}

fn expect_owner(
    view: View<'_>,
    report: &mut Report,
    (table, hash): (Table<[u8; 32], TokenOwner>, [u8; 32]),
    (user, device): (&UserId, &DeviceId),
) -> Result<(), Error> {
    let owner = view.get(table, hash)?;
    report.expect(owner.is_some_and(|owner| owner.user_id == user && owner.device_id == device), || {
        format!("the token of device {device} is not there, or another's")
    });
    Ok(())
}

/// Each token is one that its device knows.
fn expect_known(view: View<'_>, report: &mut Report, table: Table<[u8; 32], TokenOwner>) -> Result<(), Error> {
    for row in view.scan(table, ())? {
        let (hash, owner) = row?;
        let device = view.get(tables::DEVICES, (&*owner.user_id, &*owner.device_id))?;
        report.expect(device.is_some(), || format!("a token is of device {}, which is not there", owner.device_id));
        let known = |known: [u8; 32]| known == hash;
        report.expect(
            device.is_none_or(|device| device.access_hashes().any(known) || device.refresh_hashes().any(known)),
            || format!("device {} has a token that it does not know, so that it cannot be revoked", owner.device_id),
        );
    }
    Ok(())
}
