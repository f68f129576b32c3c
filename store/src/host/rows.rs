//! The rows of a host inside one transaction: tables are opened once, values have fixed layouts.

use bytes::Bytes;
use millpond_mailbox::{
    deposit::{BodyDigest, Deposit},
    host::{Due, HostRows, HostStoreError, HostTotals, Listed, MailboxRow, PickupRow, PickupState},
    host_protocol::{BoxId, Cursor, Purpose},
    mailbox::ReadPublicKey,
    stamp::{MailboxId, MailboxKey, Serial},
    time::UtcDay,
    token::SpentMark,
};
use redb::{ReadableTable, Table, WriteTransaction};

use super::tables::{DUE, ENVELOPES, MAILBOXES, MARKS, META, PICKUPS, PLACES, SPENT};
use crate::Error;

pub(super) struct Rows<'t> {
    meta: Table<'t, &'static str, &'static [u8]>,
    mailboxes: Table<'t, &'static [u8; 32], &'static [u8; MAILBOX_LEN]>,
    spent: Table<'t, (&'static [u8; 32], u8), &'static [u8; 32]>,
    places: Table<'t, (&'static [u8; 32], u16), u64>,
    envelopes: Table<'t, (&'static [u8; 32], u64), &'static [u8]>,
    pickups: Table<'t, &'static [u8; 32], &'static [u8]>,
    marks: Table<'t, &'static [u8; 32], &'static [u8; 32]>,
    due: Table<'t, (u32, u8, &'static [u8; 32]), ()>,
    wrote: bool,
}

impl<'t> Rows<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, Error> {
        let failed = |e| Error::storage("opening a table", redb::Error::from(e));
        Ok(Self {
            meta: txn.open_table(META).map_err(failed)?,
            mailboxes: txn.open_table(MAILBOXES).map_err(failed)?,
            spent: txn.open_table(SPENT).map_err(failed)?,
            places: txn.open_table(PLACES).map_err(failed)?,
            envelopes: txn.open_table(ENVELOPES).map_err(failed)?,
            pickups: txn.open_table(PICKUPS).map_err(failed)?,
            marks: txn.open_table(MARKS).map_err(failed)?,
            due: txn.open_table(DUE).map_err(failed)?,
            wrote: false,
        })
    }

    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    /// Writes the layout into a new file and refuses a later one.
    pub(super) fn check_layout(&mut self) -> Result<(), Error> {
        let found = self.meta.get("layout").map_err(|e| Error::storage("reading the layout", e))?;
        let found = found.map(|row| row.value().first().copied().unwrap_or_default());
        match found {
            Some(found) if found > LAYOUT => Err(Error::TooNew { found: u64::from(found), known: u64::from(LAYOUT) }),
            Some(_) => Ok(()),
            None => {
                self.meta.insert("layout", [LAYOUT].as_slice()).map_err(|e| Error::storage("writing the layout", e))?;
                self.wrote = true;
                Ok(())
            }
        }
    }

    fn set_due(&mut self, day: UtcDay, due: &Due) -> Result<(), HostStoreError> {
        let (kind, id) = due_key(due);
        self.due.insert((day.0, kind, id), ()).map_err(failed("writing what is due"))?;
        Ok(())
    }

    fn unset_due(&mut self, day: UtcDay, due: &Due) -> Result<(), HostStoreError> {
        let (kind, id) = due_key(due);
        self.due.remove((day.0, kind, id)).map_err(failed("removing what is due"))?;
        Ok(())
    }

    fn spent_bits(&self, id: &MailboxId, serial: Serial) -> Result<[u8; 32], HostStoreError> {
        let row = self.spent.get((&id.0, (serial.0 >> 8) as u8)).map_err(failed("reading spent serials"))?;
        Ok(row.map_or([0; 32], |row| *row.value()))
    }

    fn envelope(&self, id: &MailboxId, at: u64) -> Result<Option<Deposit>, HostStoreError> {
        let row = self.envelopes.get((&id.0, at)).map_err(failed("reading an envelope"))?;
        row.map(|row| parse_deposit(row.value())).transpose()
    }
}

