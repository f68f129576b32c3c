//! Numbered migrations: layout N+1 is made from N in one commit, at start, before anything else reads.

use std::sync::Arc;

use crate::{
    Error, Snapshot, WriteError, WriteTxn,
    database::Database,
    job::{Queued, job},
    tables,
    writer::Writer,
};

mod second;
mod third;

/// Makes a layout of the one before it.
type Step = fn(&mut WriteTxn<'_>) -> Result<(), Error>;

/// How each layout is made of the one before it. The first is an empty database. A further one brings a test that opens a file
/// of the one before.
const STEPS: [Step; 3] = [|_| Ok(()), second::migrate, third::migrate];

/// The layout that this program writes.
pub(crate) const LAYOUT: u64 = STEPS.len() as u64;

pub(crate) fn run(db: &Arc<Database>, writer: &Writer) -> Result<(), Error> {
    let found = Snapshot::new(db)?.view().get(tables::META, "layout")?.map(decode).transpose()?.unwrap_or(0);
    if found > LAYOUT {
        return Err(Error::TooNew { found, known: LAYOUT });
    }
    let outdated = STEPS.iter().zip(1..).filter(|(_, to)| *to > found);
    for (migrate, to) in outdated {
        // A new database has nothing to migrate.
        step(writer, to, if found == 0 { |_| Ok(()) } else { *migrate })?;
    }
    Ok(())
}

/// Makes layout `to` of the one before it.
fn step(writer: &Writer, to: u64, migrate: Step) -> Result<(), Error> {
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let migration = job(
        |_| Ok::<_, std::convert::Infallible>(()),
        move |(), txn| {
            migrate(txn)?;
            txn.put(tables::META, "layout", &to.to_be_bytes().to_vec())
        },
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
