//! One link as the driver holds it: the pure machine, what is stored beside it, and the streams that are open just now.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_mailbox::key_document::KeyDocument;
use millpond_mailbox::link::{Link, LinkClass as Class, Phase, Role};
use millpond_mailbox::message::Message;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::way::Way;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Waiter;
use super::mail::rows;
use crate::error::{Error, RouteError};
use crate::event::{LinkClass, LinkInfo, LinkState};
use crate::gate::Place;
use crate::hello::RunId;
use crate::http::client::Channel;
use crate::store::{LinkStore, Record, RecordKey, RecordKind};
use crate::transport::Address;
use crate::transport::tor::is_onion;

/// Tells the streams of this run apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamId(pub(super) u64);

/// A link and its streams.
pub(super) struct Held {
    pub(super) link: Link,
    pub(super) kept: Kept,
    /// Opens a stream over the connection by which the peer came.
    pub(super) back: Option<Address>,
    /// Where the peer answered last.
    pub(super) good: Option<Address>,
    /// The run of the peer that we heard from last.
    pub(super) run: Option<RunId>,
    pub(super) outbound: Outbound,
    pub(super) inbound: Vec<Inbound>,
    pub(super) contact: Option<ContactStream>,
    pub(super) retry: Retry,
    /// A stream is being dialled for those in `Outbound::Opening`.
    pub(super) opening: bool,
    /// A host is being asked for the box of the contact link.
    pub(super) taking: bool,
    /// Cuts off the streams that the peer opened.
    pub(super) cut: CancellationToken,
}

/// What is stored beside the machine.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) last_seen: Option<UnixMillis>,
    /// Newer than the one in the peer's bundle.
    pub(super) key_document: Option<Vec<u8>>,
    /// The hosts of ours that the peer knows, as they were written.
    pub(super) told: Option<Vec<u8>>,
    /// With what the box of the contact link is taken, so that a lost answer can be asked for again.
    pub(super) claim: Option<[u8; 32]>,
}

/// Our stream to the peer.
pub(super) enum Outbound {
    Closed,
    /// Being opened, or waiting for first contact to end, with those who wait for it.
    Opening(Vec<Waiter>),
    Open {
        channel: Channel,
        stream: StreamId,
        route: &'static str,
        close: CancellationToken,
    },
}

/// A stream that the peer opened.
pub(super) struct Inbound {
    pub(super) stream: StreamId,
    pub(super) route: &'static str,
    pub(super) close: CancellationToken,
    /// Opens a stream the other way.
    pub(super) back: Option<Address>,
    /// Its place among the unproven streams, until the peer has said hello: an opening alone may be a recording.
    pub(super) unproven: Option<Place>,
}

/// The stream on which first contact goes on.
pub(super) struct ContactStream {
    pub(super) stream: StreamId,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) close: CancellationToken,
}

/// When an unfinished first contact is tried again.
pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) pause: Duration,
    pub(super) dialling: bool,
}

