//! `millpond run`: its first words, its end, and two at a time.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::Home;

#[test]
fn the_first_run_says_in_five_lines_what_to_do_and_the_next_one_is_quiet() {
    let home = Home::new();
    let mut node = home.run();
    node.until_line("millpond contact");
    let url = format!("http://{}", node.address);
    let token = std::fs::read_to_string(home.data_dir().join("registration_token")).unwrap();
    for shown in [".onion", &url, token.trim_end(), "register in your client"] {
        assert!(node.printed.iter().any(|line| line.contains(shown)), "{shown} is not in {:?}", node.printed);
    }
    let (status, well_known) = node.http("GET", "/.well-known/matrix/client", None, &Value::Null);
    assert_eq!((status, &well_known["m.homeserver"]["base_url"]), (200, &json!(url)));
    node.signal("TERM");
    assert!(node.ended().success());
    assert_eq!(node.printed.len(), 5, "{:?}", node.printed);

    let mut again = home.run();
    again.signal("TERM");
    again.ended();
    assert_eq!(again.printed, Vec::<String>::new());
}

#[test]
fn it_ends_in_order_on_sigterm_and_on_ctrl_c_though_a_client_waits() {
    let home = Home::new();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let token = home.says(&["account", "token", "alice"], "");
    for signal in ["TERM", "INT"] {
        let mut node = home.run();
        let (_, first) = node.http("GET", "/_matrix/client/v3/sync", Some(token.trim_end()), &Value::Null);
        let since = first["next_batch"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/sync?timeout=30000&since={since}");
        let _waiting = node.send("GET", &path, Some(token.trim_end()), &Value::Null);
        // The answer to a later request shows that the node has taken the one that waits.
        node.http("GET", "/_matrix/client/versions", None, &Value::Null);
        let told = Instant::now();
        node.signal(signal);
        let status = node.ended();
        assert!(told.elapsed() < Duration::from_secs(5), "SIG{signal}: {:?}", told.elapsed());
        assert!(status.success(), "SIG{signal}: {status}, {:?}", node.logged);
        assert!(!home.data_dir().join("listening_on").exists());
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let error = home.refuses(&["run", "--listen", &address], "");
    for shown in [address.as_str(), "--listen"] {
        assert!(error.contains(shown), "{shown} is not in: {error}");
    }
    assert!(!home.data_dir().join("millpond.redb").exists());
}

#[test]
fn a_second_node_on_the_same_data_is_refused_with_the_address_of_the_first() {
    let home = Home::new();
    let node = home.run();
    for listen in ["127.0.0.1:0", &node.address] {
        let error = home.refuses(&["run", "--listen", listen], "");
        for shown in ["already runs", &node.address, "--data-dir"] {
            assert!(error.contains(shown), "{shown} is not in: {error}");
        }
    }
    let (status, _) = node.http("GET", "/_matrix/client/versions", None, &Value::Null);
    assert_eq!(status, 200, "the first one goes on");
}

#[test]
fn accounts_are_there_after_kill_9() {
    let home = Home::new();
    let node = home.run();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let login = json!({
        "type": "m.login.password", "password": "secret of alice",
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let (status, session) = node.http("POST", "/_matrix/client/v3/login", None, &login);
    assert_eq!(status, 200, "{session}");
    let token = session["access_token"].as_str().unwrap();
    node.kill();

    assert!(home.says(&["status"], "").contains("State     stopped"), "the file left behind misleads nobody");
    let node = home.run();
    let (status, whoami) = node.http("GET", "/_matrix/client/v3/account/whoami", Some(token), &Value::Null);
    assert_eq!((status, &whoami["user_id"]), (200, &session["user_id"]));
    assert_eq!(node.http("POST", "/_matrix/client/v3/login", None, &login).0, 200);
    node.stop();
    assert!(home.says(&["check"], "").ends_with("0 findings\n"));
}
