//! End-to-end encryption: one-time keys and their counts, the logs of device lists, key backups.

use std::collections::BTreeMap;

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    owners(view, report)?;
    one_time_keys(view, report)?;
    logs(view, report)?;
    packs(view, report)?;
    backups(view, report)
}

fn owners(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::DEVICE_KEYS, ())? {
        let ((user, device), _) = row?;
        let known = view.contains(tables::DEVICES, (&user, &device))?;
        report.expect(known, || format!("keys are of device {device}, which is not there"));
    }
    for row in view.scan(tables::TO_DEVICE, ())? {
        let ((user, device, position), _) = row?;
        let known = view.contains(tables::DEVICES, (&user, &device))?;
        report.expect(known, || format!("to-device message {position} is for device {device}, which is not there"));
    }
    Ok(())
}

fn one_time_keys(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    let mut found = BTreeMap::<_, u64>::new();
    for row in view.scan(tables::ONE_TIME_KEYS, ())? {
        let ((user, device, algorithm, position), key) = row?;
        let named = view.get(tables::ONE_TIME_KEY_IDS, (&user, &device, &key.id))?;
        report.expect(named == Some(position), || format!("one-time key {} of {device} is not in the index", key.id));
        *found.entry((user, device, algorithm)).or_default() += 1;
    }
    let mut named = 0;
    for row in view.scan(tables::ONE_TIME_KEY_IDS, ())? {
        row?;
        named += 1;
    }
    let total = found.values().sum::<u64>();
    report.expect(named == total, || format!("{total} one-time keys, but {named} in the index"));
    for row in view.scan(tables::KEY_COUNTS, ())? {
        let ((user, device), counts) = row?;
        for (algorithm, counted) in counts.one_time {
            let left = found.remove(&(user.clone(), device.clone(), algorithm)).unwrap_or(0);
            report.expect(counted == left, || format!("device {device} has {left} one-time keys, counted {counted}"));
        }
    }
    report.expect(found.is_empty(), || format!("{} devices have one-time keys that nobody counts", found.len()));
    Ok(())
}

fn logs(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::DEVICE_LIST_HEAD, ())? {
        let (user, position) = row?;
        let logged = view.get(tables::DEVICE_LIST_LOG, position)?;
        report.expect(logged == Some(user), || format!("the device list log at {position} is of another user"));
    }
    for row in view.scan(tables::DEVICE_OUT_HEAD, ())? {
        let ((user, device), position) = row?;
        let logged = view.get(tables::DEVICE_OUT_LOG, position)?;
        let same = logged.is_some_and(|out| {
            out.user_id == user && out.device_id.as_ref().map_or("", |device| device.as_str()) == device
        });
        report.expect(same, || format!("the log of device changes at {position} is of another device"));
    }
    for row in view.scan(tables::DEVICE_LIST_LOG, ())? {
        let (position, user) = row?;
        let head = view.get(tables::DEVICE_LIST_HEAD, &*user)?;
        report.expect(head == Some(position), || format!("the device list log at {position} is not its user's newest"));
    }
    for row in view.scan(tables::DEVICE_OUT_LOG, ())? {
        let (position, out) = row?;
        let device = out.device_id.as_ref().map_or("", |device| device.as_str());
        let head = view.get(tables::DEVICE_OUT_HEAD, (&*out.user_id, device))?;
        report.expect(head == Some(position), || format!("the log of device changes at {position} is not the newest"));
    }
    Ok(())
}

fn packs(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    let mut outstanding = BTreeMap::<_, u64>::new();
    for row in view.scan(tables::KEY_PACKS_SENT, ())? {
        let ((_, user), sent) = row?;
        for (device, keys) in sent.outstanding {
            *outstanding.entry((user.clone(), device)).or_default() += keys.len() as u64;
        }
    }
    for row in view.scan(tables::KEY_PACKS_OUT, ())? {
        let ((user, device), counted) = row?;
        let held = outstanding.remove(&(user, device.to_string())).unwrap_or(0);
        report.expect(counted == held, || format!("packs hold {held} keys of device {device}, counted {counted}"));
    }
    let uncounted = outstanding.values().filter(|keys| **keys > 0).count();
    report.expect(uncounted == 0, || format!("packs hold keys of {uncounted} devices that nobody counts"));
    for row in view.scan(tables::KEY_PACKS_OWED, ())? {
        let ((server, user), owed) = row?;
        let sent = view.get(tables::KEY_PACKS_SENT, (&*server, &*user))?;
        report.expect(sent.is_some_and(|sent| sent.version >= owed.version), || {
            "a key pack is owed that was not made".to_owned()
        });
    }
    for row in view.scan(tables::KEY_PACKS, ())? {
        let ((server, user, device), _) = row?;
        let known = view.contains(tables::KEY_PACK_VERSIONS, (&*server, &*user))?;
        report.expect(known, || format!("keys are held for device {device} of a user without a pack"));
    }
    Ok(())
}

fn backups(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    let mut found = BTreeMap::<_, u64>::new();
    for row in view.scan(tables::BACKUP_KEYS, ())? {
        let ((user, version, _, _), _) = row?;
        *found.entry((user, version)).or_default() += 1;
    }
    for row in view.scan(tables::BACKUPS, ())? {
        let ((user, version), backup) = row?;
        let held = found.remove(&(user, version)).unwrap_or(0);
        report.expect(held == backup.count, || {
            format!("backup {version} holds {held} sessions, counted {}", backup.count)
        });
    }
    report.expect(found.is_empty(), || format!("{} key backups have sessions but no version", found.len()));
    Ok(())
}
