//! From items to finished envelopes: stamps, Olm, and the rows that go to disk before anything leaves.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    Context, DepositId, RowKey, Session,
    commit::Out,
    flight::{Copy, Flight, FlightKind, FlightRow, KeptItem, Stale},
    grants::RESERVE,
    pack::{Load, STAMPS_SMALL},
    queue::groups,
    state::flight_rows,
    wallet::Choice,
};
use crate::{
    envelope::{self, EnvelopeSecret, Kind},
    frame::Frame,
    host_key::HostKey,
    item::VOID,
    stamp::{Class, Stamp},
    time::UnixMillis,
};

impl Session {
    /// Seals one frame out of the queue. `false`: nothing can be sealed now.
    pub(super) fn seal_fresh(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) -> bool {
        if !self.may_seal() {
            return false;
        }
        let Some((stamp, load)) = self.choose_load(ctx) else { return false };
        self.take_load(&load);
        let Some(payload) = self.encrypt(&load) else { return false };
        let row = FlightRow { payload, salt: None, items: load.items.clone() };
        self.launch(ctx, FlightKind::Frame, &load, stamp, &row, out, rng);
        true
    }

    /// Seals a frame that has to be acknowledged and says nothing: it carries stamps.
    pub(super) fn seal_void(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) -> bool {
        if !self.may_seal() {
            return false;
        }
        let Some(line) = &mut self.state.live else { return false };
        let item = KeptItem { seq: line.next_item, kind: VOID, body: Vec::new(), room: None, handle: None };
        let items = vec![item];
        let (groups, next_order) = (groups(&items), line.next_order);
        let load = Load { groups, items, essential: true, stamps: STAMPS_SMALL, next_order, ..Load::default() };
        let Some(stamp) = self.stamp(ctx, Class::S, true, &[]) else { return false };
        self.take_load(&load);
        let Some(payload) = self.encrypt(&load) else { return false };
        let row = FlightRow { payload, salt: None, items: load.items.clone() };
        self.launch(ctx, FlightKind::Frame, &load, stamp, &row, out, rng);
        true
    }

    /// Seals items of a flight that the peer cannot open, or of an earlier line, into new frames, and forgets that flight: all in
    /// one commit. `false`: there are not enough stamps for it now.
    pub(super) fn seal_anew(&mut self, ctx: &Context<'_>, id: u32, out: &mut Out, rng: &mut impl CryptoRng) -> bool {
        let Some(position) = self.state.flights.iter().position(|flight| flight.id == id) else { return false };
        let flight = self.state.flights[position].clone();
        let row = out.row(ctx.rows, RowKey::Flight(id)).and_then(|bytes| FlightRow::from_bytes(&bytes));
        let kept = row.map(|row| row.items).unwrap_or_default();
        let items = self.renumber(&flight, kept);
        let Some(loads) = self.split(&flight, items) else { return false };
        let Some(stamps) = self.stamps(ctx, &flight, loads.len()) else { return false };
        flight_rows(&flight).into_iter().for_each(|key| out.delete(key));
        self.state.flights.remove(position);
        out.changed();
        for (load, stamp) in loads.into_iter().zip(stamps) {
            if let Some(line) = &mut self.state.live {
                line.next_order = line.next_order.max(load.next_order);
                let end = load.items.iter().map(|item| item.seq + 1).max().unwrap_or(0);
                line.next_item = line.next_item.max(end);
            }
            let Some(payload) = self.encrypt(&load) else { return false };
            let row = FlightRow { payload, salt: None, items: load.items.clone() };
            self.launch(ctx, FlightKind::Frame, &load, stamp, &row, out, rng);
        }
        true
    }