impl HostRows for Rows<'_> {
    fn mailbox(&self, id: &MailboxId) -> Result<Option<MailboxRow>, HostStoreError> {
        let row = self.mailboxes.get(&id.0).map_err(failed("reading a mailbox"))?;
        row.map(|row| parse_mailbox(row.value())).transpose()
    }

    fn create_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError> {
        self.set_due(after(row.closes), &Due::Mailbox(*id))?;
        self.update_mailbox(id, row)
    }

    fn update_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError> {
        self.wrote = true;
        self.mailboxes.insert(&id.0, &mailbox_bytes(row)).map_err(failed("writing a mailbox"))?;
        Ok(())
    }

    fn remove_mailbox(&mut self, id: &MailboxId) -> Result<(), HostStoreError> {
        self.wrote = true;
        let Some(row) = self.mailbox(id)? else { return Ok(()) };
        self.unset_due(after(row.closes), &Due::Mailbox(*id))?;
        self.mailboxes.remove(&id.0).map_err(failed("removing a mailbox"))?;
        self.spent.retain_in((&id.0, 0)..=(&id.0, u8::MAX), |_, _| false).map_err(failed("removing serials"))?;
        self.places.retain_in((&id.0, 0)..=(&id.0, u16::MAX), |_, _| false).map_err(failed("removing places"))?;
        self.envelopes.retain_in((&id.0, 0)..=(&id.0, u64::MAX), |_, _| false).map_err(failed("removing envelopes"))
    }

    fn is_spent(&self, id: &MailboxId, serial: Serial) -> Result<bool, HostStoreError> {
        let (byte, bit) = bit_of(serial);
        Ok(self.spent_bits(id, serial)?[byte] & bit != 0)
    }

    fn stored(&self, id: &MailboxId, serial: Serial) -> Result<Option<BodyDigest>, HostStoreError> {
        let place = self.places.get((&id.0, serial.0)).map_err(failed("reading a place"))?;
        let Some(at) = place.map(|place| place.value()) else { return Ok(None) };
        Ok(self.envelope(id, at)?.map(|deposit| deposit.digest()))
    }

    fn put(&mut self, id: &MailboxId, at: Cursor, deposit: &Deposit) -> Result<(), HostStoreError> {
        self.wrote = true;
        let serial = deposit.header().serial();
        let mut bits = self.spent_bits(id, serial)?;
        let (byte, bit) = bit_of(serial);
        bits[byte] |= bit;
        self.spent.insert((&id.0, (serial.0 >> 8) as u8), &bits).map_err(failed("writing a spent serial"))?;
        self.places.insert((&id.0, serial.0), at.0).map_err(failed("writing a place"))?;
        let bytes = deposit.to_bytes();
        self.envelopes.insert((&id.0, at.0), bytes.as_slice()).map_err(failed("writing an envelope"))?;
        Ok(())
    }

    fn list(&self, id: &MailboxId, after: Cursor, max_bytes: usize) -> Result<Listed, HostStoreError> {
        let mut listed = Listed { deposits: Vec::new(), more: false };
        let Some(first) = after.0.checked_add(1) else { return Ok(listed) };
        let range = self.envelopes.range((&id.0, first)..=(&id.0, u64::MAX)).map_err(failed("reading envelopes"))?;
        let mut bytes = 0;
        for row in range {
            let (key, value) = row.map_err(failed("reading envelopes"))?;
            bytes += value.value().len();
            if bytes > max_bytes {
                listed.more = true;
                break;
            }
            listed.deposits.push((Cursor(key.value().1), parse_deposit(value.value())?));
        }
        Ok(listed)
    }

    fn delete(&mut self, id: &MailboxId, serial: Serial) -> Result<Option<u64>, HostStoreError> {
        let place = self.places.remove((&id.0, serial.0)).map_err(failed("removing a place"))?;
        let Some(at) = place.map(|place| place.value()) else { return Ok(None) };
        self.wrote = true;
        let gone = self.envelopes.remove((&id.0, at)).map_err(failed("removing an envelope"))?;
        Ok(gone.map(|row| row.value().len() as u64))
    }

    fn pickup(&self, id: &BoxId) -> Result<Option<PickupRow>, HostStoreError> {
        let row = self.pickups.get(&id.0).map_err(failed("reading a pickup box"))?;
        row.map(|row| parse_pickup(row.value())).transpose()
    }

    fn put_pickup(&mut self, id: &BoxId, row: &PickupRow) -> Result<(), HostStoreError> {
        self.wrote = true;
        if let Some(before) = self.pickup(id)? {
            self.unset_due(before.due(), &Due::Box(*id))?;
        }
        self.pickups.insert(&id.0, pickup_bytes(row).as_slice()).map_err(failed("writing a pickup box"))?;
        self.set_due(row.due(), &Due::Box(*id))
    }

    fn remove_pickup(&mut self, id: &BoxId) -> Result<(), HostStoreError> {
        self.wrote = true;
        if let Some(before) = self.pickup(id)? {
            self.unset_due(before.due(), &Due::Box(*id))?;
        }
        self.pickups.remove(&id.0).map_err(failed("removing a pickup box"))?;
        Ok(())
    }

    fn spent(&self, mark: &SpentMark) -> Result<Option<[u8; 32]>, HostStoreError> {
        let row = self.marks.get(&mark.0).map_err(failed("reading a token's mark"))?;
        Ok(row.map(|row| *row.value()))
    }

    fn spend(&mut self, mark: &SpentMark, on: &[u8; 32]) -> Result<(), HostStoreError> {
        self.wrote = true;
        self.marks.insert(&mark.0, on).map_err(failed("writing a token's mark"))?;
        Ok(())
    }

    fn due(&self, today: UtcDay, limit: usize) -> Result<Vec<Due>, HostStoreError> {
        let until = (today.0, u8::MAX, &[0xff; 32]);
        let range = self.due.range(..=until).map_err(failed("reading what is due"))?;
        let mut found = Vec::new();
        for row in range.take(limit) {
            let (key, _) = row.map_err(failed("reading what is due"))?;
            let (_, kind, id) = key.value();
            found.push(if kind == DUE_MAILBOX { Due::Mailbox(MailboxId(*id)) } else { Due::Box(BoxId(*id)) });
        }
        Ok(found)
    }

    fn totals(&self) -> Result<HostTotals, HostStoreError> {
        let row = self.meta.get("totals").map_err(failed("reading the totals"))?;
        let Some(row) = row else { return Ok(HostTotals::default()) };
        let mut bytes = Reader(row.value());
        let totals = HostTotals { mailboxes: bytes.u64()?, boxes: bytes.u64()?, bytes: bytes.u64()? };
        Ok(totals)
    }

    fn put_totals(&mut self, totals: &HostTotals) -> Result<(), HostStoreError> {
        self.wrote = true;
        let bytes = [totals.mailboxes, totals.boxes, totals.bytes].map(u64::to_be_bytes);
        self.meta.insert("totals", bytes.as_flattened()).map_err(failed("writing the totals"))?;
        Ok(())
    }
}

