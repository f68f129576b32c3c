//! The one writer: takes jobs, runs many of them in one transaction, commits once, answers after the fsync.
//!
//! ```text
//!  jobs -> [run, run, run] -> COMMIT (fsync) -> observers, answers
//!              | a job failed while writing: abort, run each job of the group in a transaction of its own
//! ```

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    Error, Position, WriteTxn,
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
    db: Arc<redb::Database>,
    observer: Observer,
}

/// Jobs of one commit at most: bounds the time that the first one waits for the last.
const GROUP_MAX: usize = 256;

impl Writer {
    pub(crate) fn new(db: Arc<redb::Database>, observer: Observer) -> Self {
        Self { db, observer }
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
        match self.attempt(&mut group) {
            Ok(position) => group.into_iter().for_each(|job| job.answer(Ok(position))),
            Err(error) if group.len() == 1 => group.into_iter().for_each(|job| job.answer(Err(restate(&error)))),
            Err(_) => {
                for job in group {
                    let mut alone = vec![job];
                    let outcome = self.attempt(&mut alone);
                    for job in alone {
                        job.answer(outcome.as_ref().map(|p| *p).map_err(restate));
                    }
                }
            }
        }
    }

    fn attempt(&self, group: &mut [Boxed]) -> Result<Position, Error> {
        let mut txn = self.db.begin_write().map_err(|e| Error::storage("starting to write", e))?;
        txn.set_durability(redb::Durability::Immediate).map_err(|e| Error::storage("starting to write", e))?;
        // Peers choose much of what we write, so the single-fsync commit, which trusts a checksum, is not for us.
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        let mut open = WriteTxn::new(&txn)?;
        let mut wrote = false;
        for job in group.iter_mut() {
            match job.run(&mut open) {
                Ok(()) => wrote = true,
                Err(Stop::Clean) => {}
                Err(Stop::Dirty(error)) => {
                    drop(open);
                    txn.abort().map_err(|e| Error::storage("aborting a write", e))?;
                    return Err(error);
                }
            }
        }
        let (position, touched) = open.finish()?;
        if wrote {
            txn.commit().map_err(|e| Error::storage("committing", e))?;
            (self.observer)(&Commit { position, touched });
        } else {
            txn.abort().map_err(|e| Error::storage("aborting a write", e))?;
        }
        Ok(position)
    }
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
