//! `millpond backup` and `millpond restore`: beside a running node and without one.

use crate::harness::Home;

#[test]
fn a_backup_of_a_running_node_is_restored_elsewhere_and_the_passphrase_matters() {
    let home = Home::new();
    let made = home.says(&["account", "create", "alice"], "secret of alice\n");
    let alice = made.trim_end().strip_prefix("Made ").unwrap().to_owned();
    let file = home.data_dir().with_file_name("backup");
    let file = file.to_str().unwrap();
    let node = home.run();
    assert!(home.says(&["backup", file], "correct horse\n").contains("rows"));
    node.stop();
    assert!(home.refuses(&["restore", file], "correct horse\n").contains("holds a node already"));
    assert!(home.refuses(&["backup", file], "").contains("passphrase"));

    let other = Home::new();
    let refused = other.refuses(&["restore", file], "another horse\n");
    assert!(refused.contains("the passphrase is wrong"), "{refused}");
    let server = alice.split_once(':').unwrap().1;
    assert!(other.says(&["restore", file], "correct horse\n").contains(server));
    assert_eq!(other.says(&["account", "list"], ""), format!("{alice}  admin\n"));
    assert!(other.says(&["check"], "").ends_with("rows, 0 findings\n"));
    // A backup by a stopped node's own command.
    assert!(other.says(&["backup", file, "--without-media"], "correct horse\n").contains("0 media files"));
}
