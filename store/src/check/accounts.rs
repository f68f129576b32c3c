//! Accounts, devices, tokens.

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::DEVICES, ())? {
        let ((user, device), _) = row?;
        report.expect(view.contains(tables::ACCOUNTS, &*user)?, || format!("device {device} belongs to no account"));
    }
    for row in view.scan(tables::TOKENS, ())? {
        let (_, owner) = row?;
        let key = (&*owner.user_id, &*owner.device_id);
        report.expect(view.contains(tables::DEVICES, key)?, || {
            format!("a token is of device {}, which is not there", owner.device_id)
        });
    }
    for row in view.scan(tables::ACCOUNT_DATA_LOG, ())? {
        let ((user, position), key) = row?;
        let data = view.get(tables::ACCOUNT_DATA, (&*user, key.room_id.as_str(), key.kind.as_str()))?;
        report.expect(data.is_some_and(|data| data.position == position), || {
            format!("the account data log at {position} names {}, which is not of that position", key.kind)
        });
    }
    Ok(())
}
