//! The overlay's records as rows of our database: durable before the bytes that depend on them leave.

use futures::{FutureExt, future::BoxFuture};
use millpond_mailbox::name::NodeName;
use millpond_overlay::{Change, Delivery, LinkClass, LinkStore, Record, RecordKey, RecordKind, StoreError};
use millpond_store::{
    Store, Topic, WriteTxn, job,
    key::{AsKey, Key},
    rows::MailIn,
    tables,
};
use ruma::OwnedServerName;

use super::backlog::Backlog;
use crate::{outbox::posted, peers};

/// A [`LinkStore`] over the node's database.
pub(super) struct LinkRows {
    store: Store,
    backlog: Backlog,
}

impl LinkRows {
    pub(super) fn new(store: Store, backlog: Backlog) -> Result<Self, millpond_store::Error> {
        backlog.load(&store)?;
        Ok(Self { store, backlog })
    }

    fn rows(&self) -> Result<Vec<Record>, millpond_store::Error> {
        let snapshot = self.store.snapshot()?;
        let mut records = Vec::new();
        for row in snapshot.view().scan(tables::LINKS, ())? {
            let ((tag, id), bytes) = row?;
            let kind = RecordKind::from_tag(tag).ok_or_else(|| corrupt(format!("unknown kind {tag}")))?;
            let id = data_encoding::HEXLOWER.decode(id.as_bytes()).map_err(|e| corrupt(e.to_string()))?;
            records.push(Record { key: RecordKey { kind, id }, bytes });
        }
        Ok(records)
    }
}

/// Whether a mailbox of this node is at an onion service. What cannot be read is found by those who need it.
pub(crate) fn has_onion_mailbox(store: &Store) -> bool {
    let kind = RecordKind::Mailbox;
    let read = || {
        let snapshot = store.snapshot()?;
        let mut records = Vec::new();
        for row in snapshot.view().scan(tables::LINKS, (kind.tag(),))? {
            records.push(Record { key: RecordKey { kind, id: Vec::new() }, bytes: row?.1 });
        }
        Ok::<_, millpond_store::Error>(records)
    };
    read().is_ok_and(|records| millpond_overlay::has_onion_mailbox(&records))
}

impl LinkStore for LinkRows {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        async move { self.rows().map_err(failed) }.boxed()
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        let write = job(|_| Ok::<_, std::convert::Infallible>(()), move |(), txn| apply(txn, &changes));
        async move { self.store.write(write).await.map(|_| ()).map_err(failed) }.boxed()
    }

    fn commit_delivery(&self, changes: Vec<Change>, delivery: Delivery) -> BoxFuture<'_, Result<(), StoreError>> {
        let Ok(peer) = OwnedServerName::try_from(delivery.peer.as_str()) else {
            return self.commit(changes);
        };
        let contact = delivery.class == LinkClass::Contact;
        let arrived: Vec<MailIn> = delivery
            .arrived
            .iter()
            .map(|item| MailIn { peer: peer.clone(), contact, kind: item.kind(), body: item.body() })
            .collect();
        let staged = arrived.clone();
        let write = job(
            |_| Ok::<_, std::convert::Infallible>(()),
            move |(), txn| {
                apply(txn, &changes)?;
                for item in &arrived {
                    let position = txn.next_position().0;
                    txn.put(tables::MAIL_IN, position, item)?;
                    txn.touch(Topic::Mail);
                }
                if let Some(server) = peers::server_of(txn.view(), &delivery.peer)? {
                    posted(txn, &server, &delivery.done)?;
                    txn.touch(Topic::Outbox(server));
                }
                // Wakes the outbox even where nothing else takes a position.
                txn.next_position();
                Ok(())
            },
        );
        async move {
            self.store.write(write).await.map_err(failed)?;
            self.backlog.staged(&staged);
            Ok(())
        }
        .boxed()
    }

    fn takes_more(&self, peer: &NodeName) -> bool {
        OwnedServerName::try_from(peer.as_str()).is_ok_and(|peer| self.backlog.has_room(&peer))
    }
}

fn apply(txn: &mut WriteTxn<'_>, changes: &[Change]) -> Result<(), millpond_store::Error> {
    for change in changes {
        match change {
            Change::Put(record) => txn.put(tables::LINKS, row_key(&record.key), &record.bytes)?,
            Change::Remove(key) => drop(txn.remove(tables::LINKS, row_key(key))?),
        }
    }
    Ok(())
}

/// A record as its row stands in the file.
pub(crate) fn record_of(key: &[u8], value: &[u8]) -> Result<Record, String> {
    let (tag, id) = <(u8, String)>::decode(&mut &*key)?;
    let kind = RecordKind::from_tag(tag).ok_or_else(|| format!("unknown kind {tag}"))?;
    let id = data_encoding::HEXLOWER.decode(id.as_bytes()).map_err(|e| e.to_string())?;
    Ok(Record { key: RecordKey { kind, id }, bytes: value.to_vec() })
}

/// The key of a record as it stands in the file.
pub(crate) fn encoded_key(key: &RecordKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    row_key(key).encode(&mut bytes);
    bytes
}

fn row_key(key: &RecordKey) -> (u8, String) {
    (key.kind.tag(), data_encoding::HEXLOWER.encode(&key.id))
}

fn corrupt(why: String) -> millpond_store::Error {
    millpond_store::Error::Corrupt { table: "LINKS", why }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError { why: error.to_string() }
}
