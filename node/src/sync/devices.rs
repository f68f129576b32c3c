//! End-to-end encryption in `/sync`: to-device messages, changed device lists, what is left of the device's own keys.

use std::ops::Bound;

use millpond_matrix::client::write_string;
use millpond_store::{Position, View, job, tables};
use ruma::{DeviceId, UserId};

use super::{Sync, answer::Sweep, token::Token};
use crate::{
    Error,
    json::{any_key, comma, events_member, key, object_member, raw},
    keys, to_device,
};

impl Sync {
    /// Forgets the to-device messages that the device has got, as its token says.
    pub(super) async fn acknowledge(&self, user: &UserId, device: &DeviceId, since: Token) -> Result<(), Error> {
        if !to_device::has_acknowledgeable(self.core.snapshot()?.view(), user, device, since.to_device)? {
            return Ok(());
        }
        let (user, device) = (user.to_owned(), device.to_owned());
        let forget =
            job(|_| Ok::<_, Error>(()), move |(), txn| to_device::acknowledge(txn, &user, &device, since.to_device));
        self.core.write(forget).await?;
        Ok(())
    }
}

/// Appends `to_device`; says whether there was any. What does not fit waits for the next answer.
pub(super) fn write_to_device(sweep: &mut Sweep<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
    let after = sweep.since.map(|since| since.to_device).unwrap_or_default();
    let waiting = to_device::pending(sweep.view, sweep.who.user, sweep.device, after, MESSAGES_MAX)?;
    if let Some((position, _)) = waiting.last().filter(|_| waiting.len() == MESSAGES_MAX) {
        sweep.now.to_device = *position;
    }
    events_member(out, "to_device", |out| {
        for (_, message) in &waiting {
            comma(out);
            raw(out, message.json().get());
        }
        Ok(())
    })
}

/// Appends `device_lists`, which a first sync has no use for; says whether there was anything.
pub(super) fn write_lists(sweep: &Sweep<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
    let Some(since) = sweep.since else { return Ok(false) };
    write_lists_since(sweep.view, sweep.who.user, since.position, sweep.company_changed.get(), out)
}

/// Appends `device_lists` with what changed after a position. `company_changed`: who shares rooms with the user may have.
pub(super) fn write_lists_since(
    view: View<'_>,
    user: &UserId,
    since: Position,
    company_changed: bool,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    if !company_changed && !may_have_changed(view, user, since.0)? {
        return Ok(false);
    }
    let changes = keys::device_lists(view, user, since)?;
    object_member(out, "device_lists", |out| {
        for (name, users) in [("changed", changes.changed), ("left", changes.left)] {
            if users.is_empty() {
                continue;
            }
            key(out, name);
            out.push(b'[');
            for user in users {
                comma(out);
                write_string(out, user.as_str());
            }
            out.push(b']');
        }
        Ok(())
    })
}

/// Whether a look at all who share rooms with the user can find anything, while they stay the same.
fn may_have_changed(view: View<'_>, user: &UserId, since: u64) -> Result<bool, Error> {
    let lists = view.range(tables::DEVICE_LIST_LOG, Bound::Excluded(since), Bound::<u64>::Unbounded)?.next();
    let (from, to) = (Bound::Excluded((user, since)), Bound::Included((user, u64::MAX)));
    let signed = view.range(tables::SIGNATURE_LOG, from, to)?.next();
    Ok(lists.transpose()?.is_some() || signed.transpose()?.is_some())
}

/// Appends the counts of the device's keys; says whether they changed.
pub(super) fn write_counts(sweep: &Sweep<'_>, out: &mut Vec<u8>) -> Result<bool, Error> {
    write_counts_since(sweep.view, sweep.who.user, sweep.device, sweep.position(), out)
}

/// Appends the counts of a device's keys; says whether they changed after a position.
pub(super) fn write_counts_since(
    view: View<'_>,
    user: &UserId,
    device: &DeviceId,
    since: u64,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let counts = keys::key_counts(view, user, device)?;
    key(out, "device_one_time_keys_count");
    out.push(b'{');
    for (algorithm, count) in &counts.one_time {
        any_key(out, algorithm);
        raw(out, &count.to_string());
    }
    out.push(b'}');
    key(out, "device_unused_fallback_key_types");
    out.push(b'[');
    for algorithm in &counts.unused_fallback {
        comma(out);
        write_string(out, algorithm);
    }
    out.push(b']');
    Ok(counts.position > since)
}

/// To-device messages of one answer.
const MESSAGES_MAX: usize = 100;
