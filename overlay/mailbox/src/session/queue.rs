//! Items that were offered and are not sealed yet, in the order in which they go. In memory only: they are the node's rows.

use serde_bytes::ByteBuf;

use super::{
    Handle, Offered, Priority, RoomTag,
    flight::KeptItem,
    state::{Known, State},
};
use crate::{
    frame::{Group, WireItem},
    item::{FRAGMENT_LEN, MAX_FRAGMENTS, MAX_ITEM_LEN, TO_DEVICE},
    time::UnixMillis,
};

#[derive(Default)]
pub(super) struct Queue {
    /// By priority, then as offered.
    items: Vec<Queued>,
    bytes: usize,
}

pub(super) struct Queued {
    pub(super) handle: Handle,
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
    pub(super) room: Option<RoomTag>,
    pub(super) priority: Priority,
    pub(super) deadline: Option<UnixMillis>,
    /// Bytes that it takes in a frame alone: never more in company.
    pub(super) alone: usize,
}

impl Queued {
    /// In how many parts it goes; 1: whole.
    pub(super) fn parts(&self) -> u8 {
        if self.alone <= WHOLE_LEN {
            return 1;
        }
        let parts = (self.body.len() + 1).div_ceil(FRAGMENT_LEN).max(2);
        u8::try_from(parts).unwrap_or(MAX_FRAGMENTS).min(MAX_FRAGMENTS)
    }

    /// One part of `kind || body`. The first of a to-device message has its place in the order.
    pub(super) fn part(&self, index: u8, order: u64) -> Vec<u8> {
        let whole = std::iter::once(&self.kind).chain(&self.body);
        let mut part: Vec<u8> = whole.skip(usize::from(index) * FRAGMENT_LEN).take(FRAGMENT_LEN).copied().collect();
        if self.kind == TO_DEVICE && index == 0 {
            part[1..9].copy_from_slice(&order.to_be_bytes());
        }
        part
    }

    /// As it goes into a frame, with its number.
    pub(super) fn keep(&self, seq: u64, next_order: &mut u64) -> KeptItem {
        let mut body = self.body.clone();
        if self.kind == TO_DEVICE {
            body[..8].copy_from_slice(&next_order.to_be_bytes());
            *next_order += 1;
        }
        KeptItem { seq, kind: self.kind, body, room: self.room, handle: Some(self.handle) }
    }
}

impl Queue {
    /// `false`: it is longer than any item may be.
    pub(super) fn offer(&mut self, offered: Offered, state: &State) -> bool {
        let Offered { handle, item, priority, room, deadline } = offered;
        if state.knows(handle) == Known::UnderWay || self.items.iter().any(|queued| queued.handle == handle) {
            return true;
        }
        let (kind, body) = (item.kind(), item.body());
        if body.len() > MAX_ITEM_LEN {
            return false;
        }
        let alone = Group::pack(&[WireItem(u64::from(u32::MAX), kind, ByteBuf::from(body.as_slice()))]).wire_len();
        let at = self.items.partition_point(|queued| queued.priority <= priority);
        self.bytes += body.len();
        self.items.insert(at, Queued { handle, kind, body, room, priority, deadline, alone });
        true
    }

    pub(super) fn room(&self) -> usize {
        if self.items.len() >= MAX_QUEUED { 0 } else { QUEUE_LEN.saturating_sub(self.bytes) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.items.iter()
    }

    /// Bytes that everything takes at most, each alone.
    pub(super) fn alone(&self) -> usize {
        self.items.iter().map(|queued| queued.alone).sum()
    }

    /// What was sealed whole goes.
    pub(super) fn remove(&mut self, handles: &[Handle]) {
        self.items.retain(|queued| !handles.contains(&queued.handle));
        self.bytes = self.items.iter().map(|queued| queued.body.len()).sum();
    }

    /// Takes out what nobody waits for any more.
    pub(super) fn expired(&mut self, now: UnixMillis) -> Vec<Handle> {
        let late = |queued: &&Queued| queued.deadline.is_some_and(|deadline| now >= deadline);
        let handles: Vec<Handle> = self.items.iter().filter(late).map(|queued| queued.handle).collect();
        if !handles.is_empty() {
            self.remove(&handles);
        }
        handles
    }
}

/// The groups of these items: those of one room together, all others each alone.
pub(super) fn groups(items: &[KeptItem]) -> Vec<Group> {
    let mut rooms: Vec<(Option<RoomTag>, Vec<WireItem>)> = Vec::new();
    for item in items {
        let known = rooms.iter_mut().find(|(room, _)| room.is_some() && *room == item.room);
        match known {
            Some((_, group)) => group.push(item.wire()),
            None => rooms.push((item.room, vec![item.wire()])),
        }
    }
    rooms.iter().map(|(_, group)| Group::pack(group)).collect()
}

/// Bytes up to which an item goes whole, as compressed: what fits a large envelope beside any acknowledgements and stamps.
const WHOLE_LEN: usize = 68_500;
/// Bytes of items that wait here; the rest waits in the outbox.
const QUEUE_LEN: usize = 2 << 20;
/// Items that wait here.
const MAX_QUEUED: usize = 1_024;
