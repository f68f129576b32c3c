//! Opening: layouts, locks, file mode.

use std::process::Command;

use millpond_store::{Error, Options, Store, tables};
use redb::{ReadableDatabase, TableDefinition};

use crate::support::{inline, set, value};

const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("META");

/// A string as a key: its bytes, then `00 01`.
fn key(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0, 1]].concat()
}

/// Writes a database file by hand, as another program would.
fn by_hand(path: &std::path::Path, rows: &[(&str, &[u8])]) {
    let db = redb::Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut meta = txn.open_table(META).unwrap();
        for (name, bytes) in rows {
            meta.insert(key(name).as_slice(), *bytes).unwrap();
        }
    }
    txn.commit().unwrap();
}

#[test]
fn a_file_of_layout_0_is_brought_to_the_newest_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    by_hand(&path, &[("server_name", b"example.org")]);
    let store = Store::open(&path, inline()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(value(snapshot.view(), "server_name"), Some(b"example.org".to_vec()));
    drop((snapshot, store));
    let db = redb::Database::open(&path).unwrap();
    let meta = db.begin_read().unwrap().open_table(META).unwrap();
    let layout = meta.get(key("layout").as_slice()).unwrap().unwrap().value().to_vec();
    assert_eq!(layout, 3_u64.to_be_bytes());
}

#[test]
fn a_file_of_a_later_layout_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    by_hand(&path, &[("layout", &99_u64.to_be_bytes())]);
    let Err(error) = Store::open(&path, Options::default()) else { panic!("it was opened") };
    assert!(matches!(error, Error::TooNew { found: 99, known: 3 }), "{error:?}");
    assert_eq!(error.to_string(), "the database has layout 99, this program knows up to 3; use a newer Millpond");
    let db = redb::Database::open(&path).unwrap();
    let meta = db.begin_read().unwrap().open_table(META).unwrap();
    assert_eq!(meta.get(key("layout").as_slice()).unwrap().unwrap().value(), 99_u64.to_be_bytes());
}

#[test]
fn a_layout_that_is_no_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    by_hand(&path, &[("layout", b"one")]);
    let error = Store::open(&path, inline()).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "a row of table `META` is corrupt: layout is not a number");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, "a shopping list, long enough to be looked at ".repeat(200)).unwrap();
    let error = Store::open(&path, inline()).map(drop).unwrap_err();
    assert!(error.to_string().starts_with(&format!("opening the database {}", path.display())), "{error}");
}

const FOR_THE_OTHER: &str = "MILLPOND_TEST_DATABASE_OF_ANOTHER";

#[test]
fn a_second_process_is_told_that_the_database_is_in_use() {
    if let Some(path) = std::env::var_os(FOR_THE_OTHER) {
        // We are the second process.
        let error = Store::open(path.as_ref(), Options::default()).map(drop).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        println!("{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path, Options::default()).unwrap();
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "opening::a_second_process_is_told_that_the_database_is_in_use"])
        .env(FOR_THE_OTHER, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(other.status.success(), "{said}");
    let text = format!("the database {} is in use by another process; stop it or use its API", path.display());
    assert!(said.contains(&text), "{said}");
    // The first one goes on, and what it wrote is there for the next.
    set(&store, "colour", b"green").unwrap();
    drop(store);
    let store = Store::open(&path, inline()).unwrap();
    assert_eq!(value(store.snapshot().unwrap().view(), "colour"), Some(b"green".to_vec()));
}

#[test]
#[cfg(unix)]
fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = Store::open(&path, inline()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.snapshot().unwrap().view().contains(tables::META, "layout").unwrap());
}
