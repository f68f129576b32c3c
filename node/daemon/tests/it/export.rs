//! `millpond export`: what is written is read back.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Home;

#[test]
fn a_room_is_read_back_from_json_and_html_with_its_files() {
    let home = Home::new();
    for name in ["alice", "eve"] {
        home.says(&["account", "create", name], "secret of somebody\n");
    }
    let token = home.says(&["account", "token", "alice"], "").trim().to_owned();
    let node = home.run();
    let ask = |method: &str, path: &str, body: Value| {
        let (status, json) = node.http(method, path, Some(&token), &body);
        assert_eq!(status, 200, "{json}");
        json
    };
    let made =
        ask("POST", "/_matrix/client/v3/createRoom", json!({ "preset": "private_chat", "name": "Pond & <lake>" }));
    let room = made["room_id"].as_str().unwrap();
    // Any bytes will do as a file: here a JSON text.
    let uploaded = ask("POST", "/_matrix/media/v3/upload", json!({ "a": "file" }));
    let uri = uploaded["content_uri"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message", room.replace('!', "%21"));
    for n in 0..510 {
        ask("PUT", &format!("{path}/{n}"), json!({ "msgtype": "m.text", "body": format!("message <{n}>") }));
    }
    let file = json!({ "msgtype": "m.file", "body": "notes.txt", "url": uri });
    ask("PUT", &format!("{path}/file"), file);
    let lost = json!({ "msgtype": "m.file", "body": "lost.txt", "url": format!("{uri}x") });
    ask("PUT", &format!("{path}/lost"), lost);
    let out = home.data_dir().with_file_name("out");
    let said = home.says(&["export", room, out.to_str().unwrap(), "--user", "alice"], "");
    assert!(said.contains("1 files to") && said.contains("1 files are not here"), "{said}");
    let read: Value = serde_json::from_slice(&fs::read(out.join("room.json")).unwrap()).unwrap();
    let events = read["events"].as_array().unwrap();
    assert_eq!(events[0]["type"], "m.room.create");
    let bodies: Vec<_> = events.iter().filter_map(|event| event["content"]["body"].as_str()).collect();
    assert_eq!((bodies.len(), bodies[0], bodies[509]), (512, "message <0>", "message <509>"));
    assert!(read["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.name"));
    let saved = read["media"][uri].as_str().unwrap();
    assert_eq!(fs::read_to_string(out.join("media").join(saved)).unwrap(), json!({ "a": "file" }).to_string());
    let again = home.refuses(&["export", room, out.to_str().unwrap(), "--user", "alice"], "");
    assert!(again.contains("out"), "a folder that is there is not written into: {again}");
    let page = home.data_dir().with_file_name("page");
    node.stop();
    // Without a running node the command opens the database itself.
    home.says(&["export", room, page.to_str().unwrap(), "--user", "alice", "--format", "html"], "");
    let html = fs::read_to_string(page.join("index.html")).unwrap();
    assert!(html.contains("<h1>Pond &amp; &lt;lake&gt;</h1>") && html.contains("message &lt;509&gt;"), "{html}");
    assert!(html.contains(&format!("href=\"media/{saved}\">notes.txt")) && page.join("media").join(saved).exists());
    let other = home.data_dir().with_file_name("other");
    for arguments in [&["--user", "eve"][..], &["--user", "nobody"], &[]] {
        let error = home.refuses(&[&["export", room, other.to_str().unwrap()], arguments].concat(), "");
        assert!(!error.is_empty() && !other.exists(), "{error}");
    }
}
