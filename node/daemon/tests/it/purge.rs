//! `millpond purge`: what was said and redacted, or is too old, is on no page of the data directory any more.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::Home;

/// The files below a folder that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn redacted_and_old_words_are_on_the_disk_before_and_not_after() {
    let home = Home::new();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    let token = home.says(&["account", "token", "alice"], "").trim().to_owned();
    let node = home.run();
    let ask = |method: &str, path: &str, body: Value| {
        let (status, json) = node.http(method, path, Some(&token), &body);
        assert_eq!(status, 200, "{json}");
        json
    };
    let made = ask("POST", "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" }));
    let room = made["room_id"].as_str().unwrap().replace('!', "%21");
    let say = |text: &str, txn: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
        let sent = ask("PUT", &path, json!({ "msgtype": "m.text", "body": text }));
        sent["event_id"].as_str().unwrap().replace('$', "%24")
    };
    let regret = say("zanzibarbuckland was said", "1");
    say("quetzalcoatlington stays a while", "2");
    // The words are in the index too.
    let search = json!({ "search_categories": { "room_events": { "search_term": "zanzibarbuckland" } } });
    let found = ask("POST", "/_matrix/client/v3/search", search.clone());
    assert_eq!(found["search_categories"]["room_events"]["count"], 1);
    ask("PUT", &format!("/_matrix/client/v3/rooms/{room}/redact/{regret}/3"), json!({}));
    assert!(!files_with(&home.data_dir(), "zanzibarbuckland").is_empty(), "free pages keep it");
    // While the node runs, the rewrite waits for its next start.
    let said = home.says(&["purge"], "");
    assert!(said.contains("starts the next time"), "{said}");
    node.stop();
    let node = home.run();
    assert_eq!(files_with(&home.data_dir(), "zanzibarbuckland"), [""; 0]);
    assert!(!files_with(&home.data_dir(), "quetzalcoatlington").is_empty());
    node.stop();
    let said = home.says(&["purge", "--before", "0d"], "");
    assert!(said.contains("Emptied 2 messages") && said.contains("anew"), "{said}");
    assert_eq!(files_with(&home.data_dir(), "quetzalcoatlington"), [""; 0]);
    assert!(home.says(&["check"], "").ends_with(" 0 findings\n"));
    let node = home.run();
    let messages = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let (_, left) = node.http("GET", &messages, Some(&token), &Value::Null);
    let kinds: Vec<_> = left["chunk"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"m.room.create") && !kinds.contains(&"m.room.message"), "{kinds:?}");
}

#[test]
fn a_wrong_time_or_room_says_what_is_allowed() {
    let home = Home::new();
    home.says(&["account", "create", "alice"], "secret of alice\n");
    assert!(home.refuses(&["purge", "--before", "tomorrow"], "").contains("2026-01-31"));
    assert!(home.refuses(&["purge", "--before", "9d", "--room", "!none:here"], "").contains("is not here"));
    assert!(home.refuses(&["purge", "--room", "!none:here"], "").contains("--before"));
}
