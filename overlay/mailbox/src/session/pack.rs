//! Packing: which items go into the next frame, in which size of envelope, in how many parts.

use rand_core::CryptoRng;

use super::{
    Context, Handle, Notice, Priority, Session,
    commit::Out,
    flight::{Flight, FlightKind, KeptItem, Stale},
    line::Large,
    parts::MAX_PARTIAL,
    queue::{Queued, groups},
    ratchet::{LsItem, Taken},
};
use crate::{
    envelope,
    frame::Group,
    item::{FRAGMENT, Fragment, Item, LS, TO_DEVICE},
    secrets::Epoch,
    stamp::{Class, Stamp},
    time::UnixMillis,
    window::SPAN,
};

/// What goes into one frame.
#[derive(Default)]
pub(super) struct Load {
    pub(super) items: Vec<KeptItem>,
    pub(super) groups: Vec<Group>,
    pub(super) handles: Vec<Handle>,
    pub(super) parts: Vec<(u32, u8)>,
    /// The part is the first of a to-device message.
    pub(super) begins_in_order: bool,
    pub(super) step: Option<Epoch>,
    pub(super) essential: bool,
    /// Bytes for stamps.
    pub(super) stamps: usize,
    pub(super) next_order: u64,
}

impl Session {
    /// Room for one more flight: in number, and in what the peer's windows span.
    pub(super) fn may_seal(&self) -> bool {
        let Some(line) = &self.state.live else { return false };
        let under_way = self.state.under_way().filter(|flight| flight.kind == FlightKind::Frame);
        let (mut count, mut frame, mut item) = (0, line.next_frame, line.next_item);
        for flight in under_way {
            count += 1;
            frame = frame.min(flight.frame_no);
            item = item.min(flight.first_item.unwrap_or(item));
        }
        let frames_span = u64::from(line.next_frame - frame);
        count < MAX_FLIGHTS && frames_span + MARGIN < SPAN && line.next_item - item + MARGIN < SPAN
    }

    /// Whether `seal_fresh` would find something to seal and a stamp for it.
    pub(super) fn can_seal(&self, now: UnixMillis) -> bool {
        let Some(first) = self.next_queued().filter(|_| self.may_seal()) else { return false };
        let small = self.capacity(Class::S, 0);
        let fitting = |up_to: Priority| self.queue.iter().any(|item| item.priority <= up_to && item.alone <= small);
        let wide = first.alone > small || self.queue.alone() > MANY * self.capacity(Class::S, STAMPS_SMALL);
        wide && self.has_stamp(now, Class::L, false, &[])
            || fitting(Priority::Bulk) && self.has_stamp(now, Class::S, false, &[])
            || fitting(Priority::Essential) && self.has_stamp(now, Class::S, true, &[])
    }

    /// The first item that may go.
    fn next_queued(&self) -> Option<&Queued> {
        self.queue.iter().find(|queued| self.may_go(queued))
    }

    /// What goes next, and under which stamp.
    pub(super) fn choose_load(&mut self, ctx: &Context<'_>) -> Option<(Stamp, Load)> {
        let step = self.step_item();
        let first = self.next_queued().map(|first| first.alone);
        if first.is_none() && step.is_none() {
            return None;
        }
        // Stamps come after an item that would not fit beside them.
        let with_stamps = self.capacity(Class::S, STAMPS_SMALL);
        let (small, stamps) = match first {
            Some(first) if first > with_stamps => (self.capacity(Class::S, 0), 0),
            _ => (with_stamps, STAMPS_SMALL),
        };
        if first.is_some_and(|first| first > small) || self.queue.alone() > MANY * small {
            let capacity = self.capacity(Class::L, STAMPS_LARGE);
            if let Some(load) = self.load(Class::L, capacity, Priority::Bulk, step.as_ref())
                && let Some(stamp) = self.stamp(ctx, Class::L, false, &[])
            {
                return Some((stamp, Load { stamps: STAMPS_LARGE, ..load }));
            }
        }
        for up_to in [Priority::Bulk, Priority::Essential] {
            let Some(load) = self.load(Class::S, small, up_to, step.as_ref()) else { continue };
            // A step alone is part of keeping the link, like acknowledgements.
            let essential = up_to == Priority::Essential || load.handles.is_empty();
            if let Some(stamp) = self.stamp(ctx, Class::S, essential, &[]) {
                return Some((stamp, Load { essential, stamps, ..load }));
            }
        }
        None
    }

