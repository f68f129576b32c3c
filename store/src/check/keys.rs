//! End-to-end encryption: one-time keys and their counts, the logs of device lists, key backups.

use std::collections::BTreeMap;

use super::Report;
use crate::{Error, View, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    owners(view, report)?;
    one_time_keys(view, report)?;
    logs(view, report)?;
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
