//! The sessions in a key backup.

use std::collections::BTreeMap;

use millpond_store::{Error as StoreError, View, WriteTxn, job, rows, tables};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    api::client::backup::{KeyBackupData, RoomKeyBackup},
    serde::Raw,
};
use serde::Deserialize;

use super::{Backups, Owner, find, find_current};
use crate::Error;

/// Sessions by room.
pub type Sessions = BTreeMap<OwnedRoomId, RoomKeyBackup>;

/// Which sessions are meant.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All.
    All,
    /// Those of a room.
    Room(OwnedRoomId),
    /// One.
    Session(OwnedRoomId, String),
}

/// What a client is told after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many sessions the backup holds.
    pub count: u64,
    /// Changes when a session changes.
    pub etag: String,
}

impl Backups {
    /// Adds sessions to the current version; one that is there already is replaced by a better one only.
    /// Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_WRONG_ROOM_KEYS_VERSION` when `version` is not the current one, `M_NOT_FOUND` when there is none,
    /// `M_BAD_JSON`, `M_TOO_LARGE`, storage errors.
    pub async fn put_keys(&self, user: &UserId, version: &str, sessions: Sessions) -> Result<Count, Error> {
        let sessions = flatten(sessions)?;
        let (user, version) = (user.to_owned(), version.to_owned());
        let owner = user.clone();
        let decide = move |view: View<'_>| -> Result<Plan, Error> {
            let (number, row) = find_current(view, &owner, &version)?;
            let mut plan = Plan { number, row, put: Vec::new(), added: 0 };
            for session in &sessions {
                let stored = view.get(tables::BACKUP_KEYS, session.key(&owner, number))?;
                if stored.as_deref().is_none_or(|stored| session.replaces(stored)) {
                    plan.added += u64::from(stored.is_none());
                    plan.put.push(session.clone());
                }
            }
            Ok(plan)
        };
        let write = move |plan: Plan, txn: &mut WriteTxn<'_>| plan.write(txn, &user);
        Ok(self.core.write(job(decide, write)).await?.0)
    }

    /// The sessions of a version, also of one that is not current.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version, or no such session when one is asked for; storage errors.
    pub fn keys(&self, user: &UserId, version: &str, scope: &Scope) -> Result<Sessions, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (number, _) = find(view, user, version)?;
        let mut sessions = Sessions::new();
        for (room, session, json) in stored(view, user, number, scope)? {
            let data = Raw::from_json_string(json).map_err(|e| super::corrupt(e.to_string()))?;
            let room = sessions.entry(room).or_insert_with(|| RoomKeyBackup::new(BTreeMap::new()));
            room.sessions.insert(session, data);
        }
        if sessions.is_empty() && matches!(scope, Scope::Session(..)) {
            return Err(Error::not_found("this session is not in the backup"));
        }
        Ok(sessions)
    }

    /// Deletes sessions of a version. Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version; storage errors.
    pub async fn delete_keys(&self, user: &UserId, version: &str, scope: Scope) -> Result<Count, Error> {
        let (user, version) = (user.to_owned(), version.to_owned());
        let owner = user.clone();
        let decide = move |view: View<'_>| -> Result<_, Error> {
            let (number, row) = find(view, &owner, &version)?;
            Ok((number, row, stored(view, &owner, number, &scope)?))
        };
        let write = move |(number, mut row, gone): (u64, rows::Backup, Vec<Stored>), txn: &mut WriteTxn<'_>| {
            for (room, session, _) in &gone {
                txn.remove(tables::BACKUP_KEYS, (&user, number, room, session))?;
            }
            row.count = row.count.saturating_sub(gone.len() as u64);
            row.etag += u64::from(!gone.is_empty());
            txn.put(tables::BACKUPS, (&user, number), &row)?;
            Ok(count(&row))
        };
        Ok(self.core.write(job(decide, write)).await?.0)
    }
}

