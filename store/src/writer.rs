//! The one writer: takes jobs, runs many of them in one transaction, commits once, answers after the fsync.
//!
//! ```text
//!  jobs -> [run, run, run] -> COMMIT (fsync) -> observers, answers
//!              |                 | the commit failed: everybody is told, the database is opened again
//!              | a job failed while writing: abort, run each job of the group in a transaction of its own
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    Error, Position, WriteTxn,
    database::Database,
    job::{AnyJob, Stop},
    topic::Topic,
};

/// A job on its way to the writer.
pub(crate) type Boxed = Box<dyn AnyJob>;

/// What a commit tells those who wait.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The position of the commit.
    pub position: Position,
    /// What it touched.
    pub touched: Vec<Topic>,
}

/// Called on the writer's thread after each commit; must not block.
pub type Observer = Box<dyn Fn(&Commit) + Send + Sync>;

pub(crate) struct Writer {
    db: Arc<Database>,
    observer: Observer,
    quick_repair: bool,
}

/// Jobs of one commit at most: bounds the time that the first one waits for the last.
const GROUP_MAX: usize = 256;

impl Writer {
    pub(crate) fn new(db: Arc<Database>, observer: Observer, quick_repair: bool) -> Self {
        Self { db, observer, quick_repair }
    }

    /// The thread's loop; ends when all senders are gone.
    pub(crate) fn run(&self, mut jobs: mpsc::Receiver<Boxed>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(first) = jobs.blocking_recv() {
            group.push(first);
            while group.len() < GROUP_MAX
                && let Ok(next) = jobs.try_recv()
            {
                group.push(next);
            }
            self.commit_group(std::mem::take(&mut group));
        }
    }

    /// Runs a group in one commit; when a job fails while writing, each in its own.
    pub(crate) fn commit_group(&self, mut group: Vec<Boxed>) {
        let outcome = self.attempt(&mut group);
        if matches!(outcome, Err(Failed::Job(_))) && group.len() > 1 {
            group.into_iter().for_each(|job| self.commit_group(vec![job]));
            return;
        }
        let outcome = outcome.map_err(|(Failed::Job(error) | Failed::Commit(error))| error);
        for job in group {
            job.answer(outcome.as_ref().map(|p| *p).map_err(restate));
        }
    }

    fn attempt(&self, group: &mut [Boxed]) -> Result<Position, Failed> {
        let outcome = self.run_and_commit(group);
        if let Err(Failed::Job(error) | Failed::Commit(error)) = &outcome
            && matches!(error, Error::Storage { .. } | Error::DiskFull)
        {
            self.db.close();
        }
        outcome
    }

    fn run_and_commit(&self, group: &mut [Boxed]) -> Result<Position, Failed> {
        let mut txn = self.db.begin_write().map_err(Failed::Commit)?;
        txn.set_durability(redb::Durability::Immediate)
            .map_err(|e| Failed::Commit(Error::storage("starting to write", e)))?;
        // Peers choose much of what we write, so the single-fsync commit, which trusts a checksum, is not for us.
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(self.quick_repair);
        let Some((position, touched)) = run_group(&txn, group).map_err(Failed::Job)? else {
            // Only refusals: the position is that of the commit before.
            let position = Position::default();
            txn.abort().map_err(|e| Failed::Commit(Error::storage("aborting a write", e)))?;
            return Ok(position);
        };
        // From here on nobody knows what is on the disk if it fails, so nothing of the group is run again.
        txn.commit().map_err(|e| Failed::Commit(Error::storage("committing", e)))?;
        (self.observer)(&Commit { position, touched });
        Ok(position)
    }
}

/// Where a group failed.
enum Failed {
    /// In a job: nothing is on the disk, the others may run again.
    Job(Error),
    /// Around the jobs.
    Commit(Error),
}

/// Runs the jobs; none if all were refused. The transaction is aborted by who drops it.
fn run_group(txn: &redb::WriteTransaction, group: &mut [Boxed]) -> Result<Option<(Position, Vec<Topic>)>, Error> {
    let mut open = WriteTxn::new(txn)?;
    let mut wrote = false;
    for job in group.iter_mut() {
        match job.run(&mut open) {
            Ok(()) => wrote = true,
            Err(Stop::Clean) => {}
            Err(Stop::Dirty(error)) => return Err(error),
        }
    }
    if wrote { open.finish().map(Some) } else { Ok(None) }
}

/// One storage failure answers several callers, and redb's errors cannot be cloned.
fn restate(error: &Error) -> Error {
    match error {
        Error::DiskFull => Error::DiskFull,
        Error::Panicked(why) => Error::Panicked(why.clone()),
        Error::Corrupt { table, why } => Error::Corrupt { table, why: why.clone() },
        other => Error::Storage {
            doing: "writing",
            source: Box::new(redb::Error::Io(std::io::Error::other(other.to_string()))),
        },
    }
}
