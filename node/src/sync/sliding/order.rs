//! A list of a connection in its order, the newest activity first: it follows what happens room by room.

use std::{cmp::Reverse, ops::Range};

use millpond_store::rows::RoomShort;

use super::List;

/// The rooms of a list.
pub(super) struct Order(Vec<(Reverse<u64>, RoomShort)>);

impl Order {
    /// The rooms in order of activity.
    pub(super) fn new(rooms: impl Iterator<Item = (RoomShort, u64)>) -> Self {
        let mut rooms: Vec<_> = rooms.map(|(room, active)| (Reverse(active), room)).collect();
        rooms.sort_unstable();
        Self(rooms)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn within(&self, span: Range<usize>) -> impl Iterator<Item = RoomShort> {
        self.0[span].iter().map(|(_, room)| *room)
    }

    /// Puts a room where its activity belongs, `None` being nowhere. Says whether the ranges of the list may take other
    /// rooms than before: they do not if it moved within a range, or between two.
    pub(super) fn place(&mut self, room: RoomShort, before: Option<u64>, now: Option<u64>, list: &List) -> bool {
        let from = before.and_then(|before| self.0.binary_search(&(Reverse(before), room)).ok());
        if let Some(from) = from {
            self.0.remove(from);
        }
        let to = now.map(|now| {
            let entry = (Reverse(now), room);
            let at = self.0.binary_search(&entry).unwrap_or_else(|at| at);
            self.0.insert(at, entry);
            at
        });
        match (from, to) {
            (Some(from), Some(to)) => list.part(from) != list.part(to),
            (None, None) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn taken(order: &Order, list: &List) -> BTreeSet<RoomShort> {
        list.spans(order.len()).flat_map(|span| order.within(span)).collect()
    }

    #[test]
    fn whatever_moves_the_ranges_take_the_same_rooms_unless_it_says_so() {
        for ranges in [json!([[0, 3]]), json!([[0, 1], [4, 5]]), json!([[2, 4], [3, 6]]), json!([[0, 90]]), json!([])] {
            let list: List = serde_json::from_value(json!({ "ranges": ranges })).unwrap();
            for moved in 0..8 {
                for to in 0..10 {
                    let mut order = Order::new((0..8).map(|n| (RoomShort(n), 10 * n)));
                    let before = taken(&order, &list);
                    let changed = order.place(RoomShort(moved), Some(10 * moved), Some(10 * to + 5), &list);
                    let after = taken(&order, &list);
                    assert!(changed || before == after, "{ranges}: {moved} to {to}");
                    let sorted =
                        Order::new((0..8).map(|n| (RoomShort(n), if n == moved { 10 * to + 5 } else { 10 * n })));
                    assert_eq!(order.0, sorted.0);
                }
            }
        }
    }

    #[test]
    fn rooms_that_come_and_go_change_the_list() {
        let list: List = serde_json::from_value(json!({ "ranges": [[0, 1]] })).unwrap();
        let mut order = Order::new([(RoomShort(1), 5)].into_iter());
        assert!(order.place(RoomShort(2), None, Some(7), &list));
        assert!(order.place(RoomShort(1), Some(5), None, &list));
        assert!(!order.place(RoomShort(3), Some(5), None, &list), "it never was there");
        assert_eq!(order.within(0..1).collect::<Vec<_>>(), [RoomShort(2)]);
    }
}
