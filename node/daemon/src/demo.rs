//! `millpond demo`: two nodes in one process, linked by a contact link; two clients that talk end-to-end encrypted through
//! them, also while one node is away. Everything goes over HTTP and libp2p on 127.0.0.1; nothing is pretended.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};

use crate::{logs, run::StopSignals};

mod client;
mod device;
mod node;
mod show;

use client::Client;
use node::Node;
use show::Show;

/// For the whole story; with the nodes' ordered end after it, it stays below 40 s.
const LIMIT: Duration = Duration::from_secs(34);
/// For what still runs on the runtime after that.
const TAIL: Duration = Duration::from_millis(300);
/// Steps of the story.
const STEPS: u64 = 11;
/// Messages that alice sends while bob's node is away.
const MEANWHILE: usize = 5;

pub(crate) fn run(log: &str) -> anyhow::Result<()> {
    logs::start(log)?;
    let folder = tempfile::Builder::new().prefix("millpond-demo-").tempdir().context("making a temporary folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let show = Show::new(STEPS);
    show.line(&format!("Two nodes on this machine, with their data in {}", folder.path().display()));
    let outcome = runtime.block_on(watched(&show, folder.path()));
    runtime.shutdown_timeout(TAIL);
    let took = show.finish();
    folder.close().context("removing the temporary folder")?;
    outcome?;
    println!("Everything arrived, in {:.1} s. The folder is removed.", took.as_secs_f32());
    Ok(())
}

/// The story, cut off by its limit or by Ctrl-C; the nodes are stopped in any case.
async fn watched(show: &Show, folder: &Path) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch()?;
    let (mut a, mut b) = (Node::new(folder.join("alice")), Node::new(folder.join("bob")));
    let told = tokio::select! {
        told = tokio::time::timeout(LIMIT, story(show, &mut a, &mut b)) => {
            told.unwrap_or_else(|_| Err(anyhow::anyhow!("the demo was not done within {} s", LIMIT.as_secs())))
        }
        told = signals.told() => told.and_then(|()| Err(anyhow::anyhow!("stopped before the end"))),
    };
    let (stopped_a, stopped_b) = tokio::join!(a.stop(), b.stop());
    told.and(stopped_a.context("stopping alice's node")).and(stopped_b.context("stopping bob's node"))
}

async fn story(show: &Show, a: &mut Node, b: &mut Node) -> anyhow::Result<()> {
    start(show, a, b).await?;
    link(show, a, b).await?;
    let register = async {
        let alice = Client::register(a.address()?, "alice", &a.registration_token()?).await.context("alice")?;
        let bob = Client::register(b.address()?, "bob", &b.registration_token()?).await.context("bob")?;
        Ok((alice, bob))
    };
    let (mut alice, mut bob) = show.step("alice and bob register and upload their device keys", register).await?;
    let room_id = show.step("alice makes an encrypted room", alice.create_encrypted_room()).await?;
    meet(show, &mut alice, &mut bob, &room_id).await?;
    converse(show, &mut alice, &mut bob, &room_id).await?;
    away(show, a, b, &mut alice, &mut bob, &room_id).await?;
    back(show, b, &mut alice, &mut bob, &room_id).await
}

async fn start(show: &Show, a: &mut Node, b: &mut Node) -> anyhow::Result<()> {
    let both = async {
        a.start().await?;
        b.start().await
    };
    show.step("two nodes start, each with a name and keys of its own", both).await?;
    for (whose, node) in [("alice's", a), ("bob's  ", b)] {
        show.detail(&format!("{whose} node: http://{}  {}", node.address()?, node.name()?));
    }
    Ok(())
}

async fn link(show: &Show, a: &mut Node, b: &mut Node) -> anyhow::Result<()> {
    let (name_a, name_b) = (a.name()?, b.name()?);
    let linked = async {
        let link = a.offer().await.context("alice's node makes a contact link")?;
        b.add(&link).await.context("bob's node takes the link")?;
        a.until_contact(&name_b, "to be confirmed").await?;
        a.confirm(&name_b).await.context("alice confirms the name of bob's node")?;
        tokio::try_join!(a.until_contact(&name_b, "established"), b.until_contact(&name_a, "established"))?;
        Ok(link)
    };
    let link = show.step("a contact link links them: made by alice, added by bob, confirmed by alice", linked).await?;
    show.detail(&format!("{}... ({} characters)", link.chars().take(32).collect::<String>(), link.len()));
    Ok(())
}