    /// As many items as fit, in their order.
    fn load(&self, class: Class, capacity: usize, up_to: Priority, step: Option<&LsItem>) -> Option<Load> {
        let line = self.state.live.as_ref()?;
        let mut load = self.gather(class, capacity, up_to, step)?;
        let mut count = load.items.len();
        loop {
            if count == 0 {
                return None;
            }
            load.groups = groups(&load.items[..count]);
            let length: usize = load.groups.iter().map(Group::wire_len).sum();
            if length <= capacity {
                break;
            }
            count = (count * capacity / length).min(count - 1);
        }
        load.items.truncate(count);
        let of_kind = |kind: u8| load.items.iter().filter(|item| item.kind == kind).count();
        if of_kind(LS) == 0 {
            load.step = None;
        }
        if of_kind(FRAGMENT) == 0 {
            load.parts.clear();
            load.begins_in_order = false;
        }
        load.next_order = line.next_order + of_kind(TO_DEVICE) as u64 + u64::from(load.begins_in_order);
        load.handles = load.items.iter().filter_map(|item| item.handle).collect();
        Some(load)
    }

    /// What might fit, numbered: the step of the ratchet, then the queue, of large items one part.
    fn gather(&self, class: Class, capacity: usize, up_to: Priority, step: Option<&LsItem>) -> Option<Load> {
        let line = self.state.live.as_ref()?;
        let mut load = Load { essential: up_to <= Priority::Essential, ..Load::default() };
        let (mut seq, mut order, mut raw) = (line.next_item, line.next_order, 0);
        if let Some(step) = step {
            let item = Item::Ls(Box::new(step.clone()));
            load.items.push(KeptItem { seq, kind: item.kind(), body: item.body(), room: None, handle: None });
            load.step = Some(step.epoch);
            seq += 1;
        }
        for queued in self.queue.iter().filter(|queued| queued.priority <= up_to) {
            if raw > RAW_FACTOR * capacity || load.items.len() >= max_items(class) {
                break;
            }
            let whole = queued.parts() == 1;
            if whole && queued.alone <= capacity {
                load.items.push(queued.keep(seq, &mut order));
            } else if !whole && class == Class::L && load.parts.is_empty() && self.may_go(queued) {
                let (item, part) = self.next_part(queued, seq, order)?;
                load.begins_in_order = queued.kind == TO_DEVICE && part.1 == 0;
                order += u64::from(load.begins_in_order);
                load.items.push(item);
                load.parts.push(part);
            } else {
                continue;
            }
            raw += load.items.last().map_or(0, |item| item.body.len());
            seq += 1;
        }
        Some(load)
    }

    /// Whether an item may go now: of large ones the peer puts a few together at a time.
    fn may_go(&self, queued: &Queued) -> bool {
        let Some(line) = &self.state.live else { return false };
        queued.parts() == 1
            || line.large.len() < MAX_PARTIAL
            || line.large.iter().any(|large| large.handle == queued.handle)
    }

    /// The next part of a large item; `order`: of the next to-device message.
    fn next_part(&self, queued: &Queued, seq: u64, order: u64) -> Option<(KeptItem, (u32, u8))> {
        let line = self.state.live.as_ref()?;
        let large = line.large.iter().find(|large| large.handle == queued.handle);
        let (of, index) = large.map_or((line.next_large, 0), |large| (large.of, large.sealed));
        let count = queued.parts();
        let item = Item::Fragment(Fragment { of, index, count, part: queued.part(index, order) });
        let kept = KeptItem { seq, kind: item.kind(), body: item.body(), room: queued.room, handle: None };
        Some((kept, (of, index)))
    }

    /// What is in the load leaves the queue, and its numbers are used.
    pub(super) fn take_load(&mut self, load: &Load) {
        let Some(line) = &mut self.state.live else { return };
        line.next_item += load.items.len() as u64;
        line.next_order = load.next_order.max(line.next_order);
        let mut finished = load.handles.clone();
        for (of, index) in &load.parts {
            if *index == 0 && *of == line.next_large {
                let known = |queued: &&Queued| line.large.iter().any(|large| large.handle == queued.handle);
                let queued = self.queue.iter().find(|queued| queued.parts() > 1 && !known(queued));
                let Some(queued) = queued else { continue };
                let (handle, count) = (queued.handle, queued.parts());
                line.large.push(Large { of: *of, handle, count, sealed: 0, acked: 0 });
                line.next_large += 1;
            }
            if let Some(large) = line.large.iter_mut().find(|large| large.of == *of) {
                large.sealed = index + 1;
                if large.sealed == large.count {
                    finished.push(large.handle);
                }
            }
        }
        self.queue.remove(&finished);
    }

