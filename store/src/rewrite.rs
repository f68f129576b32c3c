//! Writing the database anew. redb leaves what was removed in its free pages until something else is written there; a copy
//! of the rows into a new file holds what is there now and nothing else. The new file takes the place of the old one by a
//! rename, so a crash leaves one of the two, whole.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::{
    Error,
    store::{create_private, open_error},
    tables,
};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Copies every row into a new file and puts that in the place of the old one. Gives the sizes before and after. Blocks.
///
/// # Errors
/// [`Error::InUse`] while the database is open; storage errors, after which the old file is as it was.
pub fn rewrite(path: &Path) -> Result<(u64, u64), Error> {
    let failed = |doing| move |e: io::Error| Error::storage(doing, redb::Error::Io(e));
    let new = unfinished(path);
    discard_unfinished(path)?;
    let before = fs::metadata(path).map_err(failed("looking at the database"))?.len();
    let old = redb::Database::open(path).map_err(|source| open_error(path, source))?;
    copy(&old, &new).inspect_err(|_| drop(fs::remove_file(&new)))?;
    let file = File::open(&new).map_err(failed("opening the new database"))?;
    file.sync_all().map_err(failed("syncing the new database"))?;
    let after = file.metadata().map_err(failed("looking at the new database"))?.len();
    // The old file stays locked until the new one has its name: nobody writes into it in between.
    fs::rename(&new, path).map_err(failed("replacing the database"))?;
    if cfg!(unix)
        && let Some(folder) = path.parent()
    {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("syncing the data directory"))?;
    }
    drop(old);
    Ok((before, after))
}

/// Removes what a rewrite left that did not come to its end. Called before the database is opened.
///
/// # Errors
/// Storage errors.
pub fn discard_unfinished(path: &Path) -> Result<(), Error> {
    match fs::remove_file(unfinished(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::storage("removing an unfinished copy of the database", redb::Error::Io(e)))
        }
        _ => Ok(()),
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

fn copy(old: &redb::Database, to: &Path) -> Result<(), Error> {
    create_private(to).map_err(|e| Error::storage("making the new database", redb::Error::Io(e)))?;
    let new = redb::Database::builder().create(to).map_err(|source| open_error(to, source))?;
    let from = old.begin_read().map_err(|e| Error::storage("starting to read", e))?;
    for name in tables::NAMES {
        let definition: Definition = TableDefinition::new(name);
        let rows = match from.open_table(definition) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(e) => return Err(Error::storage("opening a table", e)),
        };
        copy_table(&rows, &new, definition)?;
    }
    Ok(())
}

fn copy_table(
    rows: &redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
    new: &redb::Database,
    definition: Definition,
) -> Result<(), Error> {
    let mut all = rows.iter().map_err(|e| Error::storage("reading rows", e))?;
    let mut done = false;
    while !done {
        let mut txn = new.begin_write().map_err(|e| Error::storage("starting to write", e))?;
        txn.set_quick_repair(true);
        {
            let mut table = txn.open_table(definition).map_err(|e| Error::storage("opening a table", e))?;
            let mut bytes = 0;
            // One commit per block bounds the memory.
            while bytes < BLOCK {
                let Some(row) = all.next() else {
                    done = true;
                    break;
                };
                let (key, value) = row.map_err(|e| Error::storage("reading rows", e))?;
                bytes += key.value().len() + value.value().len();
                table.insert(key.value(), value.value()).map_err(|e| Error::storage("writing a row", e))?;
            }
        }
        txn.commit().map_err(|e| Error::storage("committing", e))?;
    }
    let read = new.begin_read().map_err(|e| Error::storage("starting to read", e))?;
    let copied = read.open_table(definition).map_err(|e| Error::storage("opening a table", e))?;
    let len = |table: &redb::ReadOnlyTable<_, _>| table.len().map_err(|e| Error::storage("counting rows", e));
    let (expected, found) = (len(rows)?, len(&copied)?);
    if expected != found {
        let why = format!("the copy has {found} of {expected} rows");
        return Err(Error::Corrupt { table: definition_name(definition), why });
    }
    Ok(())
}

fn definition_name(definition: Definition) -> &'static str {
    use redb::TableHandle as _;
    tables::NAMES.into_iter().find(|name| *name == definition.name()).unwrap_or("?")
}

/// Bytes of rows in one commit.
const BLOCK: usize = 16 << 20;
