//! The homeserver: accounts, rooms, sync, outbox, inbox, backfill, push, media.
//!
//! Each part is a service: a cheap handle over [`Core`] with the methods that the API calls. [`NodeHandle`] holds one of
//! each; a handler takes only the one that it uses.

use std::sync::Arc;

pub mod account_data;
pub mod accounts;
pub mod acme;
pub mod backup;
pub mod backup_file;
pub mod classic;
pub mod clock;
pub mod config;
mod core;
pub mod delayed;
pub mod directory;
pub mod egress;
mod erasure;
mod error;
pub mod federation;
pub mod filters;
pub mod guard;
pub mod history;
pub mod identity;
mod identity_service;
pub mod inbox;
pub mod introductions;
mod invite_permission;
mod json;
pub mod keys;
pub mod legacy;
pub mod limits;
pub mod links;
pub mod mail;
pub mod media;
pub mod memberships;
mod moments;
pub mod notifications;
pub mod notify;
pub mod openid;
pub mod outbox;
pub mod peers;
pub mod presence;
pub mod previews;
pub mod profile;
pub mod push;
pub mod push_rules;
pub mod pushers;
pub mod receipts;
pub mod reports;
pub mod rooms;
pub mod search;
pub mod shared_rooms;
mod sleep;
pub mod spaces;
pub mod start;
mod supervisor;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod timeline;
pub mod to_device;
pub mod tor;
pub mod turn;
pub mod typing;
pub mod user_directory;

pub use crate::{core::Core, error::Error, supervisor::Supervisor};
pub use millpond_store::{Error as StoreError, rows};

/// The services of a running node. Cloning is cheap.
#[derive(Clone)]
pub struct NodeHandle {
    /// What all services stand on.
    pub core: Core,
    /// Accounts, devices, access tokens, logins.
    pub accounts: accounts::Accounts,
    /// Events that are sent later.
    pub delayed: delayed::Delayed,
    /// The certificate of the TLS door.
    pub acme: acme::Acme,
    /// Aliases and the public list of rooms.
    pub directory: directory::Directory,
    /// Answers to other servers.
    pub federation: federation::Federation,
    /// Links through others.
    pub introductions: introductions::Introductions,
    /// What peers send.
    pub inbox: inbox::Inbox,
    /// Links with other nodes.
    pub links: links::Links,
    /// What comes out of mailboxes.
    pub mail: mail::Mail,
    /// Joining, leaving, inviting, knocking.
    pub memberships: memberships::Memberships,
    /// What is owed to other servers.
    pub outbox: outbox::Outbox,
    /// Other homeservers.
    pub peers: peers::Peers,
    /// Rooms.
    pub rooms: rooms::Rooms,
    /// Key backups.
    pub backups: backup::Backups,
    /// End-to-end encryption keys.
    pub keys: keys::Keys,
    /// To-device messages.
    pub to_device: to_device::ToDevice,
    /// Purging and exporting.
    pub history: history::History,
    /// Who is there.
    pub presence: presence::Presence,
    /// URL previews.
    pub previews: previews::Previews,
    /// How often somebody may ask.
    pub limits: limits::Limits,
    /// Full text search.
    pub search: search::Search,
    /// What clients have not seen yet.
    pub sync: sync::Sync,
    /// Reads of rooms.
    pub timeline: timeline::Timeline,
    /// Account data and tags.
    pub account_data: account_data::AccountData,
    /// Sync filters.
    pub filters: filters::Filters,
    /// Uploads, downloads, thumbnails.
    pub media: media::Media,
    /// Profiles.
    pub profiles: profile::Profiles,
    /// Unread counts.
    pub push: push::Push,
    /// What users were notified about.
    pub notifications: notifications::Notifications,
    /// Proofs of who a user is, for third parties.
    pub openid: openid::OpenId,
    /// Where users are notified.
    pub pushers: pushers::Pushers,
    /// Push rules.
    pub push_rules: push_rules::PushRules,
    /// Receipts and read markers.
    pub receipts: receipts::Receipts,
    /// Who is typing.
    pub typing: typing::Typing,
    /// What users reported.
    pub reports: reports::Reports,
    /// The ways of before `/sync`.
    pub legacy: legacy::Legacy,
    /// Rooms as they look from outside.
    pub spaces: spaces::Spaces,
    /// Finding users.
    pub user_directory: user_directory::UserDirectory,
}

impl NodeHandle {
    /// The services over `core`.
    pub fn new(core: Core) -> Self {
        let links = links::Links::new(core.clone());
        Self::with_links(core, links)
    }

