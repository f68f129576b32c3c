//! Verification of one's own second device by comparing emoji (SAS).

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use matrix_sdk::{
    encryption::verification::{
        SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::events::key::verification::{VerificationMethod, request::ToDeviceKeyVerificationRequestEvent},
};
use tokio::sync::mpsc;

use crate::device::{Device, until};

/// `new` asks, `old` answers; both people see the same emoji and say so.
pub async fn by_emoji(old: &Device, new: &Device) -> Result<()> {
    // A request of a device whose keys it has not fetched yet is dropped by the SDK.
    let new_id = new.client.device_id().context("it is logged in")?;
    let known = async || old.client.encryption().get_device(&old.user(), new_id).await.ok().flatten().is_some();
    until("the first device has seen the second one", known).await?;
    let (told, mut asked) = mpsc::unbounded_channel();
    old.client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent| {
        let _ = told.send((event.sender, event.content.transaction_id));
        std::future::ready(())
    });
    let encryption = new.client.encryption();
    let identity = encryption.request_user_identity(&new.user()).await?.context("the account has no identity")?;
    let request = identity.request_verification_with_methods(vec![VerificationMethod::SasV1]).await?;
    let (sender, flow) = asked.recv().await.context("no verification was asked for")?;
    let find = async || old.client.encryption().get_verification_request(&sender, &flow).await;
    until("the first device knows the request", async || find().await.is_some()).await?;
    let answer = find().await.context("the request is gone")?;
    answer.accept_with_methods(vec![VerificationMethod::SasV1]).await?;
    until("the request is ready", async || request.is_ready()).await?;
    let new_sas = request.start_sas().await?.context("no SAS could be started")?;
    let old_sas = started(&answer).await?;
    old_sas.accept().await?;
    tokio::try_join!(presentable(&new_sas), presentable(&old_sas))?;
    let (one, other) = (new_sas.emoji().context("no emoji")?, old_sas.emoji().context("no emoji")?);
    let names = |emoji: [matrix_sdk::encryption::verification::Emoji; 7]| emoji.map(|emoji| emoji.description);
    ensure!(names(one) == names(other), "the two devices show different emoji");
    tokio::try_join!(async { new_sas.confirm().await }, async { old_sas.confirm().await })?;
    until("both are done", async || new_sas.is_done() && old_sas.is_done()).await
}

async fn started(request: &VerificationRequest) -> Result<SasVerification> {
    let mut changes = request.changes();
    loop {
        if let VerificationRequestState::Transitioned { verification: Verification::SasV1(sas), .. } = request.state() {
            return Ok(sas);
        }
        let ended = changes.next().await.is_none() || request.is_cancelled();
        ensure!(!ended, "the request ended: {:?}", request.cancel_info());
    }
}

async fn presentable(sas: &SasVerification) -> Result<()> {
    let mut changes = sas.changes();
    while !matches!(sas.state(), SasState::KeysExchanged { .. } | SasState::Confirmed | SasState::Done { .. }) {
        let ended = changes.next().await.is_none() || sas.is_cancelled();
        ensure!(!ended, "the verification ended: {:?}", sas.cancel_info());
    }
    Ok(())
}