impl Retry {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), pause: FIRST_PAUSE, dialling: false }
    }

    pub(super) fn later(&mut self) {
        self.dialling = false;
        self.at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

impl Held {
    pub(super) fn new(link: Link) -> Self {
        Self::with(link, Kept::default())
    }

    fn with(link: Link, kept: Kept) -> Self {
        Self {
            link,
            kept,
            back: None,
            good: None,
            run: None,
            outbound: Outbound::Closed,
            inbound: Vec::new(),
            contact: None,
            retry: Retry::now(),
            opening: false,
            taking: false,
            cut: CancellationToken::new(),
        }
    }

    /// The route of an open stream whose other end has proven to be the peer.
    pub(super) fn route(&self) -> Option<&'static str> {
        match &self.outbound {
            Outbound::Open { route, .. } => Some(route),
            _ => self.inbound.iter().find(|inbound| inbound.unproven.is_none()).map(|inbound| inbound.route),
        }
    }

    /// The addresses to try, the most promising first.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let told = self.link.peer_ways().iter().filter_map(address_of);
        let mut addresses = Vec::new();
        for address in self.back.iter().chain(self.good.iter()).cloned().chain(told) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The peer's newest key document.
    pub(super) fn key_document(&self) -> Option<KeyDocument> {
        let bytes = self.kept.key_document.as_deref().or(self.link.peer_key_document())?;
        KeyDocument::verify(bytes).ok()
    }

    pub(super) fn info(&self) -> LinkInfo {
        let state = match (self.link.role(), self.link.phase()) {
            (_, Phase::Offered) => LinkState::Offered,
            (_, Phase::Added) => LinkState::Dialling,
            (Role::Offerer, Phase::Pending { by_them: true, .. }) => LinkState::AwaitsUs,
            (_, Phase::Pending { .. }) => LinkState::AwaitsPeer,
            (_, Phase::Established) => LinkState::Established,
            (_, Phase::Alarmed | Phase::Removed) => LinkState::Closed,
        };
        LinkInfo {
            id: self.link.id(),
            peer: self.link.peer().cloned(),
            state,
            class: class_of(&self.link),
            created: self.link.created(),
            last_seen: self.kept.last_seen,
            route: self.route(),
            mail: None,
            hidden: false,
        }
    }

    /// The row of this link when its machine is `link` and what is beside it `kept`.
    pub(super) fn record(link: &Link, kept: &Kept) -> Record {
        let stored = Stored(
            VERSION,
            ByteBuf::from(link.to_bytes().to_vec()),
            kept.last_seen,
            kept.key_document.clone().map(ByteBuf::from),
            kept.told.clone().map(ByteBuf::from),
            kept.claim.map(|claim| ByteBuf::from(claim.to_vec())),
        );
        let bytes = serde_cbor::to_vec(&stored).expect("writing CBOR to memory does not fail");
        Record { key: link_key(link.id()), bytes }
    }

    /// Tells those who wait for a stream that there will be none.
    pub(super) fn fail_waiters(&mut self, error: RouteError) {
        if let Outbound::Opening(waiters) = &mut self.outbound {
            let waiters = std::mem::take(waiters);
            self.outbound = Outbound::Closed;
            for waiter in waiters {
                // Whoever gave up waiting needs no answer.
                let _ = waiter.send(Err(error.clone()));
            }
        }
    }

    /// Whether requests wait for the end of first contact.
    pub(super) fn awaits_contact(&self) -> bool {
        matches!(self.outbound, Outbound::Opening(_)) && !self.opening
    }

    /// Closes our stream to the peer, if it is open.
    pub(super) fn close_outbound(&mut self) {
        if let Outbound::Open { close, .. } = &self.outbound {
            close.cancel();
            self.outbound = Outbound::Closed;
        }
    }

    /// Notes which run of the peer was heard. After a restart everything that was open towards the earlier run is dead, though nobody has noticed yet;
    /// then it is closed and the answer is `true`.
    pub(super) fn heard(&mut self, run: RunId) -> bool {
        let restarted = self.run.replace(run).is_some_and(|earlier| earlier != run);
        if restarted {
            self.close_outbound();
            for inbound in self.inbound.extract_if(.., |inbound| inbound.unproven.is_none()) {
                inbound.close.cancel();
            }
        }
        restarted
    }

    /// Ends every stream at once.
    pub(super) fn cut(&mut self) {
        self.cut.cancel();
        self.cut = CancellationToken::new();
        self.close();
    }

    /// Asks every stream to end; open requests of the peer are finished.
    pub(super) fn close(&mut self) {
        self.close_outbound();
        self.inbound.iter().for_each(|inbound| inbound.close.cancel());
        if let Some(contact) = self.contact.take() {
            contact.close.cancel();
        }
    }
}

/// Everything that was stored.
pub(super) struct Loaded {
    pub(super) links: BTreeMap<LinkId, Held>,
    pub(super) told: Vec<Address>,
    pub(super) mail: rows::Loaded,
}

