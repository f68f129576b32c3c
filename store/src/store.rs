//! Opening the database and handing out reads and writes.

use std::{path::Path, sync::Arc, thread::JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Error, Position, Snapshot, WriteError,
    database::{Database, Opener},
    error::is_full,
    job::{Job, Queued},
    memory::Memory,
    migrate,
    writer::{Boxed, Observer, Writer},
};

/// How to open a store.
pub struct Options {
    /// Bytes that redb may use to cache pages.
    pub cache_bytes: usize,
    /// Called after each commit.
    pub observer: Observer,
    /// Open at once after a crash, where else the file is walked first: each commit then writes
    /// which pages are in use, a quarter of its work. For devices that end programs without asking.
    pub quick_repair: bool,
    /// Run jobs on the caller's thread instead of the writer's: for tests, simulation and commands without a node.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, observer: Box::new(|_| {}), quick_repair: false, inline: false }
    }
}

/// The database. Cloning gives another handle; the last one to go stops the writer after what is queued.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    db: Arc<Database>,
    way: Way,
}

enum Way {
    Thread { jobs: Option<mpsc::Sender<Boxed>>, thread: Option<JoinHandle<()>> },
    Inline(std::sync::Mutex<Writer>),
}

/// Jobs that may wait for the writer; beyond, `write` waits for room.
const QUEUE: usize = 1024;

impl Store {
    /// Opens or creates the database file, readable by its owner only, and brings it to the newest layout.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it, [`Error::TooNew`], [`Error::Open`], storage errors.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let (path, cache_bytes) = (path.to_owned(), options.cache_bytes);
        Self::start(Box::new(move || open_file(&path, cache_bytes)), options)
    }

    /// Opens a database on a storage of the caller's: for crash tests and simulation. Clones stand for the same storage;
    /// after a failure the database is opened again on another one.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_backend(backend: impl redb::StorageBackend + Clone, options: Options) -> Result<Self, Error> {
        let cache_bytes = options.cache_bytes;
        let open = move || {
            let opened = redb::Database::builder().set_cache_size(cache_bytes).create_with_backend(backend.clone());
            opened.map_err(|source| open_error(Path::new("(backend)"), source))
        };
        Self::start(Box::new(open), options)
    }

    /// A database in memory: nothing outlives it.
    ///
    /// # Errors
    /// Storage errors.
    pub fn in_memory(options: Options) -> Result<Self, Error> {
        Self::open_backend(Memory::default(), options)
    }

    fn start(opener: Opener, options: Options) -> Result<Self, Error> {
        let db = Arc::new(Database::open(opener)?);
        let writer = Writer::new(db.clone(), options.observer, options.quick_repair);
        migrate::run(&db, &writer)?;
        let way = if options.inline {
            Way::Inline(std::sync::Mutex::new(writer))
        } else {
            let (jobs, queue) = mpsc::channel(QUEUE);
            let thread = std::thread::Builder::new()
                .name("millpond-writer".to_owned())
                .spawn(move || writer.run(queue))
                .map_err(|e| Error::storage("starting the writer thread", redb::Error::Io(e)))?;
            Way::Thread { jobs: Some(jobs), thread: Some(thread) }
        };
        Ok(Self { shared: Arc::new(Shared { db, way }) })
    }

    /// Runs a job and answers when it is durable. Dropping the future does not take the job back.
    ///
    /// # Errors
    /// The job's refusal, or why it could not be made durable.
    pub async fn write<J: Job>(&self, job: J) -> Result<(J::Out, Position), WriteError<J::Err>> {
        let (reply, answer) = oneshot::channel();
        let queued: Boxed = Box::new(Queued::new(job, reply));
        match &self.shared.way {
            Way::Thread { jobs, .. } => {
                let jobs = jobs.as_ref().ok_or(Error::Stopped)?;
                jobs.send(queued).await.map_err(|_| Error::Stopped)?;
            }
            Way::Inline(writer) => commit_inline(writer, queued),
        }
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// As [`Store::write`], blocking the thread. Not for async code.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<J: Job>(&self, job: J) -> Result<(J::Out, Position), WriteError<J::Err>> {
        let (reply, answer) = oneshot::channel();
        let queued: Boxed = Box::new(Queued::new(job, reply));
        match &self.shared.way {
            Way::Thread { jobs, .. } => {
                let jobs = jobs.as_ref().ok_or(Error::Stopped)?;
                jobs.blocking_send(queued).map_err(|_| Error::Stopped)?;
            }
            Way::Inline(writer) => commit_inline(writer, queued),
        }
        answer.blocking_recv().map_err(|_| Error::Stopped)?
    }

    /// The newest committed state.
    ///
    /// # Errors
    /// Storage errors.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::new(&self.shared.db)
    }
}

fn commit_inline(writer: &std::sync::Mutex<Writer>, queued: Boxed) {
    // A panic inside a job is caught by the writer, so a poisoned lock guards nothing half-done.
    writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).commit_group(vec![queued]);
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Way::Thread { jobs, thread } = &mut self.way {
            jobs.take();
            if let Some(thread) = thread.take()
                && thread.thread().id() != std::thread::current().id()
            {
                let _ = thread.join();
            }
        }
    }
}

pub(crate) fn open_file(path: &Path, cache_bytes: usize) -> Result<redb::Database, Error> {
    create_private(path)
        .map_err(redb::DatabaseError::from)
        .and_then(|()| redb::Database::builder().set_cache_size(cache_bytes).create(path))
        .map_err(|source| open_error(path, source))
}

pub(crate) fn open_error(path: &Path, source: redb::DatabaseError) -> Error {
    match source {
        redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: path.to_owned() },
        redb::DatabaseError::Storage(redb::StorageError::Io(io)) if is_full(&io) => Error::DiskFull,
        source => Error::Open { path: path.to_owned(), source: Box::new(source) },
    }
}

pub(crate) fn create_private(path: &Path) -> std::io::Result<()> {
    let mut open = std::fs::OpenOptions::new();
    open.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(path).map(drop)
}
