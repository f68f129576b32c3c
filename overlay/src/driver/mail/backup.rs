//! What of links and mailboxes goes into a backup: with whom we are linked, how a link is made anew, and where a HELLO reaches us. Never what opens or
//! seals mail: two nodes with one state of a link would seal two things under one key (overlay.md, section 5).

use std::collections::BTreeSet;

use millpond_mailbox::session::{RowKey, Session};

use super::rows;
use crate::driver::held;
use crate::store::{Record, RecordKind};

/// The records that a backup holds, in the form in which it holds them. Links without a session are left out: only a new contact link makes them anew.
///
/// | kept | as |
/// |---|---|
/// | link with a session | names, class and hosts; no secret |
/// | session | restore key, recovery stamps, incarnations |
/// | recovery mailbox | its key, and which stamps are out |
/// | tokens | as they are: the mailboxes for answers are made with them |
pub fn backed_up(records: &[Record]) -> Vec<Record> {
    let mut kept = Vec::new();
    let mut linked = BTreeSet::new();
    for record in records.iter().filter(|record| record.key.kind == RecordKind::Session) {
        let Some((link, RowKey::Record)) = rows::session_key(&record.key.id) else { continue };
        if let Some(bytes) = Session::record_for_backup(&record.bytes) {
            linked.insert(link);
            kept.push(Record { key: record.key.clone(), bytes: bytes.to_vec() });
        }
    }
    let mut links = BTreeSet::new();
    for record in records.iter().filter(|record| record.key.kind == RecordKind::Link) {
        if let Some((id, record)) = held::for_backup(record).filter(|(id, _)| linked.contains(id)) {
            links.insert(id);
            kept.push(record);
        }
    }
    // A session without its link would have nobody to speak for.
    kept.retain(|record| match rows::session_key(&record.key.id) {
        Some((link, _)) if record.key.kind == RecordKind::Session => links.contains(&link),
        _ => true,
    });
    let recovery: BTreeSet<Vec<u8>> = records
        .iter()
        .filter(|record| record.key.kind == RecordKind::Mailbox && rows::is_recovery(&record.bytes))
        .map(|record| record.key.id.clone())
        .collect();
    let of_recovery = |id: &[u8]| id.first_chunk::<32>().is_some_and(|mailbox| recovery.contains(mailbox.as_slice()));
    kept.extend(
        records
            .iter()
            .filter(|record| match record.key.kind {
                RecordKind::Mailbox | RecordKind::Serial => of_recovery(&record.key.id),
                RecordKind::Tokens => true,
                // Settings are addresses of the machine that the backup is of; another one finds its own.
                // Contacts show their hosts again, and ours is another one there.
                RecordKind::Link
                | RecordKind::Session
                | RecordKind::Box
                | RecordKind::Setting
                | RecordKind::Leave
                | RecordKind::Hosted
                | RecordKind::Lodging => false,
            })
            .cloned(),
    );
    kept
}
