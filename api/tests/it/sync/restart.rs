//! Tokens across a restart of the node.

use millpond_node::{accounts::NewAccount, config::Config, rooms::ClientTxn, start, sync::Request};
use ruma::{api::client::room::create_room, device_id};
use serde_json::Value;

use crate::room::bodies;

#[tokio::test]
async fn a_token_is_good_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || start::open(Config::new(dir.path().to_owned())).unwrap();
    let device = device_id!("D");
    let synced = async |node: &millpond_node::NodeHandle, user: &ruma::UserId, since: Option<String>| -> Value {
        let request = Request { since, ..Request::default() };
        serde_json::from_slice(&node.sync.answer(user, device, request).await.unwrap()).unwrap()
    };
    let node = open();
    let account = NewAccount { name: "alice".to_owned(), password: None, admin: false };
    let (user, _) = node.accounts.create(account, None).await.unwrap();
    let room = node.rooms.create(&user, create_room::v3::Request::new()).await.unwrap();
    let token = synced(&node, &user, None).await["next_batch"].as_str().unwrap().to_owned();
    drop(node);
    let node = open();
    let txn = ClientTxn { device_id: device, txn_id: "1".into() };
    node.rooms.send(&user, txn, &room, "m.room.message".into(), r#"{"body":"after"}"#).await.unwrap();
    let after = synced(&node, &user, Some(token)).await;
    assert_eq!(bodies(&after["rooms"]["join"][room.as_str()]["timeline"]["events"]), ["after"]);
    let silent = synced(&node, &user, Some(after["next_batch"].as_str().unwrap().to_owned())).await;
    assert!(silent.get("rooms").is_none(), "{silent}");
}
