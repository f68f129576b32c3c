//! The record of a session: `version u8 || CBOR`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Handle, RowKey, SessionError,
    flight::{Flight, Stale},
    grants::Grants,
    hello::HelloState,
    line::Line,
    ratchet::Order,
    wallet::Wallet,
};
use crate::{
    name::NodeName,
    secrets::{LinkId, RestoreKey, Secret32},
    time::UnixMillis,
};

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) link: LinkId,
    pub(super) me: NodeName,
    pub(super) peer: NodeName,
    /// `HKDF(LS[0], "millpond/rk/1")`: opens HELLOs, for as long as the link lives.
    pub(super) rk: RestoreKey,
    /// None after a restoration, until the HELLO is answered.
    pub(super) live: Option<Line>,
    pub(super) old: Option<Old>,
    /// By number.
    pub(super) flights: Vec<Flight>,
    pub(super) next_flight: u32,
    pub(super) next_ack: u32,
    pub(super) wallet: Wallet,
    pub(super) grants: Grants,
    pub(super) hello: HelloState,
    /// A frame of the peer waits for its acknowledgement.
    pub(super) ack_due: Option<UnixMillis>,
    pub(super) last_heard: Option<UnixMillis>,
    pub(super) last_sent: Option<UnixMillis>,
    /// Envelopes under right stamps that no secret fits, since the last that did.
    pub(super) unopened: u8,
    pub(super) dormant: bool,
    pub(super) revoked: bool,
    /// Acknowledgements left alone, and no host has said that it has them: after a kill they are made again, since the peer would wait
    /// a day for them.
    #[serde(default)]
    pub(super) ack_unsure: bool,
    /// When anything last happened here: silence counts from when we are there to hear it.
    #[serde(default)]
    pub(super) awake: Option<UnixMillis>,
    /// We were away for weeks, and no frame has gone since that tells the peer that we are here.
    #[serde(default)]
    pub(super) back: bool,
}

/// The line before a HELLO: it only receives.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Old {
    pub(super) line: Line,
    pub(super) until: UnixMillis,
}

/// What is known of an offered item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    No,
    /// It is in frames, whole.
    UnderWay,
    /// Some parts of it are in frames.
    Partly,
}

impl State {
    pub(super) fn new(link: LinkId, me: NodeName, peer: NodeName, rk: RestoreKey, live: Option<Line>) -> Self {
        Self {
            link,
            me,
            peer,
            rk,
            live,
            old: None,
            flights: Vec::new(),
            next_flight: 1,
            next_ack: 0,
            wallet: Wallet::default(),
            grants: Grants::default(),
            hello: HelloState::default(),
            ack_due: None,
            last_heard: None,
            last_sent: None,
            unopened: 0,
            dormant: false,
            revoked: false,
            ack_unsure: false,
            awake: None,
            back: false,
        }
    }

    pub(super) fn order(&self) -> Order {
        if self.me.identity_key() < self.peer.identity_key() { Order::OwnIsLower } else { Order::OwnIsHigher }
    }

    pub(super) fn knows(&self, handle: Handle) -> Known {
        if self.flights.iter().any(|flight| flight.handles.contains(&handle)) {
            return Known::UnderWay;
        }
        let mut large = self.live.iter().flat_map(|line| &line.large);
        match large.find(|large| large.handle == handle) {
            Some(large) if large.sealed == large.count => Known::UnderWay,
            Some(_) => Known::Partly,
            None => Known::No,
        }
    }

    /// Flights of the line in use that can be acknowledged.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|flight| flight.stale == Stale::No)
    }

    /// Every row but the record.
    pub(super) fn all_rows(&self) -> Vec<RowKey> {
        let mut rows: Vec<RowKey> = self.flights.iter().flat_map(flight_rows).collect();
        let lines = self.live.iter().chain(self.old.iter().map(|old| &old.line));
        rows.extend(lines.flat_map(line_rows));
        rows
    }

    /// Forgets every secret and all that was under way. What stays says that the link was revoked.
    pub(super) fn revoke(&mut self) {
        let (link, me, peer) = (self.link, self.me.clone(), self.peer.clone());
        *self = Self::new(link, me, peer, RestoreKey(Secret32::new([0; 32])), None);
        self.revoked = true;
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let packed =
            Zeroizing::new(serde_cbor::ser::to_vec_packed(self).expect("writing CBOR to memory does not fail"));
        Zeroizing::new([&[VERSION], packed.as_slice()].concat())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, SessionError> {
        let (version, body) = bytes.split_first().ok_or(SessionError::Stored { version: 0 })?;
        if *version != VERSION {
            return Err(SessionError::Stored { version: *version });
        }
        serde_cbor::from_slice(body).map_err(|_| SessionError::Stored { version: *version })
    }
}

/// The rows of a flight.
pub(super) fn flight_rows(flight: &Flight) -> Vec<RowKey> {
    let copies = flight.unresolved().map(|copy| RowKey::Copy(flight.id, copy.number));
    std::iter::once(RowKey::Flight(flight.id)).chain(copies).collect()
}

/// The rows of what came in on a line and cannot be handed over yet.
pub(super) fn line_rows(line: &Line) -> Vec<RowKey> {
    let held = line.held.iter().map(|order| RowKey::Held(*order));
    let parts = line.partial.iter().flat_map(|partial| {
        let there = (0..partial.count).filter(|index| partial.have & (1 << index) != 0);
        there.map(|index| RowKey::Fragment(partial.of, index))
    });
    held.chain(parts).collect()
}

/// Of the record.
const VERSION: u8 = 1;
