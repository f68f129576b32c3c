//! A table: a name and the types of its key and value. All tables are declared in one list, [`crate::tables`].

use std::marker::PhantomData;

/// A typed table. Its index says where an open transaction keeps it, so that each table is opened once per transaction.
pub struct Table<K, V> {
    pub(crate) index: usize,
    pub(crate) name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Table<K, V> {
    pub(crate) const fn new(index: usize, name: &'static str) -> Self {
        Self { index, name, types: PhantomData }
    }

    /// The table's name in the file.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Table<K, V> {}

/// Declares the tables: `/// doc` then `NAME: Key => Value;`. The order gives the indices and is free to change.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident : $key:ty => $value:ty;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($name,)* Count }
        $($(#[$doc])* pub const $name: $crate::table::Table<$key, $value> =
            $crate::table::Table::new(Index::$name as usize, stringify!($name));)*
        /// The number of tables.
        pub(crate) const COUNT: usize = Index::Count as usize;
        /// The names of all tables, in the order of their indices.
        pub(crate) const NAMES: [&str; COUNT] = [$(stringify!($name)),*];
        /// Decodes every row of every table and counts them; calls `found` for each that does not decode.
        pub(crate) fn decode_all(view: &$crate::View<'_>, mut found: impl FnMut(String)) -> Result<u64, $crate::Error> {
            let mut rows = 0;
            $(for row in view.scan($name, ())? {
                rows += 1;
                match row { Err($crate::Error::Corrupt { table, why }) => found(format!("{table}: {why}")), other => { other?; } }
            })*
            Ok(rows)
        }
    };
}
pub(crate) use tables;
