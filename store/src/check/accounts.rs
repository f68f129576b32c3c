//! Accounts, devices, tokens: each device has an owner, and device and token name each other.

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::DEVICES, ())? {
        let ((user, device), row) = row?;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || format!("device {device} belongs to no account"));
        let Some(hash) = row.token_hash else { continue };
        let owner = view.get(tables::TOKENS, hash)?;
        report.expect(owner.is_some_and(|owner| owner.user_id == user && owner.device_id == device), || {
            format!("the token of device {device} is not there, or another's")
        });
    }
    for row in view.scan(tables::TOKENS, ())? {
        let (hash, owner) = row?;
        let device = view.get(tables::DEVICES, (&*owner.user_id, &*owner.device_id))?;
        report.expect(device.is_some(), || format!("a token is of device {}, which is not there", owner.device_id));
        report.expect(device.is_none_or(|device| device.token_hash == Some(hash)), || {
            format!("device {} has a token that it does not know, so that it cannot be revoked", owner.device_id)
        });
    }
    Ok(())
}
