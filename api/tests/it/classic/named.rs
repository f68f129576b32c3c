//! Links of nodes with a name in the DNS: such a node is in overlay rooms with key-named nodes and in classic rooms with
//! classic servers, at the same time. Its name is believed when HTTPS shows its identity there.

use millpond_store::{
    job,
    rows::{NamedNode, Peer},
    tables,
};
use ruma::OwnedServerName;
use serde_json::json;

use super::tls::Authority;
use crate::nodes::{Net, Running, encoded, link, shake_hands, until};

/// A node with a name in the DNS.
pub async fn named(net: &Net, authority: &Authority) -> Running {
    let place = authority.place().await;
    let name = place.name.clone();
    net.node_with(|config| authority.named(config, &name), vec![place.door()]).await
}

/// A key-named node that trusts the authority.
async fn by_key(net: &Net, authority: &Authority) -> Running {
    net.node_with(|config| authority.trusted(config), Vec::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_in_an_overlay_room_and_in_a_classic_room_at_once() {
    let (net, authority) = (Net::default(), Authority::new());
    let (pond, key, far) =
        (named(&net, &authority).await, by_key(&net, &authority).await, named(&net, &authority).await);
    link(&pond, &key).await;
    let (ann, ben, cid) = (pond.user("ann").await, key.user("ben").await, far.user("cid").await);

    let overlay = json!({ "preset": "private_chat", "creation_content": { "org.millpond.federation": "overlay" } });
    let private = pond.room(&ann, overlay).await;
    pond.invite(&ann, &private, &ben).await;
    key.accept(&ben, &private).await;
    let public = pond.room(&ann, json!({ "preset": "private_chat" })).await;
    pond.invite(&ann, &public, &cid).await;
    far.accept(&cid, &public).await;

    pond.say(&ann, &private, "between us").await;
    pond.say(&ann, &public, "for everybody").await;
    key.until_read(&ben, &private, "between us").await;
    far.until_read(&cid, &public, "for everybody").await;
    key.say(&ben, &private, "and back").await;
    far.say(&cid, &public, "and so back").await;
    pond.until_read(&ann, &private, "and back").await;
    pond.until_read(&ann, &public, "and so back").await;

    // The other way round, into a room of the key-named node.
    let theirs = key.room(&ben, json!({ "preset": "private_chat" })).await;
    key.invite(&ben, &theirs, &ann).await;
    pond.accept(&ann, &theirs).await;
    pond.say(&ann, &theirs, "hello").await;
    key.until_read(&ben, &theirs, "hello").await;

    let told = key.node.links.contacts().await.unwrap();
    assert_eq!(told[0].server, Some((true, pond.server())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_https_does_not_show_is_nobodys() {
    let (net, authority) = (Net::default(), Authority::new());
    // Another server listens at the name that the liar took.
    let honest = named(&net, &authority).await;
    let name = honest.server();
    let liar = net.node_with(|config| authority.named(config, &name), Vec::new()).await;
    let key = by_key(&net, &authority).await;
    shake_hands(&key, &liar).await;
    let claims = async || key.node.links.contacts().await.unwrap()[0].server == Some((false, name.clone()));
    until("the claim is known", claims).await;
    let (eve, ben) = (liar.user("eve").await, key.user("ben").await);
    let overlay = json!({ "org.millpond.federation": "overlay" });
    until("the liar knows the link", async || liar.node.peers.is_linked(&key.server()).unwrap()).await;
    let room = liar.room(&eve, json!({ "creation_content": overlay, "invite": [ben.id] })).await;
    let asked = liar.ask(&key, http::Method::GET, "/_matrix/federation/v1/publicRooms", "").await;
    assert_eq!(asked.0, 503, "{}", asked.1);
    assert_eq!(key.membership(&ben, &room), None);
    assert!(!key.node.peers.is_linked(&name).unwrap());
    let invited = json!({ "user_id": eve.id });
    let own = key.room(&ben, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(&own));
    key.fails(key.post(&ben, path, invited), 504, "M_UNKNOWN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_the_dns_share_both_kinds_of_room() {
    let (net, authority) = (Net::default(), Authority::new());
    let (one, two) = (named(&net, &authority).await, named(&net, &authority).await);
    link(&one, &two).await;
    let (ann, ben) = (one.user("ann").await, two.user("ben").await);
    for content in [json!({ "org.millpond.federation": "overlay" }), json!({})] {
        let room = one.room(&ann, json!({ "creation_content": content })).await;
        one.invite(&ann, &room, &ben).await;
        two.accept(&ben, &room).await;
        two.say(&ben, &room, "here").await;
        one.until_read(&ann, &room, "here").await;
    }
    // Presence is known in the classic room, though it goes over the link.
    let online = json!({ "presence": "online", "status_msg": "at the pond" });
    let of_ben = format!("/_matrix/client/v3/presence/{}/status", encoded(ben.id.as_str()));
    two.ok(two.put(&ben, &of_ben, online)).await;
    let told = async || one.get(&ann, &of_ben).await.1["status_msg"] == "at the pond";
    until("the other node is told", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_without_a_link_check_and_meet_a_node_of_the_dns_too() {
    let (net, authority) = (Net::default(), Authority::new());
    let pond = named(&net, &authority).await;
    let (middle, far) = (by_key(&net, &authority).await, by_key(&net, &authority).await);
    link(&pond, &middle).await;
    link(&middle, &far).await;
    let (ann, ben, cid) = (pond.user("ann").await, middle.user("ben").await, far.user("cid").await);
    let overlay = json!({ "preset": "private_chat", "creation_content": { "org.millpond.federation": "overlay" },
        "power_level_content_override": { "invite": 0 } });
    let room = pond.room(&ann, overlay).await;
    pond.say(&ann, &room, "before").await;
    pond.invite(&ann, &room, &ben).await;
    middle.accept(&ben, &room).await;
    middle.invite(&ben, &room, &cid).await;
    far.accept(&cid, &room).await;
    pond.until_membership(&cid, &room, "join").await;
    pond.say(&ann, &room, "from the pond").await;
    far.until_read(&cid, &room, "from the pond").await;
    far.say(&cid, &room, "from far away").await;
    pond.until_read(&ann, &room, "from far away").await;
    // The one in the middle introduces them.
    until("they are linked", async || far.node.peers.is_linked(&pond.server()).unwrap()).await;
    until("they are linked", async || pond.node.peers.is_linked(&far.server()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_name_shows_another_identity_loses_it() {
    let (net, authority) = (Net::default(), Authority::new());
    let (pond, key, other) =
        (named(&net, &authority).await, by_key(&net, &authority).await, named(&net, &authority).await);
    link(&pond, &key).await;
    // As if the name of the pond had been the other's eight days ago.
    let node = OwnedServerName::try_from(pond.node.core.identity().node_name().as_str()).unwrap();
    let (moved, before) = (other.server(), pond.server());
    let now_ms = key.node.core.clock().now_ms();
    let row = NamedNode { proven_at_ms: now_ms - 8 * 86_400_000, ..NamedNode::claimed(moved.clone()) };
    let write = job(
        |_| Ok::<_, millpond_node::Error>(()),
        move |(), txn| {
            txn.put(tables::NAMED_NODES, &*node, &row)?;
            txn.remove(tables::NODE_NAMES, &*before)?;
            txn.put(tables::NODE_NAMES, &*moved, &node)?;
            txn.put(tables::PEERS, &*moved, &Peer { linked: true, linked_since: 1, ..Peer::default() })?;
            txn.remove(tables::PEERS, &*before).map(drop)
        },
    );
    key.node.core.write(write).await.unwrap();
    let moved = other.server();
    assert!(key.node.peers.is_linked(&moved).unwrap());
    let asleep = pond.sleep().await;
    let _awake = net.wake(asleep).await;
    until("the name is lost", async || !key.node.peers.is_linked(&moved).unwrap()).await;
    let told = key.node.links.contacts().await.unwrap();
    assert_eq!(told[0].server, Some((false, moved)));
}
