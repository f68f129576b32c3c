//! Mail on disk: mailboxes, the stamps that are out, the rows of sessions, boxes that are to be left at hosts.

use std::collections::BTreeMap;

use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::mailbox::{Issued, MailboxSecret};
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{Commit, MapRows, RowKey, Session};
use millpond_mailbox::stamp::{MailboxId, Serial};
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::token::{Grant as Leave, Token, TokenRequest};
use millpond_mailbox::way::{HostAddress, Way};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::boxes::Left;
use super::epochs::Tokens;
use super::hosting::Hosted;
use super::lodging::Lodging;
use super::own::Making;
use super::{Carried, Own};
use crate::error::Error;
use crate::hosts;
use crate::store::{Change, Record, RecordKey, RecordKind};

/// Everything about mail that was stored.
#[derive(Default)]
pub(in crate::driver) struct Loaded {
    pub(super) own: BTreeMap<MailboxId, Own>,
    pub(super) tokens: BTreeMap<HostKey, Tokens>,
    pub(super) leaves: BTreeMap<HostKey, Making>,
    pub(super) hosted: BTreeMap<LinkId, Hosted>,
    pub(super) lodgings: BTreeMap<LinkId, Lodging>,
    pub(super) sessions: BTreeMap<LinkId, Carried>,
    pub(super) boxes: BTreeMap<LinkId, Left>,
}

/// A mailbox on disk: version, key, address, recovery, draining, opened.
#[derive(Serialize, Deserialize)]
struct Stored(u8, MailboxSecret, Way, bool, bool, UnixMillis);

#[derive(Serialize, Deserialize)]
pub(super) struct StoredBox(
    pub(super) u8,
    pub(super) ByteBuf,
    pub(super) ByteBuf,
    pub(super) UnixMillis,
    pub(super) Vec<Way>,
);

