//! Reading and writing rows: a [`Snapshot`] reads one committed state, a [`WriteTxn`] is the open group of the writer,
//! and a [`View`] is either of them, so that a decision is the same code on the writer thread and off it.

use std::{cell::OnceCell, ops::Bound};

use redb::{ReadableTable, TableDefinition};

use crate::{
    Error,
    database::Database,
    key::{AsKey, AsPrefix, Key},
    table::Table,
    tables,
    topic::Topic,
    value::Value,
};

mod raw;

type Bytes = &'static [u8];
type Opened<'t> = redb::Table<'t, Bytes, Bytes>;
pub(crate) type ReadOnly = redb::ReadOnlyTable<Bytes, Bytes>;

/// A point in the order of our commits. What a commit made visible has a position not above the commit's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// This position as the key of a live timeline row; backfilled rows count downward from zero.
    pub fn as_timeline(self) -> i64 {
        i64::try_from(self.0).expect("a node never commits 2^63 rows")
    }
}

/// One committed state of the database. Cheap; hold it for one answer, not longer: it keeps old pages alive.
pub struct Snapshot {
    txn: redb::ReadTransaction,
    open: [OnceCell<Option<ReadOnly>>; tables::COUNT],
}

impl Snapshot {
    pub(crate) fn new(db: &Database) -> Result<Self, Error> {
        let txn = db.begin_read()?;
        Ok(Self { txn, open: [const { OnceCell::new() }; tables::COUNT] })
    }

    /// This snapshot as a view.
    pub fn view(&self) -> View<'_> {
        View(self)
    }

    /// Every row of a table, undecoded.
    pub(crate) fn raw_rows(&self, index: usize) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, Error> {
        self.read_range(index, (Bound::Unbounded, Bound::Unbounded))
    }

    pub(crate) fn table(&self, index: usize) -> Result<Option<&ReadOnly>, Error> {
        if let Some(open) = self.open[index].get() {
            return Ok(open.as_ref());
        }
        let table = match self.txn.open_table(definition(index)) {
            Ok(table) => Some(table),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(Error::storage("opening a table", e)),
        };
        Ok(self.open[index].get_or_init(|| table).as_ref())
    }
}

fn definition(index: usize) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(tables::NAMES[index])
}

/// The writer's open group. Rows written here are seen by the jobs after it in the same group.
pub struct WriteTxn<'t> {
    txn: &'t redb::WriteTransaction,
    open: [OnceCell<Opened<'t>>; tables::COUNT],
    position: Position,
    touched: Vec<Topic>,
}

impl<'t> WriteTxn<'t> {
    pub(crate) fn new(txn: &'t redb::WriteTransaction) -> Result<Self, Error> {
        let open = [const { OnceCell::new() }; tables::COUNT];
        let mut this = Self { txn, open, position: Position(0), touched: Vec::new() };
        this.position = this.view().position()?;
        Ok(this)
    }

