//! From settings to the node's configuration: defaults, ranges, and what must stand together.

use std::path::PathBuf;

use anyhow::Context;
use millpond_node::{
    config::{Config, Direct, MailMode, Registration, RoomId, Support, Turn},
    history::retention,
    media::Keep,
};
use millpond_overlay::transport::Address;

use super::{Pace, Settings, Who, bytes, lasting};

impl Settings {
    /// What the node is told, but for its name in the DNS.
    pub(super) fn node(&self, data_dir: PathBuf) -> anyhow::Result<Config> {
        let mut node = Config::new(data_dir);
        self.accounts(&mut node)?;
        self.routes(&mut node)?;
        self.history(&mut node)?;
        node.blocked = self.block.iter().flatten().cloned().collect();
        node.policy_lists = self.policy_lists()?;
        node.policy_server = self.policy_server.unwrap_or(false);
        node.turn = self.turn()?;
        node.livekit = self.livekit()?;
        node.support = self.support()?;
        node.allowed_hosts = self.hosts.clone().unwrap_or_default();
        node.rate_limits = self.rate_limits.unwrap_or(true);
        if let Some(mib) = self.cache_mib {
            node.store_cache_bytes = usize::try_from(bytes("cache-mib", mib)?).context("cache-mib")?;
        }
        Ok(node)
    }

    fn accounts(&self, node: &mut Config) -> anyhow::Result<()> {
        node.registration = match self.registration.unwrap_or(Who::Token) {
            Who::Token => Registration::Token,
            Who::Open => Registration::Open,
            Who::Closed => Registration::Closed,
        };
        node.registration_token = self.registration_token.clone().unwrap_or_default();
        node.registration_shared_secret = self.registration_shared_secret.clone();
        node.identity_server = self.identity_server()?;
        node.identity_token = self.identity_token.clone();
        node.single_sign_on = self.single_sign_on.unwrap_or(false);
        node.registration_terms = self.registration_terms.clone().unwrap_or_default();
        Ok(())
    }

    fn routes(&self, node: &mut Config) -> anyhow::Result<()> {
        node.direct = Direct {
            port: self.direct_port,
            addresses: self.direct_addresses.clone().unwrap_or_default(),
            visible_nearby: self.visible_nearby.unwrap_or(false),
            relays: self.direct_relays.clone().unwrap_or_default(),
            peer_key: None,
        };
        for relay in &node.direct.relays {
            Address::parse(relay).with_context(|| format!("direct-relays = {relay:?}"))?;
        }
        node.tor = self.tor.decide()?;
        node.mail_mode = match self.mode.unwrap_or(Pace::Instant) {
            Pace::Instant => MailMode::Instant,
            Pace::Paced => MailMode::Paced { mains: true },
        };
        node.tor.sparing = node.mail_mode != MailMode::Instant;
        node.accept_mailboxes = self.accept_mailboxes;
        node.egress.allow = self.allow_networks.clone().unwrap_or_default();
        node.egress.roots = self.trust_certificates.clone().unwrap_or_default();
        Ok(())
    }

    fn history(&self, node: &mut Config) -> anyhow::Result<()> {
        let days = |days: u32| u64::from(days) * 86_400_000;
        node.retention = retention::Settings {
            by_room: self.room_retention.unwrap_or(true),
            default_ms: self.retention_days.map(|kept| lasting("retention-days", kept)).transpose()?.map(days),
            min_ms: self.retention_min_days.map_or(0, days),
        };
        if let Some(mib) = self.max_upload_mib {
            node.max_upload_bytes = bytes("max-upload-mib", mib)?;
        }
        node.url_previews = self.url_previews.unwrap_or(false);
        node.strip_metadata = self.strip_metadata.unwrap_or(false);
        node.keep_remote_media = Keep {
            age_ms: self.remote_media_days.map(|kept| lasting("remote-media-days", kept)).transpose()?.map(days),
            bytes: self.remote_media_mib.map(|mib| bytes("remote-media-mib", mib)).transpose()?,
        };
        Ok(())
    }

    fn identity_server(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = self.identity_server.clone() else { return Ok(None) };
        // One on this machine needs no TLS; it is asked only if `allow-networks` has this machine.
        let here = url.strip_prefix("http://").is_some_and(|host| host.starts_with("127.0.0.1:"));
        anyhow::ensure!(here || url.starts_with("https://"), "identity-server = {url:?}: allowed is https://host");
        Ok(Some(url))
    }

    fn policy_lists(&self) -> anyhow::Result<Vec<RoomId>> {
        let room = |text: &String| {
            RoomId::try_from(text.as_str())
                .with_context(|| format!("policy-lists = {text:?}: allowed is a room id, like !id"))
        };
        self.policy_lists.iter().flatten().map(room).collect()
    }

    fn support(&self) -> anyhow::Result<Support> {
        let user = self.support_matrix_id.as_deref().map(|user| {
            let parsed = user.try_into();
            parsed.map_err(|e| {
                anyhow::anyhow!("support-matrix-id = {user:?}: allowed is a user id like @alice:host ({e})")
            })
        });
        let (page, email) = (self.support_page.clone(), self.support_email.clone());
        Ok(Support { page, email, matrix_id: user.transpose()? })
    }

    /// Where clients reach the node from outside: its host is answered under, and its URL is what they are told.
    pub(super) fn public_url(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = self.public_url.clone() else { return Ok(None) };
        let parsed = url.parse::<http::Uri>().ok();
        let fits = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some() && uri.query().is_none()
        });
        anyhow::ensure!(fits, "public-url = {url:?}: allowed is a URL like https://matrix.example.org");
        Ok(Some(url.trim_end_matches('/').to_owned()))
    }

    fn livekit(&self) -> anyhow::Result<Vec<String>> {
        let urls = self.livekit.clone().unwrap_or_default();
        for url in &urls {
            anyhow::ensure!(url.starts_with("https://"), "livekit = {url:?}: allowed is https://host/path");
        }
        Ok(urls)
    }

    fn turn(&self) -> anyhow::Result<Option<Turn>> {
        match (self.turn_uris.clone().filter(|uris| !uris.is_empty()), self.turn_secret.clone()) {
            (None, None) => Ok(None),
            (Some(uris), Some(secret)) => {
                let ttl_secs = self.turn_ttl.unwrap_or(86_400);
                anyhow::ensure!(
                    (60..=MONTH_SECS).contains(&ttl_secs),
                    "turn-ttl = {ttl_secs}: allowed are 60 to {MONTH_SECS} (seconds)"
                );
                Ok(Some(Turn { uris, secret, ttl_secs }))
            }
            (Some(_), None) => {
                anyhow::bail!("turn-uris needs turn-secret beside it: the secret shared with that server")
            }
            (None, Some(_)) => {
                anyhow::bail!("turn-secret needs turn-uris beside it, e.g. [\"turn:turn.example:3478\"]")
            }
        }
    }
}

/// Thirty days: a credential that lives longer is no time-limited one.
const MONTH_SECS: u64 = 30 * 86_400;
