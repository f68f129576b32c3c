//! The database written anew has every row and nothing of what was removed.

use std::fs;

use millpond_store::{Error, Store, discard_unfinished, rewrite, tables};

use crate::support::{inline, write};

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn what_was_removed_is_in_the_file_before_and_not_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millpond.redb");
    let store = Store::open(&path, inline()).unwrap();
    write(&store, |txn| {
        for n in 0..2000_u64 {
            txn.put(tables::META, format!("row {n}"), &n.to_be_bytes().to_vec())?;
        }
        // Many, because some of the pages that get free are written again at once.
        for n in 0..200 {
            txn.put(tables::META, format!("secret {n}"), &b"the-word-to-forget".repeat(50))?;
        }
        Ok(())
    })
    .unwrap();
    write(&store, |txn| {
        for n in 0..200 {
            txn.remove(tables::META, format!("secret {n}"))?;
        }
        Ok(())
    })
    .unwrap();
    assert!(matches!(rewrite(&path), Err(Error::InUse { .. })), "an open database is left alone");
    drop(store);
    assert!(contains(&fs::read(&path).unwrap(), "the-word-to-forget"), "redb keeps it in a free page");
    rewrite(&path).unwrap();
    assert!(!contains(&fs::read(&path).unwrap(), "the-word-to-forget"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the old file is gone");
    let store = Store::open(&path, inline()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.view().scan(tables::META, ()).unwrap().count(), 2001);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_copy_that_did_not_come_to_its_end_is_thrown_away_and_the_old_file_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millpond.redb");
    let store = Store::open(&path, inline()).unwrap();
    write(&store, |txn| txn.put(tables::META, "kept", &vec![1])).unwrap();
    drop(store);
    let unfinished = dir.path().join("millpond.redb.new");
    fs::write(&unfinished, "half a database").unwrap();
    discard_unfinished(&path).unwrap();
    assert!(!unfinished.exists());
    fs::write(&unfinished, "half a database").unwrap();
    rewrite(&path).unwrap();
    assert!(!unfinished.exists());
    let store = Store::open(&path, inline()).unwrap();
    assert_eq!(store.snapshot().unwrap().view().get(tables::META, "kept").unwrap(), Some(vec![1]));
}