pub(super) async fn load(store: &dyn LinkStore) -> Result<Loaded, Error> {
    let records = store.load().await.map_err(|source| Error::Store { doing: "load the links", source })?;
    let mail = rows::Loaded::read(&records)?;
    let mut loaded = Loaded { links: BTreeMap::new(), told: Vec::new(), mail };
    for record in records {
        match record.key.kind {
            RecordKind::Link => {
                let held = parse(&record.bytes).map_err(|why| Error::Stored { what: "link", why })?;
                loaded.links.insert(held.link.id(), held);
            }
            RecordKind::Setting if record.key.id == TOLD => {
                let told: Vec<ByteBuf> = serde_cbor::from_slice(&record.bytes)
                    .map_err(|error| Error::Stored { what: "list of addresses", why: error.to_string() })?;
                loaded.told = told.iter().filter_map(|bytes| Address::from_bytes(bytes).ok()).collect();
            }
            _ => {}
        }
    }
    Ok(loaded)
}

fn parse(bytes: &[u8]) -> Result<Held, String> {
    let Stored(version, link, last_seen, key_document, told, claim) =
        serde_cbor::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has the version {version}"));
    }
    let link = Link::from_bytes(&link).map_err(|error| error.to_string())?;
    let claim = claim.and_then(|claim| claim.into_vec().try_into().ok());
    let kept =
        Kept { last_seen, key_document: key_document.map(ByteBuf::into_vec), told: told.map(ByteBuf::into_vec), claim };
    Ok(Held::with(link, kept))
}

/// The record of a link as a backup may hold it.
pub(super) fn for_backup(record: &Record) -> Option<(LinkId, Record)> {
    let held = parse(&record.bytes).ok()?;
    let link = held.link.for_backup()?;
    let kept = Kept { last_seen: held.kept.last_seen, key_document: held.kept.key_document, ..Kept::default() };
    Some((link.id(), Held::record(&link, &kept)))
}

/// The row of the addresses that contacts were told.
pub(super) fn told_record(told: &[Address]) -> Record {
    let list: Vec<ByteBuf> = told.iter().map(|address| ByteBuf::from(address.as_bytes())).collect();
    let bytes = serde_cbor::to_vec(&list).expect("writing CBOR to memory does not fail");
    Record { key: RecordKey { kind: RecordKind::Setting, id: TOLD.to_vec() }, bytes }
}

pub(super) fn link_key(id: LinkId) -> RecordKey {
    RecordKey { kind: RecordKind::Link, id: id.0.to_vec() }
}

pub(super) fn class_of(link: &Link) -> LinkClass {
    match link.class() {
        Class::Contact => LinkClass::Contact,
        Class::Room => LinkClass::Room,
    }
}

pub(super) fn address_of(way: &Way) -> Option<Address> {
    match way {
        Way::Direct(bytes) => Address::from_bytes(bytes).ok().filter(|address| !is_onion(address)),
        Way::Onion(bytes) => Address::from_bytes(bytes).ok().filter(is_onion),
        Way::Box(_) | Way::Mailbox(_) | Way::Other { .. } => None,
    }
}

/// The better of two links with one peer: a contact before an introduction, then the newer.
pub(super) fn rank(link: &Link) -> (bool, UnixMillis, LinkId) {
    (link.class() == Class::Contact, link.created(), link.id())
}

/// The established link with a peer that is to be used.
pub(super) fn best<'a>(links: &'a BTreeMap<LinkId, Held>, peer: &NodeName) -> Option<&'a Held> {
    let established = links.values().filter(|held| held.link.established_peer() == Some(peer));
    established.max_by_key(|held| rank(&held.link))
}

#[derive(Serialize, Deserialize)]
struct Stored(
    u8,
    ByteBuf,
    Option<UnixMillis>,
    Option<ByteBuf>,
    #[serde(default)] Option<ByteBuf>,
    #[serde(default)] Option<ByteBuf>,
);

const VERSION: u8 = 1;
const TOLD: &[u8] = b"addresses";
/// An offerer who is there answers at once; one who is not may be back after minutes or days.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LAST_PAUSE: Duration = Duration::from_secs(30 * 60);
