//! What takes the room on the disk: the size of each table.

use redb::ReadableTableMetadata as _;

use crate::{Error, Snapshot, tables};

/// The size of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its keys and values.
    pub stored: u64,
    /// Bytes of the pages that hold them.
    pub on_disk: u64,
}

impl Snapshot {
    /// The tables that hold something, the largest first. Reads every page's head.
    ///
    /// # Errors
    /// Storage errors.
    pub fn sizes(&self) -> Result<Vec<TableSize>, Error> {
        let mut sizes = Vec::new();
        for (index, name) in tables::NAMES.into_iter().enumerate() {
            let Some(table) = self.table(index)? else { continue };
            let failed = |e| Error::storage("measuring a table", e);
            let (rows, stats) = (table.len().map_err(failed)?, table.stats().map_err(failed)?);
            let on_disk = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
            sizes.push(TableSize { name, rows, stored: stats.stored_bytes(), on_disk });
        }
        sizes.retain(|size| size.rows > 0);
        sizes.sort_by_key(|size| std::cmp::Reverse(size.on_disk));
        Ok(sizes)
    }
}