async fn meet(show: &Show, alice: &mut Client, bob: &mut Client, room_id: &str) -> anyhow::Result<()> {
    let invited = async {
        alice.invite(room_id, &bob.user_id).await?;
        bob.until(|bob| bob.invites.contains(room_id).then_some(())).await
    };
    show.step("alice invites bob, and bob's client shows the invite", invited).await?;
    let joined = async {
        bob.join(room_id).await?;
        let is_in = |client: &Client, user: &str| client.joined.get(room_id).is_some_and(|room| room.contains(user));
        let user = bob.user_id.clone();
        alice.until(|alice| is_in(alice, &user).then_some(())).await.context("alice waits for the join")?;
        bob.until(|bob| is_in(bob, &user).then_some(())).await.context("bob waits for the room")
    };
    show.step("bob joins, and both see it", joined).await
}

async fn converse(show: &Show, alice: &mut Client, bob: &mut Client, room_id: &str) -> anyhow::Result<()> {
    let there = async {
        alice.share_room_key(room_id).await.context("alice shares her room key")?;
        alice.say(room_id, "Hello Bob!").await?;
        hear(show, bob, &alice.user_id, &["Hello Bob!".to_owned()]).await
    };
    show.step("alice writes, end-to-end encrypted; bob decrypts it", there).await?;
    let and_back = async {
        bob.share_room_key(room_id).await.context("bob shares his room key")?;
        bob.say(room_id, "Hello Alice!").await?;
        hear(show, alice, &bob.user_id, &["Hello Alice!".to_owned()]).await
    };
    show.step("bob answers, end-to-end encrypted; alice decrypts it", and_back).await
}

async fn away(
    show: &Show,
    a: &mut Node,
    b: &mut Node,
    alice: &mut Client,
    bob: &mut Client,
    room_id: &str,
) -> anyhow::Result<()> {
    let name = b.name()?;
    let stopped = async {
        b.stop().await?;
        ensure!(!bob.reaches_node().await, "bob's node still answers");
        Ok(())
    };
    show.step("bob's node stops", stopped).await?;
    let sent = async {
        // A new room key, so that it has to wait with the messages.
        alice.share_room_key(room_id).await.context("alice shares a new room key")?;
        for text in meanwhile() {
            alice.say(room_id, &text).await?;
        }
        let waiting = a.waiting_for(&name).await?;
        ensure!(waiting >= MEANWHILE as u64, "only {waiting} of {MEANWHILE} messages wait for bob's node");
        Ok(waiting)
    };
    let waiting = show.step(&format!("alice sends {MEANWHILE} messages meanwhile, with a new room key"), sent).await?;
    show.detail(&format!("{waiting} things wait for bob's node in the database of alice's"));
    Ok(())
}

async fn back(show: &Show, b: &mut Node, alice: &mut Client, bob: &mut Client, room_id: &str) -> anyhow::Result<()> {
    let arrived = async {
        b.start().await?;
        bob.moved_to(b.address()?);
        hear(show, bob, &alice.user_id, &meanwhile()).await?;
        bob.say(room_id, "All here.").await?;
        hear(show, alice, &bob.user_id, &["All here.".to_owned()]).await
    };
    show.step("bob's node is back on the same data; everything arrives, in order, and decrypts", arrived).await?;
    for heard in &bob.heard {
        show.detail(&format!("bob read: {}", heard.body));
    }
    Ok(())
}

fn meanwhile() -> Vec<String> {
    (1..=MEANWHILE).map(|n| format!("Message {n} of {MEANWHILE}, written while you were away")).collect()
}

/// Waits until a client has heard these texts after what it had heard before: all, in this order, and nothing else.
async fn hear(show: &Show, client: &mut Client, sender: &str, texts: &[String]) -> anyhow::Result<()> {
    let before = client.heard.len();
    let arrived = client
        .until(|client| {
            let arrived = client.heard.len() - before;
            show.waiting(format!("{arrived} of {} messages have arrived", texts.len()));
            (arrived >= texts.len()).then_some(())
        })
        .await;
    arrived.with_context(|| format!("{} waits for messages", client.user_id))?;
    let heard = &client.heard[before..];
    let right = heard.iter().map(|heard| &heard.body).eq(texts) && heard.iter().all(|heard| heard.sender == sender);
    ensure!(right, "{} read something else than what was written", client.user_id);
    Ok(())
}
