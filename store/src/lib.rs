//! redb behind typed tables: the one writer, snapshots, migrations, the integrity check.
//!
//! Reads take a [`Snapshot`]; writes are [`Job`]s that the one writer groups into commits. An answer of
//! [`Store::write`] means: on the disk.
//!
//! ```
//! use millpond_store::{Options, Store, job, tables};
//! let store = Store::in_memory(Options { inline: true, ..Options::default() })?;
//! let set = job(
//!     |view| match view.contains(tables::META, "colour")? {
//!         true => Err("already chosen".into()),
//!         false => Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()),
//!     },
//!     |(), txn| txn.put(tables::META, "colour", &b"green".to_vec()),
//! );
//! store.write_blocking(set).map_err(|e| e.to_string())?;
//! assert_eq!(store.snapshot()?.view().get(tables::META, "colour")?, Some(b"green".to_vec()));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub mod check;
mod database;
mod error;
mod export;
mod host;
mod job;
pub mod key;
mod memory;
mod migrate;
mod rewrite;
pub mod rows;
mod sizes;
mod store;
mod table;
pub mod tables;
#[doc(hidden)]
pub mod testing;
mod topic;
mod txn;
pub mod value;
mod writer;

pub use crate::{
    error::{Error, WriteError},
    export::RawRow,
    host::HostDatabase,
    job::{Job, job},
    rewrite::{discard_unfinished, rewrite},
    sizes::TableSize,
    store::{Options, Store},
    table::Table,
    topic::Topic,
    txn::{Position, Rows, Snapshot, View, WriteTxn},
    writer::{Commit, Observer},
};
