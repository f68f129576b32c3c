//! A person's device: a client with its SyncService.

use std::{env, time::Duration};

use anyhow::{Context, Result, bail};
use matrix_sdk::{
    Client, Room,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedUserId, RoomId,
        api::client::{
            account::register::v3::Request as Register,
            uiaa::{AuthData, Dummy},
        },
        assign,
        events::room::message::RoomMessageEventContent,
    },
};
use matrix_sdk_ui::{sync_service::SyncService, timeline::RoomExt};

/// A device that syncs.
pub struct Device {
    pub client: Client,
    pub name: String,
    sync: SyncService,
}

impl Device {
    /// Makes an account, with a device.
    pub async fn register(name: &str) -> Result<Self> {
        let client = client().await?;
        let request = assign!(Register::new(), {
            username: Some(name.to_owned()),
            password: Some(PASSWORD.to_owned()),
            auth: Some(AuthData::Dummy(Dummy::new())),
            inhibit_login: true,
        });
        client.matrix_auth().register(request).await.context("cannot register")?;
        Self::log_in(name).await
    }

    /// Another device of an account.
    pub async fn log_in(name: &str) -> Result<Self> {
        let client = client().await?;
        client.matrix_auth().login_username(name, PASSWORD).await.context("cannot log in")?;
        let sync = SyncService::builder(client.clone()).build().await?;
        sync.start().await;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(Self { client, name: name.to_owned(), sync })
    }

    pub async fn stop(&self) {
        self.sync.stop().await;
    }

    pub fn user(&self) -> OwnedUserId {
        self.client.user_id().expect("it is logged in").to_owned()
    }

    pub fn room(&self, room_id: &RoomId) -> Result<Room> {
        self.client.get_room(room_id).with_context(|| format!("{} does not know the room", self.name))
    }

    pub async fn until_room(&self, room_id: &RoomId) -> Result<()> {
        until("the room is there", async || self.client.get_room(room_id).is_some()).await
    }

    pub async fn say(&self, room_id: &RoomId, text: &str) -> Result<()> {
        self.room(room_id)?.send(RoomMessageEventContent::text_plain(text)).await?;
        Ok(())
    }

    /// Waits until a text stands in the room's timeline, decrypted.
    pub async fn until_read(&self, room_id: &RoomId, text: &str) -> Result<()> {
        self.until_room(room_id).await?;
        match self.reads(room_id, text, PATIENCE).await {
            true => Ok(()),
            false => bail!("{} does not read {text:?} within {PATIENCE:?}", self.name),
        }
    }

    /// Whether a text stands in the timeline within a time. A message may come before its key: the timeline shows it
    /// decrypted as soon as the key is there, which an event handler would not tell.
    pub async fn reads(&self, room_id: &RoomId, text: &str, within: Duration) -> bool {
        let Ok(room) = self.room(room_id) else { return false };
        let Ok(timeline) = room.timeline().await else { return false };
        let found = async || {
            let _ = timeline.paginate_backwards(50).await;
            let items = timeline.items().await;
            items.iter().filter_map(|item| item.as_event()?.content().as_message()).any(|found| found.body() == text)
        };
        wait(within, found).await
    }

    /// Whether the account's own cross-signing keys vouch for the device.
    pub async fn is_verified(&self) -> bool {
        let device = self.client.encryption().get_own_device().await;
        device.ok().flatten().is_some_and(|device| device.is_verified_with_cross_signing())
    }
}

async fn client() -> Result<Client> {
    let url = env::var("HOMESERVER_URL").unwrap_or_else(|_| "http://127.0.0.1:8008".to_owned());
    let settings = EncryptionSettings {
        auto_enable_cross_signing: true,
        auto_enable_backups: true,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
    };
    Ok(Client::builder().homeserver_url(url).with_encryption_settings(settings).build().await?)
}

/// Waits for something that takes a few syncs.
pub async fn until(what: &str, reached: impl AsyncFn() -> bool) -> Result<()> {
    match wait(PATIENCE, reached).await {
        true => Ok(()),
        false => bail!("not within {PATIENCE:?}: {what}"),
    }
}

async fn wait(within: Duration, reached: impl AsyncFn() -> bool) -> bool {
    let poll = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(within, poll).await.is_ok()
}

const PASSWORD: &str = "interop-password";
const PATIENCE: Duration = Duration::from_secs(40);