fn after(day: UtcDay) -> UtcDay {
    UtcDay(day.0.saturating_add(1))
}

fn due_key(due: &Due) -> (u8, &[u8; 32]) {
    match due {
        Due::Mailbox(id) => (DUE_MAILBOX, &id.0),
        Due::Box(id) => (DUE_BOX, &id.0),
    }
}

/// Byte and bit of a serial among the 256 of its row.
fn bit_of(serial: Serial) -> (usize, u8) {
    let low = serial.0 & 0xff;
    (usize::from(low >> 3), 1 << (low & 7))
}

fn mailbox_bytes(row: &MailboxRow) -> [u8; MAILBOX_LEN] {
    let parts: [&[u8]; 8] = [
        &[row.purpose.as_byte()],
        row.key.as_bytes(),
        &row.read_key.0,
        &row.closes.0.to_be_bytes(),
        &row.arrived.0.to_be_bytes(),
        &row.envelopes.to_be_bytes(),
        &row.bytes.to_be_bytes(),
        &row.boxes.to_be_bytes(),
    ];
    let mut bytes = [0_u8; MAILBOX_LEN];
    bytes.copy_from_slice(&parts.concat());
    bytes
}

fn parse_mailbox(bytes: &[u8; MAILBOX_LEN]) -> Result<MailboxRow, HostStoreError> {
    let mut bytes = Reader(bytes);
    Ok(MailboxRow {
        purpose: Purpose::from_byte(bytes.take::<1>()?[0]).ok_or_else(|| corrupt("MAILBOXES"))?,
        key: MailboxKey::from_bytes(bytes.take()?),
        read_key: ReadPublicKey(bytes.take()?),
        closes: UtcDay(u32::from_be_bytes(bytes.take()?)),
        arrived: Cursor(bytes.u64()?),
        envelopes: u32::from_be_bytes(bytes.take()?),
        bytes: bytes.u64()?,
        boxes: u16::from_be_bytes(bytes.take()?),
    })
}

