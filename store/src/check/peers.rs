//! Between nodes: positions that were given out, key documents that prove themselves, what was taken once.

use std::collections::BTreeMap;

use ruma::OwnedServerName;

use super::Report;
use crate::{Error, View, rows::OutboxItem, tables};

pub(super) fn check(view: View<'_>, report: &mut Report) -> Result<(), Error> {
    let last = view.position()?.0;
    let mut waiting: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    for row in view.scan(tables::INBOX, ())? {
        let (position, staged) = row?;
        *waiting.entry(staged.origin).or_default() += 1;
        report.expect(position <= last, || format!("a PDU is staged at {position}, and the last commit is {last}"));
    }
    let counted: BTreeMap<_, _> = view.scan(tables::INBOX_WAITING, ())?.collect::<Result<_, _>>()?;
    report.expect(counted == waiting, || "the inbox counts other PDUs of its peers than it holds".to_owned());
    for row in view.scan(tables::OUTBOX, ())? {
        let ((server, position), item) = row?;
        report.expect(position <= last, || {
            format!("the outbox owes {server} at {position}, and the last commit is {last}")
        });
        match item {
            OutboxItem::Pdu(event) | OutboxItem::Invite(event) => {
                report.expect(view.contains(tables::EVENTS, event)?, || {
                    format!("the outbox owes {server} at {position} an event that is not there")
                });
            }
            OutboxItem::Question => {
                report.expect(view.contains(tables::MAIL_ASKED, (&*server, position))?, || {
                    format!("the outbox owes {server} at {position} a question that is not there")
                });
            }
            OutboxItem::Edu(_) | OutboxItem::Response(_) => {}
        }
    }
    for row in view.scan(tables::SET_ASIDE, ())? {
        let ((server, position), row) = row?;
        let here = match row.item {
            Some(OutboxItem::Pdu(event) | OutboxItem::Invite(event)) => view.contains(tables::EVENTS, event)?,
            Some(_) => true,
            None => false,
        };
        report.expect(here && !view.contains(tables::OUTBOX, (&*server, position))?, || {
            format!("something is set aside for {server} at {position} that is owed to it, or is not there")
        });
    }
    mail(view, last, report)?;
    for row in view.scan(tables::KEY_DOCUMENTS, ())? {
        let (server, bytes) = row?;
        let document = millpond_mailbox::key_document::KeyDocument::verify(&bytes);
        report.expect(document.is_ok_and(|document| document.name().as_str() == server.as_str()), || {
            format!("the key document of {server} does not prove itself")
        });
    }
    for row in view.scan(tables::NODE_NAMES, ())? {
        let (server, node) = row?;
        let named = view.get(tables::NAMED_NODES, &node)?;
        report.expect(named.is_some_and(|named| named.is_proven() && named.server_name == server), || {
            format!("{server} is taken for a node that has not proven that name")
        });
    }
    for row in view.scan(tables::NAMED_NODES, ())? {
        let (node, named) = row?;
        let holder = view.get(tables::NODE_NAMES, &named.server_name)?;
        report.expect(!named.is_proven() || holder.as_ref() == Some(&node), || {
            format!("{node} has proven to be {}, which is taken for another node", named.server_name)
        });
    }
    for row in view.scan(tables::TO_DEVICE_SEEN, ())? {
        let ((origin, id), number) = row?;
        let logged = view.get(tables::TO_DEVICE_SEEN_LOG, (&origin, number))?;
        report.expect(logged == Some(id), || format!("message {number} of a peer is not in the log of messages"));
    }
    for row in view.scan(tables::TO_DEVICE_SEEN_LOG, ())? {
        let ((origin, number), id) = row?;
        let seen = view.get(tables::TO_DEVICE_SEEN, (&origin, &id))?;
        report
            .expect(seen == Some(number), || format!("message {number} of a peer is logged and would be taken again"));
    }
    Ok(())
}

/// Items out of mailboxes and questions: of peers that are known, at positions that were given out.
fn mail(view: View<'_>, last: u64, report: &mut Report) -> Result<(), Error> {
    for row in view.scan(tables::MAIL_IN, ())? {
        let (position, item) = row?;
        report.expect(position <= last, || format!("mail is staged at {position}, and the last commit is {last}"));
        let node = millpond_mailbox::name::NodeName::parse(item.peer.as_str());
        report.expect(node.is_ok(), || format!("mail at {position} is of {}, which is no node", item.peer));
        let parsed = millpond_mailbox::item::Item::parse(item.kind, item.body);
        report.expect(parsed.is_ok(), || format!("mail at {position} is no item"));
    }
    for row in view.scan(tables::MAIL_INVITES, ())? {
        let ((server, position), event) = row?;
        report.expect(view.contains(tables::EVENTS, event)?, || {
            format!("{server} is to answer an invite at {position} that is not there")
        });
    }
    for row in view.scan(tables::MAIL_ASKED, ())? {
        let ((server, position), asked) = row?;
        report.expect(position <= last, || {
            format!("{server} was asked something at {position}, and the last commit is {last}")
        });
        report.expect(asked.target.starts_with('/'), || format!("{server} was asked for {:?}", asked.target));
    }
    Ok(())
}
