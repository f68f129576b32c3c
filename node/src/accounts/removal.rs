//! What goes when a device or an account goes. Each part of the node adds what it keeps per device or per user here, so
//! that all of it leaves in the one transaction that removes the device.

use millpond_store::{
    Error, Topic, WriteTxn,
    rows::{AccountMarks, txn_device},
    tables,
};
use ruma::{DeviceId, UserId};

use super::threepids;
use crate::{delayed, keys, pushers, user_directory};

/// A device was removed; its row and its token are gone already.
pub(crate) fn device_removed(txn: &mut WriteTxn<'_>, user_id: &UserId, device_id: &DeviceId) -> Result<(), Error> {
    txn.remove_all(tables::TXNS, (txn_device(user_id, device_id),))?;
    txn.remove_all(tables::SLIDING, (user_id, device_id))?;
    keys::device_removed(txn, user_id, device_id)?;
    if txn.view().get(tables::DEHYDRATED, user_id)?.is_some_and(|kept| kept.device_id == device_id) {
        txn.remove(tables::DEHYDRATED, user_id)?;
    }
    pushers::device_removed(txn, user_id, device_id)?;
    txn.touch(Topic::User(user_id.to_owned()));
    Ok(())
}

/// An account was deactivated; its devices were removed already, one by one. `erase`: the user asked to be forgotten as
/// far as possible.
pub(crate) fn user_deactivated(txn: &mut WriteTxn<'_>, user_id: &UserId, erase: bool) -> Result<(), Error> {
    // Nobody locks or suspends who is gone.
    txn.remove(tables::ACCOUNT_MARKS, user_id)?;
    if erase {
        let marks = AccountMarks { erased: true, ..AccountMarks::default() };
        txn.put(tables::ACCOUNT_MARKS, user_id, &marks)?;
    }
    threepids::user_deactivated(txn, user_id)?;
    txn.remove_all(tables::PROFILES, (user_id,))?;
    txn.remove(tables::PRESENCE_STATUS, user_id)?;
    delayed::user_deactivated(txn, user_id)?;
    user_directory::forget(txn, user_id)?;
    txn.remove_all(tables::ACCOUNT_DATA, (user_id,))?;
    txn.remove_all(tables::ACCOUNT_DATA_LOG, (user_id,))?;
    txn.remove(tables::OAUTH_RESETS, user_id)?;
    keys::user_deactivated(txn, user_id)?;
    txn.touch(Topic::User(user_id.to_owned()));
    txn.touch(Topic::UserRooms(user_id.to_owned()));
    Ok(())
}

/// A device got another name: others who see the device list should hear of it.
pub(crate) fn device_renamed(txn: &mut WriteTxn<'_>, user_id: &UserId, device_id: &DeviceId) -> Result<(), Error> {
    keys::device_renamed(txn, user_id, device_id)?;
    txn.touch(Topic::User(user_id.to_owned()));
    Ok(())
}
