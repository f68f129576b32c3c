//! How much of each peer has come out of mailboxes and is not worked off. A peer that sends faster than this node works is left waiting: it gets no
//! stamps, and what it has laid down stays at the hosts. Counted from the rows at the first use, kept in memory from then on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use millpond_store::{Error, Store, rows::MailIn, tables};
use ruma::{OwnedServerName, ServerName};

/// What waits, by peers as items name them. Clones count the same.
#[derive(Clone, Default)]
pub(crate) struct Backlog(Arc<Mutex<Option<BTreeMap<OwnedServerName, Waiting>>>>);

/// Of one peer. It may be below zero for a moment: an item can be worked off before the commit that staged it is counted.
#[derive(Clone, Copy, Default)]
struct Waiting {
    items: i64,
    bytes: i64,
}

/// Items of one peer that wait, and their bytes; beyond either nothing more of it is staged.
const MAX_ITEMS: i64 = 2_000;
const MAX_BYTES: i64 = 16 << 20;

impl Backlog {
    /// Counts what is there. To be done before anything is staged or worked off.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn load(&self, store: &Store) -> Result<(), Error> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let mut counts = BTreeMap::new();
        let snapshot = store.snapshot()?;
        for row in snapshot.view().scan(tables::MAIL_IN, ())? {
            count(&mut counts, &row?.1, 1);
        }
        *held = Some(counts);
        Ok(())
    }

    /// These rows are there.
    pub(super) fn staged(&self, items: &[MailIn]) {
        self.change(items, 1);
    }

    /// These rows are gone.
    pub(crate) fn worked_off(&self, items: &[MailIn]) {
        self.change(items, -1);
    }

    fn change(&self, items: &[MailIn], by: i64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = held.as_mut() {
            items.iter().for_each(|item| count(counts, item, by));
        }
    }

    /// Whether more of a peer may be staged.
    pub(super) fn has_room(&self, peer: &ServerName) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = held.as_ref().and_then(|counts| counts.get(peer)).copied().unwrap_or_default();
        waiting.items < MAX_ITEMS && waiting.bytes < MAX_BYTES
    }
}

fn count(counts: &mut BTreeMap<OwnedServerName, Waiting>, item: &MailIn, by: i64) {
    let waiting = counts.entry(item.peer.clone()).or_default();
    waiting.items += by;
    waiting.bytes += by * i64::try_from(item.body.len()).unwrap_or(i64::MAX);
    if (waiting.items, waiting.bytes) == (0, 0) {
        counts.remove(&item.peer);
    }
}

#[cfg(test)]
mod tests {
    use millpond_mailbox::{identity::IdentityKey, item::Item, name::NodeName};
    use millpond_overlay::{Arrival, Delivery, LinkClass, LinkStore};
    use millpond_store::{job, rows::Peer};
    use tokio_util::sync::CancellationToken;

    use super::{super::records::LinkRows, *};
    use crate::{Core, links::Links, mail::Mail, outbox::Outbox, peers::Peers, testing};

    fn delivery(peer: &NodeName, bytes: usize, count: usize) -> Delivery {
        let arrived = vec![Item::Verdict(vec![7; bytes]); count];
        Delivery { peer: peer.clone(), class: LinkClass::Contact, arrived, done: Vec::new() }
    }

    fn rows_of(core: &Core, backlog: &Backlog) -> LinkRows {
        LinkRows::new(core.store().clone(), backlog.clone()).unwrap()
    }

    async fn link(core: &Core, peer: &NodeName) {
        let server = OwnedServerName::try_from(peer.as_str()).unwrap();
        let row = Peer { linked: true, linked_since: 1, ..Peer::default() };
        let write = job(|_| Ok::<_, crate::Error>(()), move |(), txn| txn.put(tables::PEERS, &*server, &row));
        core.write(write).await.unwrap();
    }

    #[tokio::test]
    async fn a_contact_that_floods_is_taken_from_again_when_its_mail_is_worked_off() {
        let core = testing::core();
        let links = Links::with_transports(core.clone(), Arc::new(|_| Ok(Vec::new())));
        let mut arrivals = links.arrivals().unwrap();
        tokio::spawn(async move {
            while let Some(Arrival::Request { reply, .. }) = arrivals.recv().await {
                drop(reply.send(http::Response::new(bytes::Bytes::from_static(b"{}"))));
            }
        });
        let (flooder, other) = (IdentityKey::from_seed(&[7; 32]).name(), IdentityKey::from_seed(&[8; 32]).name());
        let rows = rows_of(&core, links.backlog());
        let most = usize::try_from(MAX_ITEMS).unwrap();
        rows.commit_delivery(Vec::new(), delivery(&flooder, 10, most - 1)).await.unwrap();
        assert!(rows.takes_more(&flooder));
        rows.commit_delivery(Vec::new(), delivery(&flooder, 10, 1)).await.unwrap();
        assert!(!rows.takes_more(&flooder) && rows.takes_more(&other));
        // What the next start counts is the same.
        assert!(!rows_of(&core, &Backlog::default()).takes_more(&flooder));
        link(&core, &flooder).await;
        let peers = Peers::new(core.clone(), links.clone());
        let moments = (crate::typing::Typing::new(core.clone()), crate::presence::Presence::new(core.clone()));
        let outbox = Outbox::new(core.clone(), peers.clone(), moments, crate::rooms::Rooms::new(core.clone()));
        let mail = Mail::new(core.clone(), links.clone(), peers, outbox);
        let empty = async {
            while core.snapshot().unwrap().view().any(tables::MAIL_IN, ()).unwrap() || !rows.takes_more(&flooder) {
                tokio::task::yield_now().await;
            }
        };
        let stop = CancellationToken::new();
        tokio::select! {
            ended = mail.work(stop) => panic!("it ended: {ended:?}"),
            () = empty => {}
        }
        assert!(rows.takes_more(&flooder));
        assert!(links.backlog().0.lock().unwrap().as_ref().unwrap().is_empty(), "nothing is remembered of nobody");
    }

    #[tokio::test]
    async fn few_large_items_are_as_much_as_many_small_ones() {
        let (core, backlog) = (testing::core(), Backlog::default());
        let rows = rows_of(&core, &backlog);
        let peer = IdentityKey::from_seed(&[7; 32]).name();
        rows.commit_delivery(Vec::new(), delivery(&peer, 1 << 20, 15)).await.unwrap();
        assert!(rows.takes_more(&peer));
        rows.commit_delivery(Vec::new(), delivery(&peer, 1 << 20, 1)).await.unwrap();
        assert!(!rows.takes_more(&peer));
    }
}