/// A leave on disk: version, the host's link, the leave, what is asked for, the keys of both mailboxes, the contact who has shown the host.
#[derive(Serialize, Deserialize)]
struct StoredMaking(u8, String, Leave, TokenRequest, (MailboxSecret, MailboxSecret), #[serde(default)] Option<ByteBuf>);

pub(super) const VERSION: u8 = 1;

impl Loaded {
    /// Reads the records of mail; others are left alone.
    pub(in crate::driver) fn read(records: &[Record]) -> Result<Self, Error> {
        let mut loaded = Self::default();
        for record in records.iter().filter(|record| record.key.kind == RecordKind::Mailbox) {
            let own = mailbox(&record.bytes).ok_or_else(|| stored("mailbox"))?;
            loaded.own.insert(own.secret.id(), own);
        }
        let mut rows: BTreeMap<LinkId, MapRows> = BTreeMap::new();
        for record in records {
            match record.key.kind {
                RecordKind::Serial => {
                    let (id, serial) = serial_key(&record.key.id).ok_or_else(|| stored("stamp"))?;
                    let issued: Issued = serde_cbor::from_slice(&record.bytes).map_err(|_| stored("stamp"))?;
                    if let Some(own) = loaded.own.get_mut(&id) {
                        own.known(serial, issued);
                    }
                }
                RecordKind::Session => {
                    let (link, key) = session_key(&record.key.id).ok_or_else(|| stored("session"))?;
                    rows.entry(link).or_default().0.insert(key, record.bytes.clone());
                }
                RecordKind::Tokens => {
                    let tokens = tokens(&record.bytes).ok_or_else(|| stored("tokens"))?;
                    loaded.tokens.insert(tokens.at.host, tokens);
                }
                RecordKind::Leave => {
                    let making = making(&record.bytes).ok_or_else(|| stored("leave"))?;
                    loaded.leaves.insert(making.link.way.key(), making);
                }
                RecordKind::Box => {
                    let (link, left) = Left::read(record).ok_or_else(|| stored("box"))?;
                    loaded.boxes.insert(link, left);
                }
                RecordKind::Hosted => {
                    let (link, hosted) = Hosted::read(record).ok_or_else(|| stored("leave of a contact"))?;
                    loaded.hosted.insert(link, hosted);
                }
                RecordKind::Lodging => {
                    let (link, lodging) = Lodging::read(record).ok_or_else(|| stored("host of a contact"))?;
                    loaded.lodgings.insert(link, lodging);
                }
                _ => {}
            }
        }
        for (link, rows) in rows {
            let Some(record) = rows.0.get(&RowKey::Record) else { continue };
            let session = Session::from_record(record)
                .map_err(|error| Error::Stored { what: "session", why: error.to_string() })?;
            loaded.sessions.insert(link, Carried { session, rows, in_air: 0 });
        }
        Ok(loaded)
    }
}

/// What a commit of a session changes.
pub(super) fn changes(link: LinkId, commit: &Commit) -> Vec<Change> {
    let key = |row: RowKey| {
        let id = [link.0.as_slice(), row.to_bytes().as_slice()].concat();
        RecordKey { kind: RecordKind::Session, id }
    };
    let deletions = commit.delete.iter().map(|row| Change::Remove(key(*row)));
    let puts = commit.put.iter().map(|(row, bytes)| Change::Put(Record { key: key(*row), bytes: bytes.to_vec() }));
    deletions.chain(puts).collect()
}

/// Removes every row of a session.
pub(super) fn removal(link: LinkId, rows: &MapRows) -> Vec<Change> {
    changes(link, &Commit { delete: rows.0.keys().copied().collect(), ..Commit::default() })
}

/// Whether a stored mailbox is at an onion service.
pub(crate) fn is_onion(bytes: &[u8]) -> bool {
    mailbox(bytes).is_some_and(|own| hosts::is_onion(&own.at))
}

pub(super) fn mailbox_record(own: &Own) -> Record {
    let way = Way::Mailbox(own.at.clone());
    let stored = Stored(VERSION, own.secret.clone(), way, own.recovery, own.draining, own.opened);
    Record { key: mailbox_key(&own.secret.id()), bytes: cbor(&stored) }
}

pub(super) fn mailbox_key(id: &MailboxId) -> RecordKey {
    RecordKey { kind: RecordKind::Mailbox, id: id.0.to_vec() }
}

/// A leave with everything that is drawn for it, so that who is killed asks for the same again.
pub(super) fn leave_record(making: &Making) -> Record {
    let by = making.by.map(|by| ByteBuf::from(by.0));
    let (leave, request, secrets) = (making.leave.clone(), making.request.clone(), making.secrets.clone());
    let stored = StoredMaking(VERSION, making.link.to_uri(), leave, request, secrets, by);
    Record { key: leave_key(&making.link.way.key()), bytes: cbor(&stored) }
}

pub(super) fn leave_key(host: &HostKey) -> RecordKey {
    RecordKey { kind: RecordKind::Leave, id: host.as_bytes().to_vec() }
}

fn making(bytes: &[u8]) -> Option<Making> {
    let StoredMaking(version, link, leave, request, secrets, by) = serde_cbor::from_slice(bytes).ok()?;
    let link = HostLink::parse(&link).ok().filter(|_| version == VERSION)?;
    let by = by.and_then(|by| Some(LinkId(by.as_slice().try_into().ok()?)));
    Some(Making { link, leave, request, secrets, by })
}

/// Tokens that are left at a host.
pub(super) fn tokens_record(at: &HostAddress, tokens: &[Token]) -> Record {
    let tokens: Vec<ByteBuf> = tokens.iter().map(|token| ByteBuf::from(token.to_bytes())).collect();
    let stored = (VERSION, Way::Mailbox(at.clone()), tokens);
    Record { key: RecordKey { kind: RecordKind::Tokens, id: at.host.as_bytes().to_vec() }, bytes: cbor(&stored) }
}

fn tokens(bytes: &[u8]) -> Option<Tokens> {
    let (version, way, tokens): (u8, Way, Vec<ByteBuf>) = serde_cbor::from_slice(bytes).ok()?;
    let at = address(&way).filter(|_| version == VERSION)?;
    let token = |bytes: &ByteBuf| Some(Token::from_bytes(bytes.as_slice().try_into().ok()?));
    Some(Tokens::new(at, tokens.iter().map(token).collect::<Option<_>>()?))
}

fn mailbox(bytes: &[u8]) -> Option<Own> {
    let Stored(version, secret, way, recovery, draining, opened) = serde_cbor::from_slice(bytes).ok()?;
    let at = address(&way).filter(|_| version == VERSION)?;
    let mut own = Own::new(secret, at, recovery, opened);
    own.draining = draining;
    Some(own)
}

/// Where a way to a host leads.
pub(super) fn address(way: &Way) -> Option<HostAddress> {
    match way {
        Way::Mailbox(at) | Way::Box(at) => Some(at.clone()),
        _ => None,
    }
}

pub(super) fn serial_record(mailbox: &MailboxId, serial: Serial, issued: &Issued) -> Record {
    Record { key: serial_key_of(mailbox, serial), bytes: cbor(issued) }
}

pub(super) fn serial_key_of(mailbox: &MailboxId, serial: Serial) -> RecordKey {
    let id = [mailbox.0.as_slice(), serial.0.to_be_bytes().as_slice()].concat();
    RecordKey { kind: RecordKind::Serial, id }
}

fn serial_key(id: &[u8]) -> Option<(MailboxId, Serial)> {
    let (mailbox, serial) = id.split_first_chunk::<32>()?;
    Some((MailboxId(*mailbox), Serial(u16::from_be_bytes(serial.try_into().ok()?))))
}

/// Whether a mailbox on disk is one for HELLOs.
pub(super) fn is_recovery(bytes: &[u8]) -> bool {
    mailbox(bytes).is_some_and(|own| own.recovery)
}

pub(super) fn session_key(id: &[u8]) -> Option<(LinkId, RowKey)> {
    let (link, row) = id.split_first_chunk::<16>()?;
    let row: &[u8; 13] = row.try_into().ok()?;
    let high = u64::from_be_bytes(row[1..9].try_into().ok()?);
    let low = u32::from_be_bytes(row[9..].try_into().ok()?);
    let short = u32::try_from(high);
    let key = match row[0] {
        0 => RowKey::Record,
        1 => RowKey::Flight(short.ok()?),
        2 => RowKey::Copy(short.ok()?, low),
        3 => RowKey::Fragment(short.ok()?, u8::try_from(low).ok()?),
        4 => RowKey::Held(high),
        _ => return None,
    };
    Some((LinkId(*link), key))
}

pub(super) fn cbor(value: &impl Serialize) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("writing CBOR to memory does not fail")
}

fn stored(what: &'static str) -> Error {
    Error::Stored { what, why: "it cannot be read".to_owned() }
}
