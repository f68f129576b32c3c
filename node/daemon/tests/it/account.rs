//! `millpond account`: the same beside a running node and without one.

use serde_json::{Value, json};

use crate::harness::{Home, Running};

/// The story of an account by commands alone.
fn manage(home: &Home) {
    let made = home.says(&["account", "create", "Alice"], "first secret\n");
    let alice = made.trim_end().strip_prefix("Made ").unwrap();
    assert!(alice.starts_with("@alice:"), "{made}");
    home.says(&["account", "create", "bob"], "secret of bob\n");
    let taken = home.refuses(&["account", "create", "bob"], "another\n");
    assert!(taken.contains("bob") || taken.contains("taken"), "{taken}");
    assert!(home.refuses(&["account", "create", "carol"], "").contains("password"), "an empty password");

    // The first account is an admin.
    let list = home.says(&["account", "list"], "");
    assert!(list.contains(&format!("{alice}  admin\n")) && list.lines().count() == 2, "{list}");

    assert!(home.says(&["account", "password", alice], "second secret\n").starts_with(alice));
    assert!(home.says(&["account", "deactivate", "bob"], "").contains("deactivated"));
    assert!(
        home.says(&["account", "list"], "")
            .lines()
            .any(|line| line.starts_with("@bob:") && line.ends_with("deactivated"))
    );
    assert!(home.refuses(&["account", "token", "nobody"], "").contains("nobody"));
    let token = home.says(&["account", "token", "alice"], "");
    assert_eq!(token.lines().count(), 1, "a script reads the token alone: {token}");
    assert!(home.says(&["status"], "").contains("Accounts  2"));
    marks(home);
}

/// What the owner does to accounts, and reads of what they reported.
fn marks(home: &Home) {
    home.says(&["account", "create", "dora"], "secret of dora\n");
    assert!(home.says(&["account", "lock", "dora"], "").ends_with("is locked\n"));
    assert!(home.says(&["account", "suspend", "dora"], "").ends_with("is suspended\n"));
    let list = home.says(&["account", "list"], "");
    assert!(list.lines().any(|line| line.starts_with("@dora:") && line.ends_with("  locked  suspended")), "{list}");
    assert!(home.refuses(&["account", "admin", "dora"], "").contains("free it first"));
    home.says(&["account", "lock", "dora", "--off"], "");
    home.says(&["account", "suspend", "dora", "--off"], "");
    assert!(home.says(&["account", "admin", "dora"], "").ends_with("is an administrator\n"));
    assert!(home.refuses(&["account", "lock", "dora"], "").contains("Administrators"));
    home.says(&["account", "admin", "dora", "--off"], "");
    home.says(&["account", "deactivate", "dora"], "");
    assert_eq!(home.says(&["report"], ""), "");
    assert!(home.refuses(&["report", "remove", "7"], "").contains("no report 7"));
}

fn holds(home: &Home, node: &Running) {
    let login = |password: &str| {
        let body = json!({
            "type": "m.login.password", "password": password,
            "identifier": { "type": "m.id.user", "user": "alice" },
        });
        node.http("POST", "/_matrix/client/v3/login", None, &body).0
    };
    assert_eq!((login("first secret"), login("second secret")), (403, 200));
    let token = home.says(&["account", "token", "alice"], "");
    let (status, whoami) = node.http("GET", "/_matrix/client/v3/account/whoami", Some(token.trim_end()), &Value::Null);
    assert!(status == 200 && whoami["user_id"].as_str().unwrap().starts_with("@alice:"), "{whoami}");
}

#[test]
fn accounts_are_managed_beside_a_running_node() {
    let home = Home::new();
    let node = home.run();
    manage(&home);
    holds(&home, &node);
}

#[test]
fn accounts_are_managed_without_a_running_node() {
    let home = Home::new();
    manage(&home);
    holds(&home, &home.run());
}

#[test]
fn a_mistyped_folder_does_not_become_a_node() {
    let home = Home::new();
    for command in [&["account", "list"][..], &["status"], &["contact", "list"], &["account", "token", "alice"]] {
        let error = home.refuses(command, "");
        assert!(error.contains("no node") && error.contains("--data-dir"), "{command:?}: {error}");
    }
    assert!(!home.data_dir().exists());
}

#[test]
fn a_program_on_the_port_of_a_node_that_died_does_not_get_the_admin_token() {
    let home = Home::new();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    std::fs::write(home.data_dir().join("listening_on"), format!("{}\n", stranger.local_addr().unwrap())).unwrap();
    assert!(home.says(&["account", "list"], "").starts_with("@alice:"));
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
