//! The open database, and how to open it again. After one failed write or sync redb refuses everything, because nobody
//! knows any more what is on the disk; opening anew goes back to the last commit. So a full disk costs the writes that met
//! it, and not the node.

use std::sync::{PoisonError, RwLock};

use redb::ReadableDatabase;

use crate::Error;

/// Opens the storage; called again after a failure.
pub(crate) type Opener = Box<dyn Fn() -> Result<redb::Database, Error> + Send + Sync>;

pub(crate) struct Database {
    opener: Opener,
    /// None after a failure, until somebody needs it again.
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    pub(crate) fn open(opener: Opener) -> Result<Self, Error> {
        let open = RwLock::new(Some(opener()?));
        Ok(Self { opener, open })
    }

    pub(crate) fn begin_read(&self) -> Result<redb::ReadTransaction, Error> {
        self.with(|db| db.begin_read().map_err(|e| Error::storage("starting to read", e)))
    }

    pub(crate) fn begin_write(&self) -> Result<redb::WriteTransaction, Error> {
        match self.with(begin_write) {
            // A read that failed has shut the database as well, and only its caller was told.
            Err(Error::Storage { .. }) => {
                self.close();
                self.with(begin_write)
            }
            other => other,
        }
    }

    /// Closes the database after a failure. Snapshots that are still held answer with errors from now on; the file's lock
    /// is free, so that it can be opened again. No write transaction may be open.
    pub(crate) fn close(&self) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with<T>(&self, use_it: impl FnOnce(&redb::Database) -> Result<T, Error>) -> Result<T, Error> {
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(db) = &*open {
                return use_it(db);
            }
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some((self.opener)()?);
            tracing::warn!("the database was opened again after a failure of its storage");
        }
        use_it(open.as_ref().expect("opened in the lines above"))
    }
}

fn begin_write(db: &redb::Database) -> Result<redb::WriteTransaction, Error> {
    db.begin_write().map_err(|e| Error::storage("starting to write", e))
}