fn parse_deposit(bytes: &[u8]) -> Result<Deposit, HostStoreError> {
    Deposit::parse(&Bytes::copy_from_slice(bytes)).map_err(|_| corrupt("ENVELOPES"))
}

fn pickup_bytes(row: &PickupRow) -> Vec<u8> {
    let expires = row.expires.0.to_be_bytes();
    match &row.state {
        PickupState::Waiting(body) => [expires.as_slice(), &[WAITING], body].concat(),
        PickupState::Claimed { claim, on, body } => {
            [expires.as_slice(), &[CLAIMED], claim, &on.0.to_be_bytes(), body].concat()
        }
        PickupState::Tombstone => [expires.as_slice(), &[TOMBSTONE]].concat(),
    }
}

fn parse_pickup(bytes: &[u8]) -> Result<PickupRow, HostStoreError> {
    let mut bytes = Reader(bytes);
    let expires = UtcDay(u32::from_be_bytes(bytes.take()?));
    let state = match bytes.take::<1>()? {
        [WAITING] => PickupState::Waiting(bytes.rest()),
        [CLAIMED] => PickupState::Claimed {
            claim: bytes.take()?,
            on: UtcDay(u32::from_be_bytes(bytes.take()?)),
            body: bytes.rest(),
        },
        [TOMBSTONE] => PickupState::Tombstone,
        _ => return Err(corrupt("PICKUPS")),
    };
    Ok(PickupRow { expires, state })
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HostStoreError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| corrupt("a row"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, HostStoreError> {
        self.take().map(u64::from_be_bytes)
    }

    fn rest(self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }
}

fn corrupt(table: &'static str) -> HostStoreError {
    let why = "a row of the host's database does not decode".to_owned();
    HostStoreError { doing: "reading a row", source: Box::new(Error::Corrupt { table, why }) }
}

fn failed(doing: &'static str) -> impl Fn(redb::StorageError) -> HostStoreError {
    move |source| HostStoreError { doing, source: Box::new(Error::storage(doing, source)) }
}

/// Bytes of a mailbox's row, which is its fields one after the other.
const MAILBOX_LEN: usize = 1 + 32 + 32 + 4 + 8 + 4 + 8 + 2;
const LAYOUT: u8 = 1;
const DUE_MAILBOX: u8 = 0;
const DUE_BOX: u8 = 1;
const WAITING: u8 = 0;
const CLAIMED: u8 = 1;
const TOMBSTONE: u8 = 2;
