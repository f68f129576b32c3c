//! The destinations of the classic route to which something is owed. There may be thousands of servers in our rooms, so they
//! are found by the rows that owe, never one by one.

use std::{collections::BTreeSet, ops::Bound};

use millpond_store::{View, rows::RoomShort, tables};
use ruma::OwnedServerName;

use super::Outbox;
use crate::{
    Error,
    keys::servers_sharing,
    peers::{Route, route},
    receipts::owes_receipts,
};

impl Outbox {
    /// `devices_seen` is the position up to which changes of devices have been looked at: each change names its servers
    /// once, and the schedule keeps them until they are served.
    pub(super) fn classic_with_work(
        &self,
        view: View<'_>,
        devices_seen: &mut u64,
    ) -> Result<Vec<OwnedServerName>, Error> {
        if !self.peers.classic().is_on() {
            return Ok(Vec::new());
        }
        let us = self.core.identity();
        let mut owed = owed_events(view)?;
        for server in owed_receipts(view)? {
            if owes_receipts(view, us, &server, Route::Classic)? {
                owed.insert(server);
            }
        }
        self.owed_typing(view, &mut owed)?;
        owed.extend(self.presence.servers_owed());
        owed_devices(view, devices_seen, &mut owed)?;
        let mut servers = Vec::new();
        for server in owed {
            if route(view, us, &server)? == Some(Route::Classic) {
                servers.push(server);
            }
        }
        Ok(servers)
    }

    fn owed_typing(&self, view: View<'_>, owed: &mut BTreeSet<OwnedServerName>) -> Result<(), Error> {
        for room in self.typing.rooms_with_news() {
            for row in view.scan(tables::ROOM_SERVERS, (room,))? {
                let ((_, server), _) = row?;
                if !self.typing.edus(view, &server, Route::Classic, 1)?.edus.is_empty() {
                    owed.insert(server);
                }
            }
        }
        Ok(())
    }
}

/// The servers with rows in the outbox, from one to the next without reading the rows between.
fn owed_events(view: View<'_>) -> Result<BTreeSet<OwnedServerName>, Error> {
    let mut servers = BTreeSet::new();
    let mut from: Bound<(OwnedServerName, u64)> = Bound::Unbounded;
    while let Some(row) = view.range(tables::OUTBOX, from, Bound::<(OwnedServerName, u64)>::Unbounded)?.next() {
        let ((server, _), _) = row?;
        servers.insert(server.clone());
        from = Bound::Excluded((server, u64::MAX));
    }
    Ok(servers)
}

/// The same for receipts.
fn owed_receipts(view: View<'_>) -> Result<BTreeSet<OwnedServerName>, Error> {
    type Key = (OwnedServerName, RoomShort);
    let mut servers = BTreeSet::new();
    let mut from: Bound<Key> = Bound::Unbounded;
    while let Some(row) = view.range(tables::RECEIPTS_OWED, from, Bound::<Key>::Unbounded)?.next() {
        let ((server, _), _) = row?;
        servers.insert(server.clone());
        from = Bound::Excluded((server, RoomShort(u64::MAX)));
    }
    Ok(servers)
}

fn owed_devices(view: View<'_>, seen: &mut u64, owed: &mut BTreeSet<OwnedServerName>) -> Result<(), Error> {
    let mut users = BTreeSet::new();
    for row in view.range(tables::DEVICE_OUT_LOG, Bound::Excluded(*seen), Bound::<u64>::Unbounded)? {
        let (position, out) = row?;
        *seen = position;
        users.insert(out.user_id);
    }
    for user in users {
        owed.extend(servers_sharing(view, &user)?);
    }
    Ok(())
}
