use std::path::Path;

use millpond_store::{job, rows, tables};
use zeroize::Zeroizing;

use super::*;
use crate::{NodeHandle, config::Config, start};

fn phrase(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn node_in(dir: &Path) -> NodeHandle {
    start::open(Config::new(dir.to_owned())).unwrap()
}

/// A node with an account, a key, a link's record and a media file, and a backup of it.
fn backed_up_in(dir: &Path) -> (String, PathBuf) {
    let data_dir = dir.join("node");
    let node = node_in(&data_dir);
    let alice: ruma::OwnedUserId = format!("@alice:{}", node.core.identity().server_name()).try_into().unwrap();
    let user = alice.clone();
    let write = job(
        |_| Ok::<_, crate::Error>(()),
        move |(), txn| {
            let account = rows::Account { password_hash: None, created_at_ms: 0, admin: true, deactivated: false };
            txn.put(tables::ACCOUNTS, &user, &account)?;
            txn.put(tables::LINKS, (1, "00ff".to_owned()), &b"the secret of a link".to_vec())?;
            let key = rows::OneTimeKeyRow { id: "signed_curve25519:A".to_owned(), json: "{}".to_owned() };
            txn.next_position();
            txn.put(tables::ONE_TIME_KEYS, (&*user, &*ruma::OwnedDeviceId::from("D"), "signed_curve25519", 1), &key)
        },
    );
    assert!(node.core.store().write_blocking(write).is_ok());
    fs::create_dir_all(data_dir.join("media/ab")).unwrap();
    fs::write(data_dir.join("media/ab/cdef"), vec![7; 3 << 20]).unwrap();
    let to = dir.join("backup");
    let snapshot = node.core.snapshot().unwrap();
    let name = node.core.identity().server_name().to_string();
    let made = write_to(&to, &data_dir, &snapshot, &name);
    assert_eq!((made.files, made.server_name.as_str()), (1, name.as_str()));
    (name, to)
}

fn write_to(to: &Path, data_dir: &Path, snapshot: &Snapshot, name: &str) -> Summary {
    super::write(to, &phrase("correct horse"), (data_dir, true), snapshot, (name, 17)).unwrap()
}

#[test]
fn a_restored_node_is_itself_without_links_and_one_time_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (name, file) = backed_up_in(dir.path());
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()), "nothing of it can be read");
    let target = dir.path().join("restored");
    let restored = restore(&file, &phrase("correct horse"), &target).unwrap();
    assert_eq!((restored.server_name.as_str(), restored.made_at_ms, restored.files), (name.as_str(), 17, 1));
    let node = node_in(&target);
    assert_eq!(node.core.identity().server_name().as_str(), name);
    let snapshot = node.core.snapshot().unwrap();
    let view = snapshot.view();
    assert_eq!(view.scan(tables::ACCOUNTS, ()).unwrap().count(), 1);
    assert_eq!(view.scan(tables::LINKS, ()).unwrap().count(), 0);
    assert_eq!(view.scan(tables::ONE_TIME_KEYS, ()).unwrap().count(), 0);
    assert!(view.position().unwrap().0 > 1 << 32, "nothing new stands where something stood after the backup");
    assert_eq!(fs::read(target.join("media/ab/cdef")).unwrap(), vec![7; 3 << 20]);
    let occupied = restore(&file, &phrase("correct horse"), &target).unwrap_err();
    assert!(matches!(occupied, BackupError::Occupied(_)));
}

#[test]
fn a_wrong_passphrase_or_a_damaged_file_leaves_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let (_, file) = backed_up_in(dir.path());
    let target = dir.path().join("restored");
    let wrong = restore(&file, &phrase("wrong horse"), &target).unwrap_err();
    assert_eq!(wrong.to_string().split(": ").nth(1), Some("the passphrase is wrong, or the backup is damaged"));
    let whole = fs::read(&file).unwrap();
    let mut turned = whole.clone();
    let middle = turned.len() / 2;
    turned[middle] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &turned, &whole[..40], b""] {
        fs::write(&file, damaged).unwrap();
        assert!(restore(&file, &phrase("correct horse"), &target).is_err());
        assert!(!target.join("millpond.redb").exists() && !target.join("keys/identity").exists());
    }
}