    /// Bytes of groups that fit a frame of this size beside so many bytes of stamps.
    fn capacity(&self, class: Class, stamps: usize) -> usize {
        let header = self.header(stamps, u32::MAX, u64::MAX).write(&[]).len();
        (envelope::capacity(class) - OLM_OVERHEAD).saturating_sub(header)
    }

    /// The peer's frame that does not open keeps the numbers of its items; a new line gives new ones.
    pub(super) fn renumber(&self, flight: &Flight, items: Vec<KeptItem>) -> Vec<KeptItem> {
        let Some(line) = &self.state.live else { return items };
        if flight.stale != Stale::Line {
            return items;
        }
        let (mut seq, mut order) = (line.next_item, line.next_order);
        // The parts of large items and the steps of the ratchet belong to the line that is over.
        let mut kept: Vec<KeptItem> =
            items.into_iter().filter(|item| item.kind != FRAGMENT && item.kind != LS).collect();
        for item in &mut kept {
            item.seq = seq;
            seq += 1;
            if item.kind == TO_DEVICE {
                item.body[..8].copy_from_slice(&order.to_be_bytes());
                order += 1;
            }
        }
        kept
    }

    /// One load, or two halves and so on, if the header of today is longer than that of then.
    pub(super) fn split(&self, flight: &Flight, items: Vec<KeptItem>) -> Option<Vec<Load>> {
        let line = self.state.live.as_ref()?;
        if items.is_empty() {
            return Some(Vec::new());
        }
        let packed = groups(&items);
        let length: usize = packed.iter().map(Group::wire_len).sum();
        if length > self.capacity(flight.class, 0) && items.len() > 1 {
            let (mut first, mut second) = (items, Vec::new());
            second.extend(first.drain(first.len() / 2..));
            let mut loads = self.split(flight, first)?;
            loads.extend(self.split(flight, second)?);
            return Some(loads);
        }
        let orders = items.iter().filter(|item| item.kind == TO_DEVICE);
        let next_order = orders.filter_map(order_of).map(|order| order + 1).max().unwrap_or(line.next_order);
        let step = items.iter().any(|item| item.kind == LS).then_some(flight.step).flatten();
        let parts = if items.iter().any(|item| item.kind == FRAGMENT) { flight.parts.clone() } else { Vec::new() };
        let handles = items.iter().filter_map(|item| item.handle).collect();
        let essential = flight.essential;
        Some(vec![Load { groups: packed, items, handles, parts, step, essential, next_order, ..Load::default() }])
    }

    /// Our part of a step of the ratchet, if it is to go with the next frame.
    fn step_item(&self) -> Option<LsItem> {
        let part = self.state.live.as_ref()?.ratchet.unacknowledged()?;
        let under_way = self.state.flights.iter().any(|flight| flight.step == Some(part.epoch));
        (!under_way).then_some(part)
    }

    /// Begins a step of the ratchet if one is due and a frame goes out anyway.
    pub(super) fn begin_step(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        let order = self.state.order();
        let Some(line) = self.state.live.as_mut().filter(|line| line.proven) else { return };
        if line.ratchet.is_due(ctx.now) {
            let taken = line.ratchet.begin(order, ctx.now, rng);
            out.changed();
            if taken == Taken::Computed {
                out.notice(Notice::Secrets);
            }
        }
    }
}

fn order_of(item: &KeptItem) -> Option<u64> {
    item.body.first_chunk::<8>().map(|order| u64::from_be_bytes(*order))
}

fn max_items(class: Class) -> usize {
    match class {
        Class::S => 32,
        Class::L => 128,
    }
}

/// Frames of a link that are not acknowledged: vodozemac keeps the keys of as many skipped messages (overlay.md, section 4).
const MAX_FLIGHTS: usize = 40;
/// Numbers that stay free in the peer's windows.
const MARGIN: u64 = 256;
/// Bytes that Olm puts around a frame: type, keys of a pre-key message, index, padding, mac; and what CBOR puts around groups.
const OLM_OVERHEAD: usize = 200;
/// Bytes of stamps in a small frame, and in a large one.
pub(super) const STAMPS_SMALL: usize = 1_300;
const STAMPS_LARGE: usize = 4_096;
/// From so many small envelopes on a large one is used.
const MANY: usize = 4;
/// JSON becomes at most so many times smaller.
const RAW_FACTOR: usize = 6;
