//! `/_millpond/v1/suspend` and `/resume`: for who knows that the device goes to sleep.

use serde_json::json;

use crate::harness::TestNode;

#[tokio::test]
async fn a_node_goes_to_sleep_and_wakes_when_its_owner_says_so_and_clients_are_served_meanwhile() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let admin_token = millpond_node::start::admin_token(&node.node.core.config().data_dir).unwrap();
    for verb in ["suspend", "suspend", "resume", "resume"] {
        let path = format!("/_millpond/v1/{verb}");
        node.fails(node.post(&alice, &path, json!({})), 403, "M_FORBIDDEN").await;
        node.ok(node.post(&admin_token, &path, json!({}))).await;
        node.ok(node.get(&alice, "/_matrix/client/v3/account/whoami")).await;
    }
}
