//! What Element X does, through matrix-rust-sdk: SyncService (sliding sync), messages in an encrypted room between two
//! accounts, key backup and recovery, verification of a second device by emoji.
//!
//! `HOMESERVER_URL` names the homeserver; it must let anybody register (`m.login.dummy`). Ends with 0 when all of it held.

// The futures of the SDK are deep.
#![recursion_limit = "512"]

mod device;
mod verify;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use matrix_sdk::{
    encryption::recovery::RecoveryState,
    ruma::{
        api::client::room::create_room::v3::Request as CreateRoom,
        assign,
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    },
};

use device::{Device, until};

#[tokio::main]
async fn main() -> Result<()> {
    let name = |person: &str| format!("{person}{}", std::process::id());
    let alice = Device::register(&name("alice")).await?;
    let bob = Device::register(&name("bob")).await?;
    step("two accounts sync by SyncService");

    let encryption = InitialStateEvent::with_empty_state_key(RoomEncryptionEventContent::with_recommended_defaults());
    let request = assign!(CreateRoom::new(), {
        invite: vec![bob.user()],
        initial_state: vec![encryption.to_raw_any()],
        is_direct: true,
    });
    let room_id = alice.client.create_room(request).await?.room_id().to_owned();
    until("bob is invited", async || bob.client.get_room(&room_id).is_some()).await?;
    bob.room(&room_id)?.join().await?;
    let joined =
        async || {
            let Ok(room) = alice.room(&room_id) else { return false };
            room.get_member_no_sync(&bob.user()).await.ok().flatten().is_some_and(|member| {
                *member.membership() == matrix_sdk::ruma::events::room::member::MembershipState::Join
            })
        };
    until("alice sees bob in the room", joined).await?;
    ensure!(alice.room(&room_id)?.latest_encryption_state().await?.is_encrypted(), "the room is not encrypted");
    alice.say(&room_id, "hello from alice").await?;
    bob.until_read(&room_id, "hello from alice").await?;
    bob.say(&room_id, "hello from bob").await?;
    alice.until_read(&room_id, "hello from bob").await?;
    step("encrypted messages both ways");

    alice.client.encryption().wait_for_e2ee_initialization_tasks().await;
    let recovery = alice.client.encryption().recovery();
    let key = recovery.enable().wait_for_backups_to_upload().await.context("recovery cannot be enabled")?;
    ensure!(recovery.state() == RecoveryState::Enabled, "recovery is {:?}", recovery.state());
    step("keys are backed up, recovery is enabled");

    let second = Device::log_in(&alice.name).await?;
    verify::by_emoji(&alice, &second).await?;
    let verified = async || second.is_verified().await;
    until("the second device is verified", verified).await?;
    second.until_read(&room_id, "hello from bob").await?;
    step("a second device is verified by emoji and reads what was before it");

    // From here on the keys can come from the backup only.
    alice.stop().await;
    second.stop().await;
    let third = Device::log_in(&alice.name).await?;
    third.until_room(&room_id).await?;
    ensure!(!third.reads(&room_id, "hello from bob", Duration::from_secs(1)).await, "a new device reads without a key");
    let recovery = third.client.encryption().recovery();
    recovery.recover(&key).await.context("the recovery key does not recover")?;
    third.until_read(&room_id, "hello from bob").await?;
    third.until_read(&room_id, "hello from alice").await?;
    ensure!(third.is_verified().await, "recovery did not verify the device");
    bob.say(&room_id, "and one more").await?;
    third.until_read(&room_id, "and one more").await?;
    step("a third device recovers keys and identity with the recovery key");
    third.stop().await;
    bob.stop().await;
    Ok(())
}

fn step(what: &str) {
    println!("rust-sdk: {what}");
}