type Stored = (OwnedRoomId, String, String);

fn stored(view: View<'_>, user: &UserId, number: u64, scope: &Scope) -> Result<Vec<Stored>, StoreError> {
    let rows = match scope {
        Scope::All => view.scan(tables::BACKUP_KEYS, (user, number))?,
        Scope::Room(room) => view.scan(tables::BACKUP_KEYS, (user, number, room))?,
        Scope::Session(room, session) => {
            let json = view.get(tables::BACKUP_KEYS, (user, number, room, session))?;
            return Ok(json.map(|json| (room.clone(), session.clone(), json)).into_iter().collect());
        }
    };
    rows.map(|row| row.map(|((_, _, room, session), json)| (room, session, json))).collect()
}

struct Plan {
    number: u64,
    row: rows::Backup,
    put: Vec<Session>,
    added: u64,
}

impl Plan {
    fn write(mut self, txn: &mut WriteTxn<'_>, user: &Owner) -> Result<Count, StoreError> {
        for session in &self.put {
            txn.put(tables::BACKUP_KEYS, session.key(user, self.number), &session.json)?;
        }
        if !self.put.is_empty() {
            self.row.count += self.added;
            self.row.etag += 1;
            txn.put(tables::BACKUPS, (user, self.number), &self.row)?;
        }
        Ok(count(&self.row))
    }
}

#[derive(Clone)]
struct Session {
    room: OwnedRoomId,
    id: String,
    json: String,
    rank: Rank,
}

impl Session {
    fn parse(room: &RoomId, id: String, data: &Raw<KeyBackupData>) -> Result<Self, Error> {
        let json = data.json().get();
        if json.len() > MAX_SESSION_BYTES || id.len() > MAX_ID_BYTES {
            return Err(Error::too_large(format!("a session may have {MAX_SESSION_BYTES} bytes at most")));
        }
        let rank = Rank::parse(json).map_err(|e| Error::bad_json(format!("session {id}: {e}")))?;
        Ok(Self { room: room.to_owned(), id, json: json.to_owned(), rank })
    }

    fn key<'a>(&'a self, user: &'a Owner, number: u64) -> (&'a Owner, u64, &'a OwnedRoomId, &'a String) {
        (user, number, &self.room, &self.id)
    }

    fn replaces(&self, stored: &str) -> bool {
        Rank::parse(stored).is_ok_and(|stored| self.rank.is_better_than(&stored))
    }
}

/// What decides between two copies of a session.
#[derive(Clone, Copy, Deserialize)]
struct Rank {
    first_message_index: ruma::UInt,
    forwarded_count: ruma::UInt,
    is_verified: bool,
}

impl Rank {
    fn parse(json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(flatten)]
            rank: Rank,
            #[serde(rename = "session_data")]
            _session_data: serde_json::Map<String, serde_json::Value>,
        }
        serde_json::from_str(json).map(|whole: Whole| whole.rank)
    }

    /// Verified first, then the earlier first message, then the shorter way that it came.
    fn is_better_than(&self, stored: &Self) -> bool {
        if self.is_verified != stored.is_verified {
            return self.is_verified;
        }
        let order = |rank: &Self| (rank.first_message_index, rank.forwarded_count);
        order(self) < order(stored)
    }
}

fn flatten(sessions: Sessions) -> Result<Vec<Session>, Error> {
    let mut flat = Vec::new();
    for (room, backup) in sessions {
        for (id, data) in backup.sessions {
            flat.push(Session::parse(&room, id, &data)?);
        }
    }
    Ok(flat)
}

fn count(row: &rows::Backup) -> Count {
    Count { count: row.count, etag: row.etag.to_string() }
}

/// A Megolm session with its envelope is under 2 KiB.
const MAX_SESSION_BYTES: usize = 64 * 1024;
/// Session ids are 43 characters.
const MAX_ID_BYTES: usize = 255;