    /// Seals acknowledgements alone. They have no number, and nobody acknowledges them.
    pub(super) fn seal_acks(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) -> bool {
        // A host that swallowed the last ones would do so for ever: those that were lost go through any.
        let hosts = if std::mem::take(&mut self.ack_again) { self.state.wallet.hosts(ctx.now) } else { Vec::new() };
        let never = hosts.get(rng.next_u32() as usize % hosts.len().max(1)).copied();
        let other = self.stamp(ctx, Class::S, true, never.as_slice());
        let Some(stamp) = other.or_else(|| self.stamp(ctx, Class::S, true, &[])) else { return false };
        let Some(payload) = self.encrypt(&Load { stamps: STAMPS_SMALL, ..Load::default() }) else { return false };
        let Some(line) = &self.state.live else { return false };
        let secret = line.ratchet.sending();
        let Some(bytes) = seal_copy(&secret, &stamp, Kind::AckOnly, 0, &payload, rng) else { return false };
        let id = DepositId { flight: 0, copy: self.state.next_ack };
        self.state.next_ack = self.state.next_ack.wrapping_add(1);
        self.state.ack_due = None;
        self.state.ack_unsure = true;
        self.air.insert(id);
        self.acks.insert(id.copy, (stamp.host, stamp.mailbox));
        out.changed();
        out.deposit(id, stamp.host, bytes.to_vec());
        true
    }

