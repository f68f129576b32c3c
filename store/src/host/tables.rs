//! Every table of a host's database. A mailbox is 32 bytes that say nothing; nothing here names a sender, a time or an address.

use redb::TableDefinition;

/// Facts about the file: `layout`, `totals`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("META");
/// Mailbox id => purpose, `k_mb`, read key, last day, counts.
pub(super) const MAILBOXES: TableDefinition<'_, &[u8; 32], &[u8; 91]> = TableDefinition::new("MAILBOXES");
/// (Mailbox id, serial / 256) => which of those 256 serials are spent, as bits.
pub(super) const SPENT: TableDefinition<'_, (&[u8; 32], u8), &[u8; 32]> = TableDefinition::new("SPENT");
/// (Mailbox id, serial) => place in the order of arrival, while the envelope lies here.
pub(super) const PLACES: TableDefinition<'_, (&[u8; 32], u16), u64> = TableDefinition::new("PLACES");
/// (Mailbox id, place) => header, signature, body.
pub(super) const ENVELOPES: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("ENVELOPES");
/// Box id => day of its end, state, claim, body.
pub(super) const PICKUPS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("PICKUPS");
/// Mark of a spent token or grant => what the grant was spent on, zeros for a token.
pub(super) const MARKS: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("MARKS");
/// (Day, 0 mailbox or 1 box, id): what is over from that day on.
pub(super) const DUE: TableDefinition<'_, (u32, u8, &[u8; 32]), ()> = TableDefinition::new("DUE");
