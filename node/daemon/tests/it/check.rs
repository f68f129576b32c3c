//! `millpond check`: on no node, a sound one, and damaged ones.

use millpond_store::{Options, Store, job, rows::TokenOwner, tables};

use crate::harness::Home;

fn with_account() -> Home {
    let home = Home::new();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    home.says(&["account", "token", "alice"], "");
    home
}

#[test]
fn a_folder_without_a_node_is_refused_and_stays_empty() {
    let home = Home::new();
    assert!(home.refuses(&["check"], "").contains("no node"));
    assert!(!home.data_dir().exists());
}

#[test]
fn a_sound_database_has_no_findings_and_a_running_node_is_left_alone() {
    let home = with_account();
    let said = home.says(&["check"], "");
    assert!(said.ends_with("rows, 0 findings\n"), "{said}");
    let said = home.says(&["check", "--sizes"], "");
    assert!(said.contains("ACCOUNTS") && said.contains("free for later"), "{said}");
    let node = home.run();
    let error = home.refuses(&["check"], "");
    assert!(error.contains(&node.address) && error.contains("stop it"), "{error}");
}

#[test]
fn a_reference_to_nothing_is_found_and_fails_the_command() {
    let home = with_account();
    let store =
        Store::open(&home.data_dir().join("millpond.redb"), Options { inline: true, ..Options::default() }).unwrap();
    let owner =
        TokenOwner { user_id: "@alice:example.org".try_into().unwrap(), device_id: "LOST".into(), expires_at_ms: None };
    let dangling = job(|_| Ok::<_, std::io::Error>(()), move |(), txn| txn.put(tables::TOKENS, [7; 32], &owner));
    store.write_blocking(dangling).unwrap();
    drop(store);
    let output = home.ask(&["check"], "");
    let said = crate::harness::text(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("a token is of device LOST") && said.contains("1 findings"), "{said}");
}

#[test]
fn a_file_that_is_no_database_is_named_and_not_overwritten() {
    let home = with_account();
    let path = home.data_dir().join("millpond.redb");
    std::fs::write(&path, "not a database at all").unwrap();
    for command in ["check", "run", "status"] {
        let error = home.refuses(&[command], "");
        assert!(error.contains("millpond.redb") && !error.contains("panicked"), "{command}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a database at all");
}

#[test]
fn a_node_whose_key_is_gone_does_not_become_another_one() {
    let home = with_account();
    let key = home.data_dir().join("keys/identity");
    std::fs::remove_file(&key).unwrap();
    for command in ["check", "run"] {
        let error = home.refuses(&[command, "--data-dir", home.data_dir().to_str().unwrap()], "");
        assert!(error.contains("keys/identity") && error.contains("backup"), "{command}: {error}");
    }
    assert!(!key.exists());
}
