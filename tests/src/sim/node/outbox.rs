//! What is owed, offered to the sessions: an event as a transaction with `via`, a to-device message as an item of its own. A row goes
//! when the peer has staged it (R2), and never before.

use std::collections::BTreeSet;

use millpond_mailbox::{
    item::{Item, Request},
    name::NodeName,
    session::{Handle, InEvent, Offered, Priority, RoomTag},
    time::UnixMillis,
};
use serde_json::json;

use super::{Node, Step};
use crate::sim::{disk::Owed, fate::Killed};

impl Node {
    /// Offers what is owed to a peer, as far as there is room.
    ///
    /// # Errors
    /// When it dies.
    pub fn post(&mut self, peer: usize, step: &mut Step<'_>) -> Result<(), Killed> {
        let items = self.offers(peer, step);
        if !items.is_empty() {
            let handles: Vec<u64> = items.iter().map(|item| item.handle.0).collect();
            step.trace.note(step.now, format_args!("{} -> {peer}: offers {handles:?}", self.index));
            self.feed(peer, InEvent::Offer(items), &[], step)?;
        }
        Ok(())
    }

    /// Offers what is owed to everybody.
    pub(super) fn post_all(&mut self, step: &mut Step<'_>) -> Result<(), Killed> {
        let peers: Vec<usize> = self.disk.links.keys().copied().collect();
        peers.into_iter().try_for_each(|peer| self.post(peer, step))
    }

    fn offers(&mut self, peer: usize, step: &Step<'_>) -> Vec<Offered> {
        let Some(outbox) = self.disk.outbox.get(&peer) else { return Vec::new() };
        let Some(carried) = self.memory.as_mut().and_then(|memory| memory.sessions.get_mut(&peer)) else {
            return Vec::new();
        };
        let mut room = carried.session.room_for_more();
        let mut items = Vec::new();
        carried.cut = false;
        // What is known has the lower positions, but for what was offered anew.
        let fresh = outbox.iter().filter(|(position, _)| !carried.offered.contains(*position));
        for (looked_at, (position, owed)) in fresh.enumerate() {
            if looked_at == MAX_ROWS {
                carried.cut = true;
                break;
            }
            let offered = match owed {
                Owed::Pdu(room, id) => {
                    let Some(json) = self.disk.rooms.get(room).and_then(|room| room.json(id)) else { continue };
                    let written = self.disk.written.get(id).copied().unwrap_or(0);
                    let served = self.disk.links.iter().filter(|(_, since)| **since <= written).map(|(peer, _)| *peer);
                    let via = via(self.index, *room, self.byzantine, &served.collect(), step);
                    let member = json.contains("\"m.room.member\"");
                    let priority = if member { Priority::Essential } else { Priority::Ordinary };
                    let item = Item::Transaction { via, body: format!("{{\"pdus\":[{json}]}}").into_bytes() };
                    Offered {
                        handle: Handle(*position),
                        item,
                        priority,
                        room: Some(RoomTag(*room as u64)),
                        deadline: None,
                    }
                }
                Owed::Invite(snapshot) => {
                    let item = Item::Request(Request {
                        id: *position,
                        deadline: UnixMillis(u64::MAX),
                        method: "PUT".to_owned(),
                        target: "/_matrix/federation/v2/invite".to_owned(),
                        headers: Vec::new(),
                        body: serde_json::to_vec(snapshot).unwrap_or_default(),
                    });
                    Offered {
                        handle: Handle(*position),
                        item,
                        priority: Priority::Essential,
                        room: None,
                        deadline: None,
                    }
                }
                Owed::ToDevice(message) => {
                    let item = Item::ToDevice { order: 0, body: to_device(*message) };
                    Offered {
                        handle: Handle(*position),
                        item,
                        priority: Priority::Essential,
                        room: None,
                        deadline: None,
                    }
                }
            };
            let Some(left) = room.checked_sub(offered.item.body().len()) else {
                carried.cut = true;
                break;
            };
            room = left;
            items.push(offered);
        }
        carried.offered.extend(items.iter().map(|offered| offered.handle.0));
        items
    }
}

/// Whom the sender serves: those it had a link with when it wrote the event, and itself. A liar serves everybody.
fn via(index: usize, room: usize, liar: bool, links: &BTreeSet<usize>, step: &Step<'_>) -> Vec<NodeName> {
    let members = step.fixed.members[room].iter();
    let served = members.filter(|member| liar || **member == index || links.contains(member));
    served.map(|member| step.fixed.people[*member].name()).collect()
}

fn to_device(message: u64) -> Vec<u8> {
    let edu = json!({
        "edu_type": "m.direct_to_device",
        "content": { "message_id": format!("{message:016x}"), "type": "m.room.encrypted", "body": "x".repeat(400) },
    });
    edu.to_string().into_bytes()
}

/// Rows that are looked at for one offer.
const MAX_ROWS: usize = 256;
