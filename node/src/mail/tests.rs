use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Response;
use millpond_mailbox::identity::IdentityKey;
use millpond_store::rows::{EventShort, MailAsked, Peer};

use super::*;
use crate::testing;

/// The mail of a node that hears of a peer, and how many requests its router has seen.
struct Fixture {
    core: Core,
    mail: Mail,
    peer: OwnedServerName,
    seen: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Self {
        let core = testing::core();
        let links = Links::with_transports(core.clone(), Arc::new(|_| Ok(Vec::new())));
        let mut arrivals = links.arrivals().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Some(Arrival::Request { reply, .. }) = arrivals.recv().await {
                counted.fetch_add(1, Ordering::Relaxed);
                drop(reply.send(Response::new(Bytes::from_static(b"{}"))));
            }
        });
        let peers = Peers::new(core.clone(), links.clone());
        let moments = (crate::typing::Typing::new(core.clone()), crate::presence::Presence::new(core.clone()));
        let outbox = Outbox::new(core.clone(), peers.clone(), moments, crate::rooms::Rooms::new(core.clone()));
        let mail = Mail::new(core.clone(), links, peers, outbox);
        let peer = IdentityKey::from_seed(&[7; 32]).name();
        Self { core, mail, peer: OwnedServerName::try_from(peer.as_str()).unwrap(), seen }
    }

    async fn write(&self, write: impl Fn(&mut WriteTxn<'_>) -> Result<(), millpond_store::Error> + Send + 'static) {
        self.core.write(job(|_| Ok::<_, Error>(()), move |(), txn| write(txn))).await.unwrap();
    }

    async fn arrived(&self, item: Item) {
        let row = MailIn { peer: self.peer.clone(), contact: true, kind: item.kind(), body: item.body() };
        let put = move |txn: &mut WriteTxn<'_>| {
            let position = txn.next_position().0;
            txn.put(tables::MAIL_IN, position, &row)
        };
        self.write(put).await;
    }

    async fn link(&self) {
        let peer = self.peer.clone();
        let put = move |txn: &mut WriteTxn<'_>| {
            txn.put(tables::PEERS, &*peer, &Peer { linked: true, linked_since: 1, ..Peer::default() })
        };
        self.write(put).await;
    }

    fn waiting(&self) -> usize {
        self.core.snapshot().unwrap().view().scan(tables::MAIL_IN, ()).unwrap().count()
    }

    fn asked(&self, id: u64) -> Option<MailAsked> {
        self.core.snapshot().unwrap().view().get(tables::MAIL_ASKED, (&*self.peer, id)).unwrap()
    }
}

fn invite() -> Item {
    Item::Request(item::Request {
        id: 1,
        deadline: millpond_mailbox::time::UnixMillis(u64::MAX),
        method: "PUT".to_owned(),
        target: "/_matrix/federation/v2/invite/!room/$event".to_owned(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
    })
}

#[tokio::test]
async fn mail_that_comes_with_the_frame_that_makes_a_link_waits_until_the_link_is_known() {
    let fixture = Fixture::new();
    fixture.arrived(invite()).await;
    assert!(fixture.mail.work_off().await.unwrap(), "it is left for later");
    assert_eq!((fixture.waiting(), fixture.seen.load(Ordering::Relaxed)), (1, 0), "nobody has judged it");
    fixture.link().await;
    assert!(!fixture.mail.work_off().await.unwrap());
    assert_eq!((fixture.waiting(), fixture.seen.load(Ordering::Relaxed)), (0, 1));
}

fn answer(id: u64, body: &str) -> Item {
    Item::Response(item::Response { id, status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() })
}

#[tokio::test]
async fn an_answer_is_taken_once_and_only_to_what_its_peer_was_asked() {
    let fixture = Fixture::new();
    fixture.link().await;
    let (peer, other) = (fixture.peer.clone(), IdentityKey::from_seed(&[8; 32]).name());
    let other = OwnedServerName::try_from(other.as_str()).unwrap();
    let asked = |target: &str| MailAsked {
        method: "GET".to_owned(),
        target: target.to_owned(),
        body: Vec::new(),
        deadline_ms: u64::MAX,
        answer: None,
    };
    let (ours, theirs) = (asked("/ours"), asked("/theirs"));
    let somebody = other.clone();
    let put = move |txn: &mut WriteTxn<'_>| {
        txn.put(tables::MAIL_ASKED, (&*peer, 5), &ours)?;
        txn.put(tables::OUTBOX, (&*peer, 5), &OutboxItem::Question)?;
        txn.put(tables::MAIL_ASKED, (&*somebody, 6), &theirs)
    };
    fixture.write(put).await;
    let mut answers = fixture.mail.peers.answers();
    for item in [answer(6, "of another"), answer(7, "to nothing"), answer(5, "first"), answer(5, "second")] {
        fixture.arrived(item).await;
    }
    assert!(!fixture.mail.work_off().await.unwrap());
    assert_eq!(fixture.asked(5).unwrap().answer.unwrap().body, b"first");
    let snapshot = fixture.core.snapshot().unwrap();
    let view = snapshot.view();
    assert!(view.get(tables::MAIL_ASKED, (&*other, 6)).unwrap().unwrap().answer.is_none());
    assert!(!view.any(tables::OUTBOX, (&*fixture.peer,)).unwrap(), "it is not asked again");
    let told = answers.recv().await.unwrap();
    assert_eq!((told.server, told.target.as_str()), (fixture.peer.clone(), "/ours"));
    assert!(answers.try_recv().is_err());
}

#[tokio::test]
async fn an_invite_that_could_not_be_taken_yet_is_owed_again() {
    let fixture = Fixture::new();
    fixture.link().await;
    let (peer, event) = (fixture.peer.clone(), EventShort(9));
    fixture.write(move |txn| txn.put(tables::MAIL_INVITES, (&*peer, 5), &event)).await;
    let answer = item::Response { id: 5, status: 502, headers: Vec::new(), body: b"{}".to_vec() };
    for _ in 0..2 {
        fixture.arrived(Item::Response(answer.clone())).await;
    }
    assert!(!fixture.mail.work_off().await.unwrap());
    let snapshot = fixture.core.snapshot().unwrap();
    let owed: Vec<_> =
        snapshot.view().scan(tables::OUTBOX, (&*fixture.peer,)).unwrap().map(|row| row.unwrap().1).collect();
    assert!(matches!(owed[..], [OutboxItem::Invite(invite)] if invite == event), "{owed:?}");
    assert!(!snapshot.view().any(tables::MAIL_INVITES, ()).unwrap());
}
