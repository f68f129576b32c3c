//! Rows as bytes, for migrations: the rows of an earlier layout have types that are gone.

use std::ops::Bound;

use redb::ReadableTable;

use super::{Bytes, WriteTxn, as_bound};
use crate::{Error, table::Table};

type Row = (Vec<u8>, Vec<u8>);

impl WriteTxn<'_> {
    /// At most `limit` rows after a key.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn raw_rows<K, V>(
        &self,
        table: Table<K, V>,
        after: &Bound<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        rows(self.table(table.index)?, after, limit)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn raw_put<K, V>(&mut self, table: Table<K, V>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let put = self.table_mut(table.index)?.insert(key, value);
        put.map(drop).map_err(|e| Error::storage("writing a row", e))
    }

    /// Removes a row.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn raw_remove<K, V>(&mut self, table: Table<K, V>, key: &[u8]) -> Result<(), Error> {
        let removed = self.table_mut(table.index)?.remove(key);
        removed.map(drop).map_err(|e| Error::storage("removing a row", e))
    }

    /// At most `limit` rows after a key of a table that is in the list of tables no more.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn dropped_rows(&self, name: &str, after: &Bound<Vec<u8>>, limit: usize) -> Result<Vec<Row>, Error> {
        let table = self.txn.open_table(redb::TableDefinition::<Bytes, Bytes>::new(name));
        rows(&table.map_err(|e| Error::storage("opening a table", e))?, after, limit)
    }

    /// Takes such a table away.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn drop_table(&mut self, name: &str) -> Result<(), Error> {
        let deleted = self.txn.delete_table(redb::TableDefinition::<Bytes, Bytes>::new(name));
        deleted.map(drop).map_err(|e| Error::storage("dropping a table", e))
    }
}

fn rows(table: &impl ReadableTable<Bytes, Bytes>, after: &Bound<Vec<u8>>, limit: usize) -> Result<Vec<Row>, Error> {
    let failed = |e| Error::storage("reading rows", e);
    let range = table.range::<&[u8]>((as_bound(after), Bound::Unbounded)).map_err(failed)?;
    let owned = |row: Result<(redb::AccessGuard<'_, Bytes>, redb::AccessGuard<'_, Bytes>), _>| {
        row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(failed)
    };
    range.take(limit).map(owned).collect()
}
