//! What can go wrong below the store. A storage error is never an answer about the data: callers pass it on.

/// A failure of the database itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database file could not be opened.
    #[error("opening the database {path}: {source}")]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// What redb said.
        source: Box<redb::DatabaseError>,
    },
    /// Another process holds the database.
    #[error("the database {path} is in use by another process; stop it or use its API")]
    InUse {
        /// The file.
        path: std::path::PathBuf,
    },
    /// The database was written by a later version of Millpond.
    #[error("the database has layout {found}, this program knows up to {known}; use a newer Millpond")]
    TooNew {
        /// The layout number in the file.
        found: u64,
        /// The newest one we know.
        known: u64,
    },
    /// A read or write failed.
    #[error("{doing} failed: {source}")]
    Storage {
        /// What we were doing.
        doing: &'static str,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// A row does not decode: the file is damaged, or a bug wrote it.
    #[error("a row of table `{table}` is corrupt: {why}")]
    Corrupt {
        /// The table's name.
        table: &'static str,
        /// What did not decode.
        why: String,
    },
    /// The disk is full: nothing of this commit was kept.
    #[error("no space left on the disk that holds the database; free some and try again")]
    DiskFull,
    /// The writer has stopped.
    #[error("the store is shutting down")]
    Stopped,
    /// The job panicked; nothing of it was written.
    #[error("a write job panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// Wraps an error of redb, telling a full disk from the rest.
    pub(crate) fn storage(doing: &'static str, source: impl Into<redb::Error>) -> Self {
        let source = source.into();
        match source {
            redb::Error::Io(io) if is_full(&io) => Self::DiskFull,
            source => Self::Storage { doing, source: Box::new(source) },
        }
    }
}

/// Whether an I/O error says that there is no room.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Why a job was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The job's own `decide` said no; nothing was written.
    #[error("{0}")]
    Refused(E),
    /// The storage failed; nothing was written.
    #[error(transparent)]
    Store(#[from] Error),
}
