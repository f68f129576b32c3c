//! A host's rows in maps: for simulation and tests. Nothing outlives it, and nothing in it fails.

use std::collections::{BTreeMap, BTreeSet};

use super::{Due, HostRows, HostStore, HostStoreError, HostTotals, Listed, MailboxRow, PickupRow};
use crate::{
    deposit::{BodyDigest, Deposit, deposit_len},
    host_protocol::{BoxId, Cursor},
    mailbox::SerialSet,
    stamp::{MailboxId, Serial},
    time::UtcDay,
    token::SpentMark,
};

/// Everything that a host keeps.
#[derive(Clone, Default)]
pub struct MemoryRows {
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    pickups: BTreeMap<BoxId, PickupRow>,
    spent: BTreeMap<SpentMark, [u8; 32]>,
    due: BTreeSet<(UtcDay, Due)>,
    totals: HostTotals,
}

#[derive(Clone)]
struct Mailbox {
    row: MailboxRow,
    spent: SerialSet,
    places: BTreeMap<Serial, Cursor>,
    envelopes: BTreeMap<Cursor, Deposit>,
}

impl HostStore for MemoryRows {
    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn HostRows) -> Result<(), HostStoreError>,
    ) -> Result<(), HostStoreError> {
        work(self)
    }
}

impl HostRows for MemoryRows {
    fn mailbox(&self, id: &MailboxId) -> Result<Option<MailboxRow>, HostStoreError> {
        Ok(self.mailboxes.get(id).map(|mailbox| mailbox.row.clone()))
    }

    fn create_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError> {
        self.due.insert((UtcDay(row.closes.0.saturating_add(1)), Due::Mailbox(*id)));
        let fresh =
            Mailbox { row: row.clone(), spent: SerialSet::new(), places: BTreeMap::new(), envelopes: BTreeMap::new() };
        self.mailboxes.insert(*id, fresh);
        Ok(())
    }

    fn update_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError> {
        if let Some(mailbox) = self.mailboxes.get_mut(id) {
            mailbox.row = row.clone();
        }
        Ok(())
    }

    fn remove_mailbox(&mut self, id: &MailboxId) -> Result<(), HostStoreError> {
        self.mailboxes.remove(id);
        self.due.retain(|(_, due)| *due != Due::Mailbox(*id));
        Ok(())
    }

    fn is_spent(&self, id: &MailboxId, serial: Serial) -> Result<bool, HostStoreError> {
        Ok(self.mailboxes.get(id).is_some_and(|mailbox| mailbox.spent.contains(serial)))
    }

    fn stored(&self, id: &MailboxId, serial: Serial) -> Result<Option<BodyDigest>, HostStoreError> {
        let stored = |mailbox: &Mailbox| mailbox.envelopes.get(mailbox.places.get(&serial)?).map(Deposit::digest);
        Ok(self.mailboxes.get(id).and_then(stored))
    }

    fn put(&mut self, id: &MailboxId, at: Cursor, deposit: &Deposit) -> Result<(), HostStoreError> {
        if let Some(mailbox) = self.mailboxes.get_mut(id) {
            let serial = deposit.header().serial();
            mailbox.spent.insert(serial);
            mailbox.places.insert(serial, at);
            mailbox.envelopes.insert(at, deposit.clone());
        }
        Ok(())
    }

    fn list(&self, id: &MailboxId, after: Cursor, max_bytes: usize) -> Result<Listed, HostStoreError> {
        let mut listed = Listed { deposits: Vec::new(), more: false };
        let Some(mailbox) = self.mailboxes.get(id) else { return Ok(listed) };
        let mut bytes = 0;
        for (cursor, deposit) in mailbox.envelopes.range(Cursor(after.0.saturating_add(1))..) {
            bytes += deposit_len(deposit.header().class());
            if bytes > max_bytes {
                listed.more = true;
                break;
            }
            listed.deposits.push((*cursor, deposit.clone()));
        }
        Ok(listed)
    }

    fn delete(&mut self, id: &MailboxId, serial: Serial) -> Result<Option<u64>, HostStoreError> {
        let Some(mailbox) = self.mailboxes.get_mut(id) else { return Ok(None) };
        let gone = mailbox.places.remove(&serial).and_then(|at| mailbox.envelopes.remove(&at));
        Ok(gone.map(|deposit| deposit_len(deposit.header().class()) as u64))
    }

    fn pickup(&self, id: &BoxId) -> Result<Option<PickupRow>, HostStoreError> {
        Ok(self.pickups.get(id).cloned())
    }

    fn put_pickup(&mut self, id: &BoxId, row: &PickupRow) -> Result<(), HostStoreError> {
        if let Some(before) = self.pickups.insert(*id, row.clone()) {
            self.due.remove(&(before.due(), Due::Box(*id)));
        }
        self.due.insert((row.due(), Due::Box(*id)));
        Ok(())
    }

    fn remove_pickup(&mut self, id: &BoxId) -> Result<(), HostStoreError> {
        if let Some(before) = self.pickups.remove(id) {
            self.due.remove(&(before.due(), Due::Box(*id)));
        }
        Ok(())
    }

    fn spent(&self, mark: &SpentMark) -> Result<Option<[u8; 32]>, HostStoreError> {
        Ok(self.spent.get(mark).copied())
    }

    fn spend(&mut self, mark: &SpentMark, on: &[u8; 32]) -> Result<(), HostStoreError> {
        self.spent.insert(*mark, *on);
        Ok(())
    }

    fn due(&self, today: UtcDay, limit: usize) -> Result<Vec<Due>, HostStoreError> {
        Ok(self.due.iter().take_while(|(day, _)| *day <= today).take(limit).map(|(_, due)| *due).collect())
    }

    fn totals(&self) -> Result<HostTotals, HostStoreError> {
        Ok(self.totals)
    }

    fn put_totals(&mut self, totals: &HostTotals) -> Result<(), HostStoreError> {
        self.totals = *totals;
        Ok(())
    }
}
