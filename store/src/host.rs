//! The database of a mailbox host: `HostStore` over redb, in a file of its own (`relay.redb`). One call of `write` is one
//! commit, however many requests share it; it is on the disk when the call returns.

use std::path::Path;

use millpond_mailbox::host::{HostRows, HostStore, HostStoreError};

use crate::{
    Error,
    database::{Database, Opener},
    memory::Memory,
    store::{open_error, open_file},
};

mod rows;
mod tables;

use rows::Rows;

/// An open database of a host.
pub struct HostDatabase {
    db: Database,
}

impl HostDatabase {
    /// Opens or creates the file, readable by its owner only.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it, [`Error::TooNew`], [`Error::Open`], storage errors.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let path = path.to_owned();
        Self::start(Box::new(move || open_file(&path, cache_bytes)))
    }

    /// A database on a storage of the caller's: for crash tests. Clones stand for the same storage.
    ///
    /// # Errors
    /// As [`HostDatabase::open`].
    pub fn open_backend(backend: impl redb::StorageBackend + Clone) -> Result<Self, Error> {
        Self::start(Box::new(move || {
            let opened = redb::Database::builder().create_with_backend(backend.clone());
            opened.map_err(|source| open_error(Path::new("(backend)"), source))
        }))
    }

    /// A database in memory: nothing outlives it.
    ///
    /// # Errors
    /// Storage errors.
    pub fn in_memory() -> Result<Self, Error> {
        Self::open_backend(Memory::default())
    }

    fn start(opener: Opener) -> Result<Self, Error> {
        let db = Database::open(opener)?;
        let host = Self { db };
        host.commit(&mut |rows| rows.check_layout())?;
        Ok(host)
    }

    /// Runs `work` in one transaction and commits if it wrote anything.
    fn commit(&self, work: &mut dyn FnMut(&mut Rows<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let done = self.attempt(work);
        if let Err(Error::Storage { .. } | Error::DiskFull) = &done {
            self.db.close();
        }
        done
    }

    fn attempt(&self, work: &mut dyn FnMut(&mut Rows<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(redb::Durability::Immediate).map_err(|e| Error::storage("starting to write", e))?;
        // Strangers choose what is written here: the commit does not trust a checksum alone.
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        let mut rows = Rows::open(&txn)?;
        work(&mut rows)?;
        let wrote = rows.wrote();
        drop(rows);
        if wrote {
            txn.commit().map_err(|e| Error::storage("committing", e))
        } else {
            txn.abort().map_err(|e| Error::storage("ending a read", e))
        }
    }
}

impl HostStore for HostDatabase {
    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn HostRows) -> Result<(), HostStoreError>,
    ) -> Result<(), HostStoreError> {
        let mut refused = None;
        let done = self.commit(&mut |rows| {
            work(rows).map_err(|error| {
                refused = Some(error);
                Error::Stopped
            })
        });
        match (done, refused) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => {
                // A read or write inside failed: redb refuses everything from now on, until the file is opened again.
                self.db.close();
                Err(error)
            }
            (Err(error), None) => Err(HostStoreError { doing: "committing", source: Box::new(error) }),
        }
    }
}