    /// This transaction as a view.
    pub fn view(&self) -> View<'_> {
        View(self)
    }

    /// The next position: every row that is read in commit order takes one.
    pub fn next_position(&mut self) -> Position {
        self.position.0 += 1;
        self.position
    }

    /// The highest position given out so far.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Says that whoever waits for this topic should look again after the commit.
    pub fn touch(&mut self, topic: Topic) {
        if !self.touched.contains(&topic) {
            self.touched.push(topic);
        }
    }

    /// Writes a row, replacing one of the same key.
    ///
    /// # Errors
    /// Storage errors; the group is then aborted.
    pub fn put<K, V: Value>(&mut self, table: Table<K, V>, key: impl AsKey<K>, value: &V) -> Result<(), Error> {
        let mut encoded = Vec::with_capacity(64);
        key.encode(&mut encoded);
        let value = value.encode();
        self.table_mut(table.index)?
            .insert(encoded.as_slice(), value.as_ref())
            .map_err(|e| Error::storage("writing a row", e))?;
        Ok(())
    }

    /// Removes a row; says whether there was one.
    ///
    /// # Errors
    /// Storage errors; the group is then aborted.
    pub fn remove<K, V>(&mut self, table: Table<K, V>, key: impl AsKey<K>) -> Result<bool, Error> {
        let mut encoded = Vec::with_capacity(64);
        key.encode(&mut encoded);
        let removed = self
            .table_mut(table.index)?
            .remove(encoded.as_slice())
            .map_err(|e| Error::storage("removing a row", e))?
            .is_some();
        Ok(removed)
    }

    /// Removes all rows whose key starts with `prefix`; says how many there were.
    ///
    /// # Errors
    /// Storage errors; the group is then aborted.
    pub fn remove_all<K, V>(&mut self, table: Table<K, V>, prefix: impl AsPrefix<K>) -> Result<u64, Error> {
        let (lower, upper) = prefix_bounds(&prefix);
        let mut removed = 0;
        let upper = as_bound(&upper);
        self.table_mut(table.index)?
            .retain_in::<&[u8], _>((Bound::Included(lower.as_slice()), upper), |_, _| {
                removed += 1;
                false
            })
            .map_err(|e| Error::storage("removing rows", e))?;
        Ok(removed)
    }

    /// Writes a row as it stood in another file.
    pub(crate) fn put_raw(&mut self, index: usize, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.table_mut(index)?.insert(key, value).map_err(|e| Error::storage("writing a row", e))?;
        // The position may be among the rows; the end of the transaction must not write an earlier one over it.
        self.position = self.position.max(self.view().position()?);
        Ok(())
    }

    /// Leaves out so many positions.
    pub fn leave_out(&mut self, positions: u64) -> Position {
        self.position.0 += positions;
        self.position
    }

    pub(crate) fn finish(mut self) -> Result<(Position, Vec<Topic>), Error> {
        let position = self.position;
        if position != self.view().position()? {
            self.put(tables::META, "position", &position.0.to_be_bytes().to_vec())?;
        }
        Ok((position, self.touched))
    }

    fn table(&self, index: usize) -> Result<&Opened<'t>, Error> {
        if let Some(open) = self.open[index].get() {
            return Ok(open);
        }
        let table = self.txn.open_table(definition(index)).map_err(|e| Error::storage("opening a table", e))?;
        Ok(self.open[index].get_or_init(|| table))
    }

    fn table_mut(&mut self, index: usize) -> Result<&mut Opened<'t>, Error> {
        self.table(index)?;
        Ok(self.open[index].get_mut().expect("opened in the line above"))
    }
}

/// A read of a snapshot or of the writer's open transaction.
#[derive(Clone, Copy)]
pub struct View<'a>(&'a dyn Tables);

type Guard<'a> = redb::AccessGuard<'a, Bytes>;
type Bounds<'b> = (Bound<&'b [u8]>, Bound<&'b [u8]>);

/// Reads by table index; hides the transaction's own lifetime from [`View`].
trait Tables {
    fn read(&self, index: usize, key: &[u8]) -> Result<Option<Guard<'_>>, Error>;
    fn read_range(&self, index: usize, bounds: Bounds<'_>) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, Error>;
}

impl Tables for Snapshot {
    fn read(&self, index: usize, key: &[u8]) -> Result<Option<Guard<'_>>, Error> {
        let Some(open) = self.table(index)? else { return Ok(None) };
        ReadableTable::get(open, key).map_err(|e| Error::storage("reading a row", e))
    }
    fn read_range(&self, index: usize, bounds: Bounds<'_>) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, Error> {
        let Some(open) = self.table(index)? else { return Ok(None) };
        ReadableTable::range::<&[u8]>(open, bounds).map(Some).map_err(|e| Error::storage("reading rows", e))
    }
}

impl Tables for WriteTxn<'_> {
    fn read(&self, index: usize, key: &[u8]) -> Result<Option<Guard<'_>>, Error> {
        ReadableTable::get(self.table(index)?, key).map_err(|e| Error::storage("reading a row", e))
    }
    fn read_range(&self, index: usize, bounds: Bounds<'_>) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, Error> {
        let open = self.table(index)?;
        ReadableTable::range::<&[u8]>(open, bounds).map(Some).map_err(|e| Error::storage("reading rows", e))
    }
}

impl<'a> View<'a> {
    /// The position up to which this view has seen commits.
    ///
    /// # Errors
    /// Storage errors.
    pub fn position(self) -> Result<Position, Error> {
        let row = self.get(tables::META, "position")?;
        row.map_or(Ok(Position(0)), |bytes| {
            <u64 as Key>::decode(&mut bytes.as_slice()).map(Position).map_err(corrupt("META"))
        })
    }

    /// The value at a key.
    ///
    /// # Errors
    /// Storage errors, and [`Error::Corrupt`] if the value does not decode.
    pub fn get<K, V: Value>(self, table: Table<K, V>, key: impl AsKey<K>) -> Result<Option<V>, Error> {
        self.with(table, key, |bytes| V::decode(bytes).map_err(corrupt(table.name)))?.transpose()
    }

