//! Parts of large items, and to-device messages in their order: what cannot be handed over yet lies in rows, within bounds.

use super::{
    Context, Fault, Notice, RowKey, Session,
    commit::Out,
    line::{Line, Partial},
};
use crate::item::{Fragment, Item, MAX_ITEM_LEN};
use zeroize::Zeroizing;

impl Session {
    pub(super) fn on_fragment(&mut self, ctx: &Context<'_>, seq: u64, fragment: Fragment, out: &mut Out) {
        let Some(line) = &mut self.state.live else { return };
        let Fragment { of, index, count, part } = fragment;
        if !line.partial.iter().any(|partial| partial.of == of) {
            if line.partial.len() >= MAX_PARTIAL {
                return out.notice(Notice::Misbehaved(Fault::Beyond));
            }
            line.partial.push(Partial { of, count, have: 0 });
        }
        let Some(position) = line.partial.iter().position(|partial| partial.of == of) else { return };
        let partial = &mut line.partial[position];
        if partial.count != count || partial.have & (1 << index) != 0 {
            return out.notice(Notice::Misbehaved(Fault::Beyond));
        }
        partial.have |= 1 << index;
        out.put(RowKey::Fragment(of, index), Zeroizing::new(part));
        if partial.have.count_ones() < u32::from(count) {
            return;
        }
        // All parts are there: together again, handed over, and out of their rows, in this one commit.
        line.partial.remove(position);
        let mut whole = Vec::new();
        for index in 0..count {
            let row = out.row(ctx.rows, RowKey::Fragment(of, index));
            whole.extend_from_slice(row.as_ref().map(|row| row.as_slice()).unwrap_or_default());
            out.delete(RowKey::Fragment(of, index));
        }
        let item = match whole.split_first() {
            Some((kind, body)) if body.len() <= MAX_ITEM_LEN => Item::parse(*kind, body.to_vec()).ok(),
            _ => None,
        };
        match item {
            Some(Item::ToDevice { order, body }) => self.on_to_device(ctx, seq, order, body, out),
            Some(Item::Fragment(_) | Item::Ls(_)) | None => out.notice(Notice::Misbehaved(Fault::Frame)),
            Some(item) => out.deliver(seq, item),
        }
    }

    pub(super) fn on_to_device(&mut self, ctx: &Context<'_>, seq: u64, order: u64, body: Vec<u8>, out: &mut Out) {
        let Some(line) = &mut self.state.live else { return };
        let early = order > line.order;
        let full = early && line.held_len + body.len() as u64 > MAX_HELD_LEN;
        if order < line.order || order - line.order > MAX_HELD || line.held.contains(&order) || full {
            return out.notice(Notice::Misbehaved(Fault::Beyond));
        }
        if early {
            line.held.insert(order);
            line.held_len += body.len() as u64;
            return out.put(RowKey::Held(order), Zeroizing::new(body));
        }
        out.deliver(seq, Item::ToDevice { order, body });
        line.order += 1;
        while line.held.remove(&line.order) {
            line.held_len = line.held_len.saturating_sub(hand_over(line.order, seq, ctx, out));
            line.order += 1;
        }
    }
}

/// A line ends: what was held is handed over in its order. The peer knows it to be here and does not send it again.
pub(super) fn flush(line: &mut Line, ctx: &Context<'_>, out: &mut Out) {
    for order in std::mem::take(&mut line.held) {
        hand_over(order, 0, ctx, out);
    }
    line.held_len = 0;
    for partial in std::mem::take(&mut line.partial) {
        for index in (0..partial.count).filter(|index| partial.have & (1 << index) != 0) {
            out.delete(RowKey::Fragment(partial.of, index));
        }
    }
}

/// Says how many bytes it had.
fn hand_over(order: u64, seq: u64, ctx: &Context<'_>, out: &mut Out) -> u64 {
    let row = out.row(ctx.rows, RowKey::Held(order)).unwrap_or_default();
    let len = row.len() as u64;
    if len > 0 {
        out.deliver(seq, Item::ToDevice { order, body: row.to_vec() });
    }
    out.delete(RowKey::Held(order));
    len
}

/// Large items of a peer of which some parts are here; whoever sends begins no more before one of them is acknowledged whole.
pub(super) const MAX_PARTIAL: usize = 4;
/// To-device messages that came too early, and their bytes: far more than a conversation has while a host is down.
const MAX_HELD: u64 = 4_096;
const MAX_HELD_LEN: u64 = 16 << 20;
