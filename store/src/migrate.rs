//! Numbered migrations: layout N+1 is made from N in one commit, at start, before anything else reads.

use std::sync::Arc;

use crate::{
    Error, Snapshot, WriteError,
    database::Database,
    job::{Queued, job},
    tables,
    writer::Writer,
};

/// The layout that this program writes. Raise it with a migration in [`step`] and a test that opens the old file.
pub(crate) const LAYOUT: u64 = 1;

pub(crate) fn run(db: &Arc<Database>, writer: &Writer) -> Result<(), Error> {
    let found = Snapshot::new(db)?.view().get(tables::META, "layout")?.map(decode).transpose()?.unwrap_or(0);
    if found > LAYOUT {
        return Err(Error::TooNew { found, known: LAYOUT });
    }
    for layout in found..LAYOUT {
        step(writer, layout + 1)?;
    }
    Ok(())
}

/// Makes layout `to` of the one before it. Layout 1 is an empty database.
fn step(writer: &Writer, to: u64) -> Result<(), Error> {
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let migration = job(
        |_| Ok::<_, std::convert::Infallible>(()),
        move |(), txn| txn.put(tables::META, "layout", &to.to_be_bytes().to_vec()),
    );
    writer.commit_group(vec![Box::new(Queued::new(migration, reply))]);
    match answer.try_recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(WriteError::Store(error))) => Err(error),
        Ok(Err(WriteError::Refused(never))) => match never {},
        Err(_) => Err(Error::Stopped),
    }
}

fn decode(bytes: Vec<u8>) -> Result<u64, Error> {
    let bytes =
        bytes.try_into().map_err(|_| Error::Corrupt { table: "META", why: "layout is not a number".to_owned() })?;
    Ok(u64::from_be_bytes(bytes))
}