    /// Whether there is a row at a key.
    ///
    /// # Errors
    /// Storage errors.
    pub fn contains<K, V>(self, table: Table<K, V>, key: impl AsKey<K>) -> Result<bool, Error> {
        Ok(self.with(table, key, |_| ())?.is_some())
    }

    /// Reads the stored bytes of a value in place.
    ///
    /// # Errors
    /// Storage errors.
    pub fn with<K, V, R>(
        self,
        table: Table<K, V>,
        key: impl AsKey<K>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error> {
        let mut encoded = Vec::with_capacity(64);
        key.encode(&mut encoded);
        Ok(self.0.read(table.index, &encoded)?.map(|guard| read(guard.value())))
    }

    /// All rows whose key starts with `prefix`, in key order; `.rev()` gives them from the end.
    ///
    /// # Errors
    /// Storage errors; each row may fail on its own.
    pub fn scan<K: Key, V: Value>(self, table: Table<K, V>, prefix: impl AsPrefix<K>) -> Result<Rows<'a, K, V>, Error> {
        let (lower, upper) = prefix_bounds(&prefix);
        self.rows(table, Bound::Included(lower), upper)
    }

    /// The rows between two keys.
    ///
    /// # Errors
    /// Storage errors; each row may fail on its own.
    pub fn range<K: Key, V: Value>(
        self,
        table: Table<K, V>,
        from: Bound<impl AsKey<K>>,
        to: Bound<impl AsKey<K>>,
    ) -> Result<Rows<'a, K, V>, Error> {
        self.rows(table, encode_bound(from), encode_bound(to))
    }

    /// Whether any key starts with `prefix`.
    ///
    /// # Errors
    /// Storage errors.
    pub fn any<K: Key, V: Value>(self, table: Table<K, V>, prefix: impl AsPrefix<K>) -> Result<bool, Error> {
        let (lower, upper) = prefix_bounds(&prefix);
        Ok(self.rows(table, Bound::Included(lower), upper)?.range.is_some_and(|mut range| range.next().is_some()))
    }

    fn rows<K, V>(self, table: Table<K, V>, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Result<Rows<'a, K, V>, Error> {
        let bounds = (as_bound(&from), as_bound(&to));
        // redb panics on a range that starts after its end; an empty answer is what such a question deserves.
        let range = if inverted(&bounds) { None } else { self.0.read_range(table.index, bounds)? };
        Ok(Rows { range, table })
    }
}

/// An iterator over decoded rows.
pub struct Rows<'a, K, V> {
    range: Option<redb::Range<'a, Bytes, Bytes>>,
    table: Table<K, V>,
}

impl<K: Key, V: Value> Rows<'_, K, V> {
    fn row(&self, row: Result<(Guard<'_>, Guard<'_>), redb::StorageError>) -> Result<(K, V), Error> {
        let (key, value) = row.map_err(|e| Error::storage("reading rows", e))?;
        let mut bytes = key.value();
        let key = K::decode(&mut bytes).map_err(corrupt(self.table.name))?;
        if !bytes.is_empty() {
            return Err(corrupt(self.table.name)("key has trailing bytes".to_owned()));
        }
        Ok((key, V::decode(value.value()).map_err(corrupt(self.table.name))?))
    }
}

impl<K: Key, V: Value> Iterator for Rows<'_, K, V> {
    type Item = Result<(K, V), Error>;
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.range.as_mut()?.next()?;
        Some(self.row(row))
    }
}

impl<K: Key, V: Value> DoubleEndedIterator for Rows<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.range.as_mut()?.next_back()?;
        Some(self.row(row))
    }
}

fn corrupt(table: &'static str) -> impl Fn(String) -> Error {
    move |why| Error::Corrupt { table, why }
}

fn prefix_bounds<K>(prefix: &impl AsPrefix<K>) -> (Vec<u8>, Bound<Vec<u8>>) {
    let mut lower = Vec::with_capacity(64);
    prefix.encode_prefix(&mut lower);
    let mut upper = lower.clone();
    while upper.pop_if(|byte| *byte == 0xFF).is_some() {}
    match upper.last_mut() {
        Some(last) => {
            *last += 1;
            (lower, Bound::Excluded(upper))
        }
        None => (lower, Bound::Unbounded),
    }
}

fn encode_bound<K>(bound: Bound<impl AsKey<K>>) -> Bound<Vec<u8>> {
    bound.map(|key| {
        let mut out = Vec::with_capacity(64);
        key.encode(&mut out);
        out
    })
}

fn as_bound(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn inverted((from, to): &Bounds<'_>) -> bool {
    match (from, to) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) | (Bound::Excluded(a), Bound::Included(b)) => {
            a >= b
        }
        _ => false,
    }
}
