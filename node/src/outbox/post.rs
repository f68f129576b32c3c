//! What is owed to a peer that is not there, as items for its mailboxes. A row stays until the link says that the peer has
//! staged its item (R2); what was offered and what goes directly meanwhile may be the same, and is taken once.

use std::collections::{BTreeMap, BTreeSet};

use millpond_mailbox::{
    item::{Item, Request},
    session::{Handle, Offered, Priority, RoomTag},
    time::UnixMillis,
};
use millpond_store::{
    Error as StoreError, View, WriteTxn, job,
    rows::{EventShort, MailAsked, OutboxItem},
    tables,
};
use ruma::ServerName;
use serde_bytes::ByteBuf;

use super::{Outbox, batch::served_in};
use crate::{
    Error,
    keys::pack_edus,
    peers::{Route, node_of},
    receipts::{receipt_edus, receipts_delivered},
    rooms,
};

/// Rows that are looked at for one offer.
const MAX_ROWS: usize = 256;
/// Key packs in one offer.
const MAX_PACKS: usize = 20;
/// Bytes of a question over mailboxes; an invite with a larger room goes without it.
const MAX_QUESTION: usize = 1 << 20;
/// Items whose offering is remembered; the link knows them as well.
const MAX_OFFERED: usize = 10_000;
/// How long the answer to a question of ours is wanted.
const WANTED_FOR_MS: u64 = 30 * 86_400_000;

impl Outbox {
    /// Offers what is owed to a peer to its mailboxes, as far as there is room; what was offered before is known there.
    ///
    /// # Errors
    /// Storage errors.
    pub(super) async fn post(&self, server: &ServerName, offered: &mut BTreeSet<u64>) -> Result<(), Error> {
        let Some(mut room) = self.peers.mail_room(server).filter(|room| *room > 0) else { return Ok(()) };
        self.put_receipts(server).await?;
        if offered.len() > MAX_OFFERED {
            offered.clear();
        }
        let mut items = Vec::new();
        {
            let snapshot = self.core.snapshot()?;
            for item in self.items(snapshot.view(), server, offered)? {
                let Some(left) = room.checked_sub(item.item.body().len()) else { break };
                room = left;
                offered.insert(item.handle.0);
                items.push(item);
            }
        }
        tracing::debug!(count = items.len(), room, "what is owed goes to mailboxes");
        if !items.is_empty() {
            self.peers.post(server, items).await;
        }
        Ok(())
    }