    /// Makes a flight of what was encrypted, with its first envelope.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch(
        &mut self,
        ctx: &Context<'_>,
        kind: FlightKind,
        load: &Load,
        stamp: Stamp,
        row: &FlightRow,
        out: &mut Out,
        rng: &mut impl CryptoRng,
    ) {
        let frame_no = match (kind, &mut self.state.live) {
            (FlightKind::Frame, Some(line)) => {
                line.next_frame += 1;
                line.next_frame - 1
            }
            _ => 0,
        };
        let id = self.state.next_flight;
        self.state.next_flight += 1;
        out.put(RowKey::Flight(id), row.to_bytes());
        self.state.flights.push(Flight {
            id,
            frame_no,
            kind,
            class: stamp.class.min(smallest(row.payload.len())),
            essential: load.essential,
            sealed: ctx.now,
            handles: load.handles.clone(),
            first_item: load.items.iter().map(|item| item.seq).min(),
            parts: load.parts.clone(),
            step: load.step,
            copies: Vec::new(),
            next_copy: 0,
            failures: 0,
            next_try: ctx.now,
            want_other: false,
            stored: None,
            again: 0,
            hole: false,
            stale: Stale::No,
        });
        let index = self.state.flights.len() - 1;
        self.add_copy(ctx, index, stamp, row, out, rng);
        self.state.last_sent = Some(ctx.now);
        self.state.back = false;
        if kind == FlightKind::Frame {
            // They stand in the frame, which is sent until it arrives.
            self.state.ack_due = None;
            self.state.ack_unsure = false;
        }
    }

    /// Seals the payload of a flight once more, under another stamp.
    pub(super) fn add_copy(
        &mut self,
        ctx: &Context<'_>,
        index: usize,
        stamp: Stamp,
        row: &FlightRow,
        out: &mut Out,
        rng: &mut impl CryptoRng,
    ) {
        let secret = match (&row.salt, &self.state.live) {
            (Some(salt), _) => EnvelopeSecret::new(salt.clone()),
            (None, Some(line)) => line.ratchet.sending(),
            (None, None) => return,
        };
        let flight = &mut self.state.flights[index];
        let sealed = seal_copy(&secret, &stamp, flight.kind.kind(), flight.frame_no, &row.payload, rng);
        let Some(bytes) = sealed else { return };
        let number = flight.next_copy;
        flight.next_copy += 1;
        flight.copies.push(Copy { number, host: stamp.host, mailbox: stamp.mailbox, stored: false });
        flight.next_try = ctx.now;
        let id = DepositId { flight: flight.id, copy: number };
        out.put(RowKey::Copy(flight.id, number), bytes.clone());
        out.deposit(id, stamp.host, bytes.to_vec());
        self.air.insert(id);
        self.fresh.insert(id);
    }

    /// Takes a stamp: not at a failing host if there is another, not at one of our own if there is another, never at `never`.
    pub(super) fn stamp(
        &mut self,
        ctx: &Context<'_>,
        class: Class,
        essential: bool,
        never: &[HostKey],
    ) -> Option<Stamp> {
        let avoid = self.avoided(ctx);
        let reserve = if essential { 0 } else { usize::from(RESERVE) };
        let choice = Choice { now: ctx.now, class, reserve, avoid: &avoid, never };
        let stamp = self.state.wallet.take(choice);
        // Without a small one, a large one does: some stay for what needs them, and for what must go.
        let large = class == Class::S && self.state.wallet.credit(Class::L) > large_reserve(essential);
        stamp.or_else(|| if large { self.state.wallet.take(Choice { class: Class::L, ..choice }) } else { None })
    }

    /// Whether `stamp` would find one of this size.
    pub(super) fn has_stamp(&self, now: UnixMillis, class: Class, essential: bool, never: &[HostKey]) -> bool {
        let reserve = if essential { 0 } else { usize::from(RESERVE) };
        let choice = Choice { now, class, reserve, avoid: &[], never };
        let large = class == Class::S && self.state.wallet.credit(Class::L) > large_reserve(essential);
        self.state.wallet.has(choice) || large && self.state.wallet.has(Choice { class: Class::L, ..choice })
    }

    /// Hosts that are not wanted, best last.
    fn avoided(&self, ctx: &Context<'_>) -> Vec<HostKey> {
        let own = ctx.mailboxes.iter().map(|mailbox| mailbox.host);
        let failing = self.failing.iter().filter(|(_, until)| ctx.now < **until).map(|(host, _)| *host);
        own.filter(|host| !self.is_failing(host, ctx)).chain(failing).collect()
    }

    fn is_failing(&self, host: &HostKey, ctx: &Context<'_>) -> bool {
        self.failing.get(host).is_some_and(|until| ctx.now < *until)
    }

    /// `type u8 || Olm message` of a frame with this load.
    fn encrypt(&mut self, load: &Load) -> Option<Vec<u8>> {
        let frame = self.header(load.stamps, self.frame_floor(), self.item_floor(load));
        let line = self.state.live.as_mut()?;
        line.olm.encrypt(&frame.write(&load.groups)).ok()
    }

    pub(super) fn header(&self, stamps: usize, frame_floor: u32, item_floor: u64) -> Frame {
        let header = self.state.live.as_ref().map(super::line::Line::header).unwrap_or_default();
        let used = self.state.wallet.taken();
        Frame { frame_floor, item_floor, used, stamps: self.state.grants.for_frame(stamps), ..header }
    }

    /// Frames below are acknowledged, or given up in favour of others.
    fn frame_floor(&self) -> u32 {
        let next = self.state.live.as_ref().map_or(0, |line| line.next_frame);
        let frames = self.state.under_way().filter(|flight| flight.kind == FlightKind::Frame);
        frames.map(|flight| flight.frame_no).min().unwrap_or(next)
    }

    /// Items below are acknowledged. Those that wait to be sealed anew keep their numbers, and count.
    fn item_floor(&self, load: &Load) -> u64 {
        let next = self.state.live.as_ref().map_or(0, |line| line.next_item);
        let waiting = self.state.flights.iter().filter(|flight| flight.stale != Stale::Line);
        let loaded = load.items.iter().map(|item| item.seq);
        waiting.filter_map(|flight| flight.first_item).chain(loaded).min().unwrap_or(next)
    }

    /// So many stamps, or none.
    fn stamps(&mut self, ctx: &Context<'_>, flight: &Flight, count: usize) -> Option<Vec<Stamp>> {
        let before = self.state.wallet.clone();
        let stamps: Vec<Stamp> =
            (0..count).map_while(|_| self.stamp(ctx, flight.class, flight.essential, &[])).collect();
        if stamps.len() < count {
            self.state.wallet = before;
            return None;
        }
        Some(stamps)
    }
}

/// A finished deposit.
pub(super) fn seal_copy(
    secret: &EnvelopeSecret,
    stamp: &Stamp,
    kind: Kind,
    frame_no: u32,
    payload: &[u8],
    rng: &mut impl CryptoRng,
) -> Option<Zeroizing<Vec<u8>>> {
    let body = envelope::seal(secret, &stamp.seed, &stamp.header(), kind, frame_no, payload, rng)?;
    stamp.deposit(body.into()).map(|deposit| Zeroizing::new(deposit.to_bytes()))
}

fn large_reserve(essential: bool) -> usize {
    if essential { 0 } else { LARGE_RESERVE }
}

fn smallest(payload: usize) -> Class {
    if payload <= envelope::capacity(Class::S) { Class::S } else { Class::L }
}

/// Large stamps that small things do not use.
const LARGE_RESERVE: usize = 4;