    /// The services over `core`, linked in another way: for tests.
    pub fn with_links(core: Core, links: links::Links) -> Self {
        let peers = peers::Peers::new(core.clone(), links.clone());
        let inbox = inbox::Inbox::new(core.clone(), peers.clone());
        let rooms = rooms::Rooms::new(core.clone());
        let (push, typing) = (push::Push::default(), typing::Typing::new(core.clone()));
        let presence = presence::Presence::new(core.clone());
        let memberships = memberships::Memberships::new(core.clone(), rooms.clone(), peers.clone(), inbox.clone());
        let keys = keys::Keys::new(core.clone(), Arc::new(peers.clone()));
        let profiles = profile::Profiles::new(core.clone(), rooms.clone());
        let media = media::Media::new(core.clone());
        let previews = previews::Previews::new(core.clone(), media.clone());
        let history = history::History::new(core.clone(), media.clone());
        let receipts = receipts::Receipts::new(core.clone());
        let timeline = timeline::Timeline::new(core.clone());
        let sync = sync::Sync::new(core.clone(), typing.clone(), push.clone(), presence.clone());
        let outbox =
            outbox::Outbox::new(core.clone(), peers.clone(), (typing.clone(), presence.clone()), rooms.clone());
        let spaces = spaces::Spaces::new(core.clone(), memberships.clone(), peers.clone());
        let parts = federation::Parts {
            links: links.clone(),
            peers: peers.clone(),
            inbox: inbox.clone(),
            memberships: memberships.clone(),
            keys: keys.clone(),
            profiles: profiles.clone(),
            media: media.clone(),
            receipts: receipts.clone(),
            typing: typing.clone(),
            presence: presence.clone(),
        };
        Self {
            backups: backup::Backups::new(core.clone()),
            federation: federation::Federation::new(core.clone(), parts),
            introductions: introductions::Introductions::new(core.clone(), links.clone(), peers.clone()),
            keys,
            to_device: to_device::ToDevice::new(core.clone()),
            accounts: accounts::Accounts::new(core.clone(), rooms.clone()),
            account_data: account_data::AccountData::new(core.clone()),
            filters: filters::Filters::new(core.clone()),
            media,
            profiles,
            notifications: notifications::Notifications::new(core.clone()),
            openid: openid::OpenId::new(core.clone()),
            pushers: pushers::Pushers::new(core.clone(), push.clone()),
            push_rules: push_rules::PushRules::new(core.clone()),
            receipts,
            memberships,
            inbox,
            mail: mail::Mail::new(core.clone(), links.clone(), peers.clone(), outbox.clone()),
            outbox,
            peers,
            links,
            delayed: delayed::Delayed::new(core.clone(), rooms.clone()),
            rooms,
            acme: acme::Acme::new(core.clone()),
            directory: directory::Directory::new(core.clone()),
            presence,
            previews,
            history,
            limits: limits::Limits::new(core.clock().clone(), core.config().rate_limits),
            search: search::Search::new(core.clone()),
            legacy: legacy::Legacy::new(core.clone(), sync.clone(), timeline.clone()),
            sync,
            push,
            typing,
            reports: reports::Reports::new(core.clone(), timeline.clone()),
            spaces,
            user_directory: user_directory::UserDirectory::new(core.clone()),
            timeline,
            core,
        }
    }

    /// Writes a backup of this node. Dropping the future does not stop it.
    ///
    /// # Errors
    /// 400 with the reason when a file cannot be read or written.
    pub async fn back_up(
        &self,
        to: std::path::PathBuf,
        passphrase: String,
        with_media: bool,
    ) -> Result<backup_file::Summary, Error> {
        let (core, passphrase) = (self.core.clone(), zeroize::Zeroizing::new(passphrase));
        let snapshot = core.snapshot()?;
        let write = move || {
            let name = core.identity().server_name().as_str();
            let from = (&*core.config().data_dir, with_media);
            backup_file::write(&to, &passphrase, from, &snapshot, (name, core.clock().now_ms()))
        };
        let made = tokio::task::spawn_blocking(write).await;
        let made = made.map_err(|e| Error::internal(format!("the backup died: {e}")))?;
        made.map_err(|e| Error::unknown(e.to_string()))
    }

    /// The number of rooms, and of what waits to be sent to each server.
    ///
    /// # Errors
    /// Storage errors.
    pub fn counts(&self) -> Result<(usize, std::collections::BTreeMap<String, u64>), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut waiting = std::collections::BTreeMap::new();
        for row in view.scan(millpond_store::tables::OUTBOX, ())? {
            *waiting.entry(row?.0.0.to_string()).or_default() += 1;
        }
        Ok((view.scan(millpond_store::tables::ROOMS, ())?.count(), waiting))
    }
}
