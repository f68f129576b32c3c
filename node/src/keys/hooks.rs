//! What other parts do to keys inside their own commit.

use millpond_store::{Error, WriteTxn, tables};
use ruma::{DeviceId, UserId};

use super::{lists, packs};

/// Forgets everything kept for a device, and tells those who should know. For logout and removal of a device.
///
/// # Errors
/// Storage errors.
pub fn device_removed(txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId) -> Result<(), Error> {
    txn.remove_all(tables::ONE_TIME_KEYS, (user, device))?;
    txn.remove_all(tables::ONE_TIME_KEY_IDS, (user, device))?;
    txn.remove_all(tables::FALLBACK_KEYS, (user, device))?;
    txn.remove(tables::KEY_COUNTS, (user, device))?;
    packs::device_gone(txn, user, device)?;
    txn.remove_all(tables::TO_DEVICE, (user, device))?;
    txn.remove_all(tables::KEY_SIGNATURES, (user, device.as_str()))?;
    if txn.remove(tables::DEVICE_KEYS, (user, device))? {
        lists::record_local_change(txn, user, Some(device))?;
    }
    Ok(())
}

/// Tells those who see the device that its name is another one.
///
/// # Errors
/// Storage errors.
pub fn device_renamed(txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId) -> Result<(), Error> {
    if txn.view().contains(tables::DEVICE_KEYS, (user, device))? {
        lists::record_local_change(txn, user, Some(device))?;
    }
    Ok(())
}

/// Forgets the cross-signing keys and key backups of an account that is closed; its devices are removed one by one
/// with [`device_removed`].
///
/// # Errors
/// Storage errors.
pub fn user_deactivated(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), Error> {
    txn.remove_all(tables::KEY_SIGNATURES, (user,))?;
    txn.remove_all(tables::SIGNATURE_LOG, (user,))?;
    txn.remove_all(tables::BACKUP_KEYS, (user,))?;
    txn.remove_all(tables::BACKUPS, (user,))?;
    if txn.remove_all(tables::CROSS_SIGNING_KEYS, (user,))? > 0 {
        lists::record_local_change(txn, user, None)?;
    }
    Ok(())
}
