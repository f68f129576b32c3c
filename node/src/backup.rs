//! Server-side key backups: their versions. The sessions in them: [`keys`]. Spec: client-server "Server-side key backups".

mod keys;

use http::StatusCode;
use millpond_store::{Error as StoreError, View, WriteTxn, job, rows, tables};
use ruma::{
    OwnedUserId, UserId,
    api::{
        client::backup::BackupAlgorithm,
        error::{ErrorKind, WrongRoomKeysVersionErrorData},
    },
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::keys::{Count, Scope, Sessions};
use crate::{Core, Error};

/// The key backups of local users. Cloning is cheap.
#[derive(Clone)]
pub struct Backups {
    core: Core,
}

/// A version of a backup, as clients see it.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its number.
    pub version: String,
    /// Algorithm and what it needs.
    pub algorithm: Raw<BackupAlgorithm>,
    /// How many sessions it holds.
    pub count: u64,
    /// Changes when a session changes.
    pub etag: String,
}

impl Backups {
    /// The backups in `core`'s store.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Makes a new version, which is the current one from then on; answers its number.
    /// Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_BAD_JSON`, storage errors.
    pub async fn create(&self, user: &UserId, algorithm: &Raw<BackupAlgorithm>) -> Result<String, Error> {
        let Info { algorithm, auth_data, .. } = Info::parse(algorithm)?;
        let row = rows::Backup { algorithm, auth_data: auth_data.get().to_owned(), etag: 0, count: 0, deleted: false };
        let user = user.to_owned();
        let owner = user.clone();
        let decide = move |view: View<'_>| -> Result<u64, Error> {
            let last = view.scan(tables::BACKUPS, (&owner,))?.next_back().transpose()?;
            Ok(last.map_or(1, |((_, version), _)| version + 1))
        };
        let write = move |version: u64, txn: &mut WriteTxn<'_>| {
            txn.put(tables::BACKUPS, (&user, version), &row)?;
            Ok(version)
        };
        Ok(self.core.write(job(decide, write)).await?.0.to_string())
    }

    /// A version, or (none) the current one.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, storage errors.
    pub fn version(&self, user: &UserId, version: Option<&str>) -> Result<Version, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (number, row) = match version {
            Some(version) => find(view, user, version)?,
            None => current(view, user)?.ok_or_else(no_backup)?,
        };
        let algorithm = Written { algorithm: &row.algorithm, auth_data: raw(&row.auth_data)? };
        let algorithm = serde_json::to_string(&algorithm).map_err(|e| corrupt(e.to_string()))?;
        let algorithm = Raw::from_json_string(algorithm).map_err(|e| corrupt(e.to_string()))?;
        Ok(Version { version: number.to_string(), algorithm, count: row.count, etag: row.etag.to_string() })
    }

    /// Replaces a version's `auth_data`. Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_INVALID_PARAM` when algorithm or version are other ones, storage errors.
    pub async fn update(&self, user: &UserId, version: &str, algorithm: &Raw<BackupAlgorithm>) -> Result<(), Error> {
        let info = Info::parse(algorithm)?;
        if info.version.is_some_and(|body| body != version) {
            return Err(Error::invalid_param(format!("version in the body is not {version}")));
        }
        let (user, version) = (user.to_owned(), version.to_owned());
        let owner = user.clone();
        let decide = move |view: View<'_>| {
            let (number, row) = find(view, &owner, &version)?;
            if row.algorithm != info.algorithm {
                return Err(Error::invalid_param(format!("the algorithm of a backup stays {}", row.algorithm)));
            }
            Ok((number, rows::Backup { auth_data: info.auth_data.get().to_owned(), ..row }))
        };
        let write = move |(number, row): (u64, rows::Backup), txn: &mut WriteTxn<'_>| {
            txn.put(tables::BACKUPS, (&user, number), &row)
        };
        self.core.write(job(decide, write)).await?;
        Ok(())
    }

    /// Deletes a version with its sessions; deleting it again changes nothing.
    /// Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there never was such a version, storage errors.
    pub async fn delete(&self, user: &UserId, version: &str) -> Result<(), Error> {
        let (user, version) = (user.to_owned(), version.to_owned());
        let owner = user.clone();
        let decide = move |view: View<'_>| {
            let number = number(&version).ok_or_else(no_backup)?;
            let row = view.get(tables::BACKUPS, (&owner, number))?.ok_or_else(no_backup)?;
            let auth_data = "{}".to_owned();
            Ok::<_, Error>((number, rows::Backup { deleted: true, count: 0, auth_data, ..row }))
        };
        let write = move |(number, row): (u64, rows::Backup), txn: &mut WriteTxn<'_>| {
            txn.remove_all(tables::BACKUP_KEYS, (&user, number))?;
            txn.put(tables::BACKUPS, (&user, number), &row)
        };
        self.core.write(job(decide, write)).await?;
        Ok(())
    }
}

/// The newest version that is not deleted.
fn current(view: View<'_>, user: &UserId) -> Result<Option<(u64, rows::Backup)>, StoreError> {
    for row in view.scan(tables::BACKUPS, (user,))?.rev() {
        let ((_, version), row) = row?;
        if !row.deleted {
            return Ok(Some((version, row)));
        }
    }
    Ok(None)
}

fn find(view: View<'_>, user: &UserId, version: &str) -> Result<(u64, rows::Backup), Error> {
    let number = number(version).ok_or_else(no_backup)?;
    let row = view.get(tables::BACKUPS, (user, number))?.filter(|row| !row.deleted).ok_or_else(no_backup)?;
    Ok((number, row))
}

/// The current version, which must be the one that is written to.
fn find_current(view: View<'_>, user: &UserId, version: &str) -> Result<(u64, rows::Backup), Error> {
    let (number, row) = current(view, user)?.ok_or_else(no_backup)?;
    if number.to_string() != version {
        let kind = ErrorKind::WrongRoomKeysVersion(WrongRoomKeysVersionErrorData::new(number.to_string()));
        return Err(Error::matrix(StatusCode::FORBIDDEN, kind, format!("the current backup is version {number}")));
    }
    Ok((number, row))
}

/// A version as we write it: no sign, no leading zero.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version)
}

fn no_backup() -> Error {
    Error::not_found("there is no such key backup")
}

fn corrupt(why: String) -> StoreError {
    StoreError::Corrupt { table: "BACKUPS", why }
}

fn raw(json: &str) -> Result<&RawValue, StoreError> {
    serde_json::from_str(json).map_err(|e| corrupt(e.to_string()))
}

#[derive(Deserialize)]
struct Info {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

impl Info {
    fn parse(body: &Raw<BackupAlgorithm>) -> Result<Self, Error> {
        let info: Self = serde_json::from_str(body.json().get()).map_err(|e| Error::bad_json(e.to_string()))?;
        if !info.auth_data.get().starts_with('{') {
            return Err(Error::bad_json("auth_data must be an object"));
        }
        Ok(info)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    algorithm: &'a str,
    auth_data: &'a RawValue,
}

/// The owner of a backup, as jobs keep it.
type Owner = OwnedUserId;
