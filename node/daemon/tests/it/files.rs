//! What a node keeps is readable by its user only.
#![cfg(unix)]

use std::path::{Path, PathBuf};

use crate::harness::{Home, mode};

fn all_under(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_under(&path, into);
        }
        into.push(path);
    }
}

#[test]
fn every_file_is_0600_and_every_folder_0700() {
    let home = Home::new();
    let _node = home.run();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let mut made = vec![home.data_dir()];
    all_under(&home.data_dir(), &mut made);
    for name in ["millpond.redb", "admin_token", "registration_token", "listening_on"] {
        assert!(made.iter().any(|path| path.ends_with(name)), "{name} is not in {made:?}");
    }
    for path in made {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
}
