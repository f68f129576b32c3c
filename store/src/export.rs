//! All rows of a database as bytes, for backups: out of one snapshot, and into a new database.

use crate::{Error, Position, Snapshot, WriteTxn, job, store::Store, tables};

/// One row as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRow {
    /// The table's name.
    pub table: String,
    /// The encoded key.
    pub key: Vec<u8>,
    /// The encoded value.
    pub value: Vec<u8>,
}

/// Between the last position of a backup and the first one after it is restored: more than a node gives out between two
/// backups, so that nothing new stands at a position that peers or clients have seen.
const JUMP: u64 = 1 << 32;

impl Snapshot {
    /// Hands out every row, table by table.
    ///
    /// # Errors
    /// Storage errors, and what `take` fails with.
    pub fn export<E: From<Error>>(
        &self,
        mut take: impl FnMut(&'static str, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (index, name) in tables::NAMES.iter().enumerate() {
            let Some(rows) = self.raw_rows(index)? else { continue };
            for row in rows {
                let (key, value) = row.map_err(|e| Error::storage("reading rows", e))?;
                take(name, key.value(), value.value())?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Writes rows of an export into a new database. Once all are written, [`Store::jump`] ends it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a table that this version does not know; storage errors.
    pub fn import(&self, rows: Vec<RawRow>) -> Result<(), Error> {
        let mut indexed = Vec::with_capacity(rows.len());
        for row in rows {
            let index = tables::NAMES.iter().position(|name| *name == row.table);
            let why = || format!("the backup has a table {}: it was made by a later version", row.table);
            indexed.push((index.ok_or_else(|| Error::Corrupt { table: "META", why: why() })?, row));
        }
        let write = job(
            |_| Ok::<_, std::convert::Infallible>(()),
            move |(), txn: &mut WriteTxn<'_>| {
                indexed.iter().try_for_each(|(index, row)| txn.put_raw(*index, &row.key, &row.value))
            },
        );
        self.write_blocking(write).map_err(store_error)?;
        Ok(())
    }

    /// Leaves a wide gap in the positions.
    ///
    /// # Errors
    /// Storage errors.
    pub fn jump(&self) -> Result<Position, Error> {
        let write =
            job(|_| Ok::<_, std::convert::Infallible>(()), |(), txn: &mut WriteTxn<'_>| Ok(txn.leave_out(JUMP)));
        Ok(self.write_blocking(write).map_err(store_error)?.0)
    }
}

fn store_error(error: crate::WriteError<std::convert::Infallible>) -> Error {
    match error {
        crate::WriteError::Store(error) => error,
        crate::WriteError::Refused(never) => match never {},
    }
}