    /// Receipts are chosen when they are sent: once they are on their way they are rows like all others. As long as some
    /// are, newer ones wait, so that a peer that is away for long gets few.
    async fn put_receipts(&self, server: &ServerName) -> Result<(), Error> {
        let receipts = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            for row in view.scan(tables::OUTBOX, (server,))? {
                if let (_, OutboxItem::Edu(json)) = row?
                    && json.contains("\"m.receipt\"")
                {
                    return Ok(());
                }
            }
            receipt_edus(view, self.core.identity(), server, Route::Link, 50)?
        };
        if receipts.edus.is_empty() {
            return Ok(());
        }
        let (server, core) = (server.to_owned(), self.core.clone());
        let write = move |(), txn: &mut WriteTxn<'_>| {
            for edu in &receipts.edus {
                let position = txn.next_position().0;
                txn.put(tables::OUTBOX, (&*server, position), &OutboxItem::Edu(edu.clone()))?;
            }
            receipts_delivered(txn, core.identity(), &server, &receipts)
        };
        self.core.write(job(|_| Ok::<_, Error>(()), write)).await?;
        Ok(())
    }

    fn items(&self, view: View<'_>, server: &ServerName, offered: &BTreeSet<u64>) -> Result<Vec<Offered>, Error> {
        let mut items = Vec::new();
        let packs = pack_edus(view, server, MAX_PACKS)?;
        for (version, edu) in packs.versioned() {
            if !offered.contains(&version) {
                items.push(plain(version, edu_item(edu), Priority::KeyPack));
            }
        }
        let mut served = BTreeMap::new();
        for row in view.scan(tables::OUTBOX, (server,))? {
            let ((_, position), item) = row?;
            if offered.contains(&position) {
                continue;
            }
            if items.len() == MAX_ROWS {
                break;
            }
            items.push(match item {
                OutboxItem::Pdu(event) => {
                    let row = rooms::rows::event(view, event)?;
                    let via = served_in(view, event, &row.meta, &mut served)?;
                    let mut nodes = Vec::new();
                    for server in &via {
                        nodes.extend(node_of(view, server)?);
                    }
                    let via = nodes;
                    let member = row.header.kind.of(&row.json).contains("m.room.member");
                    let priority = if member { Priority::Essential } else { Priority::Ordinary };
                    let body = format!("{{\"pdus\":[{}]}}", row.json).into_bytes();
                    let room = Some(RoomTag(row.meta.room.0));
                    Offered { room, ..plain(position, Item::Transaction { via, body }, priority) }
                }
                OutboxItem::Edu(json) if json.contains("\"m.direct_to_device\"") => {
                    plain(position, Item::ToDevice { order: 0, body: json.into_bytes() }, Priority::Essential)
                }
                OutboxItem::Edu(json) => plain(position, edu_item(&json), Priority::Ordinary),
                OutboxItem::Invite(event) => match self.invite_mail(position, event) {
                    Ok(item) => plain(position, item, Priority::Essential),
                    Err(Error::Store(error)) => return Err(error.into()),
                    Err(error) => {
                        tracing::warn!(%error, "an invite cannot be written, and waits");
                        continue;
                    }
                },
                OutboxItem::Question => match question(view, server, position)? {
                    Some(item) => item,
                    None => continue,
                },
                OutboxItem::Response(response) => {
                    let headers = vec![("content-type".to_owned(), ByteBuf::from(response.content_type))];
                    let large = response.body.len() > 64 << 10;
                    let item = millpond_mailbox::item::Response {
                        id: response.id,
                        status: response.status,
                        headers,
                        body: response.body,
                    };
                    let priority = if large { Priority::Bulk } else { Priority::Ordinary };
                    plain(position, Item::Response(item), priority)
                }
            });
        }
        Ok(items)
    }

    /// An invite as a question that can wait.
    fn invite_mail(&self, id: u64, event: EventShort) -> Result<Item, Error> {
        let mut request = self.invite_request(event, true)?;
        if request.body().len() > MAX_QUESTION {
            request = self.invite_request(event, false)?;
        }
        let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        Ok(Item::Request(Request {
            id,
            deadline: UnixMillis(self.core.clock().now_ms() + WANTED_FOR_MS),
            method: request.method().to_string(),
            target,
            headers: Vec::new(),
            body: request.body().to_vec(),
        }))
    }
}

/// A question of ours, unless it is answered. Files come after everything else.
fn question(view: View<'_>, server: &ServerName, id: u64) -> Result<Option<Offered>, Error> {
    let Some(asked) = view.get(tables::MAIL_ASKED, (server, id))? else { return Ok(None) };
    let deadline = UnixMillis(asked.deadline_ms);
    let priority = if asked.target.contains("/media/") { Priority::Bulk } else { Priority::Ordinary };
    let headers = Vec::new();
    let MailAsked { method, target, body, .. } = asked;
    let item = Item::Request(Request { id, deadline, method, target, headers, body });
    Ok(Some(Offered { deadline: Some(deadline), ..plain(id, item, priority) }))
}

fn plain(handle: u64, item: Item, priority: Priority) -> Offered {
    Offered { handle: Handle(handle), item, priority, room: None, deadline: None }
}

fn edu_item(edu: &str) -> Item {
    Item::Transaction { via: Vec::new(), body: format!("{{\"edus\":[{edu}]}}").into_bytes() }
}

/// Removes what the peer has staged: rows of the outbox by their positions, key packs by their versions.
///
/// # Errors
/// Storage errors.
pub(crate) fn posted(txn: &mut WriteTxn<'_>, server: &ServerName, done: &[Handle]) -> Result<(), StoreError> {
    for Handle(handle) in done {
        if let Some(item) = txn.view().get(tables::OUTBOX, (server, *handle))? {
            txn.remove(tables::OUTBOX, (server, *handle))?;
            if let OutboxItem::Invite(event) = item {
                // What its user's server says to it comes later.
                txn.put(tables::MAIL_INVITES, (server, *handle), &event)?;
            }
            continue;
        }
        let owed = txn.view().scan(tables::KEY_PACKS_OWED, (server,))?;
        let owed: Vec<_> =
            owed.map(|row| row.map(|((_, user), owed)| (user, owed.version))).collect::<Result<_, _>>()?;
        if let Some((user, _)) = owed.into_iter().find(|(_, version)| version == handle) {
            txn.remove(tables::KEY_PACKS_OWED, (server, &*user))?;
        }
    }
    Ok(())
}
