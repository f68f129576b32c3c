//! What the tests share.

use millpond_store::{Options, Store, View, WriteTxn, job, tables};

pub fn inline() -> Options {
    Options { inline: true, ..Options::default() }
}

/// Writes in one commit.
pub fn write(
    store: &Store,
    mut write: impl FnMut(&mut WriteTxn<'_>) -> Result<(), millpond_store::Error> + Send + 'static,
) -> Result<(), millpond_store::WriteError<std::convert::Infallible>> {
    store.write_blocking(job(|_| Ok(()), move |(), txn| write(txn))).map(|((), _)| ())
}

/// Puts a row of `META`.
pub fn set(store: &Store, key: &str, value: &[u8]) -> Result<(), millpond_store::WriteError<std::convert::Infallible>> {
    let (key, value) = (key.to_owned(), value.to_vec());
    write(store, move |txn| txn.put(tables::META, key.as_str(), &value))
}

/// A row of `META`.
pub fn value(view: View<'_>, key: &str) -> Option<Vec<u8>> {
    view.get(tables::META, key).unwrap()
}
