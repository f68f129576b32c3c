//! One of the demo's nodes: as `millpond run` has it, on ports of 127.0.0.1 that are free.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use http::Method;
use millpond_node::{NodeHandle, config::Config, config::Direct};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::MissedTickBehavior};

use super::client::Caller;
use crate::{admin, serving::Serving};

/// A node that can be stopped and started again on the same data.
pub(super) struct Node {
    data_dir: PathBuf,
    running: Option<Running>,
}

struct Running {
    node: NodeHandle,
    serving: Serving,
    admin: Caller,
}

/// Pause between two looks at something that no request waits for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Node {
    /// A node that is not running yet.
    pub(super) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, running: None }
    }

    /// Starts it; the database of a stopped one may take a moment to be let go.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("opening a port")?;
        let address = listener.local_addr().context("reading the port that was opened")?.to_string();
        let direct = Direct { addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..Direct::default() };
        let config =
            Config { client_base_url: format!("http://{address}"), direct, ..Config::new(self.data_dir.clone()) };
        let node = self.open(config).await?;
        let token = millpond_node::start::admin_token(&self.data_dir).context("reading the admin token")?;
        let serving = Serving::start(&node, listener, Vec::new()).await?;
        let admin = Caller { address, token: Some(token) };
        self.running = Some(Running { node, serving, admin });
        Ok(())
    }

    async fn open(&self, config: Config) -> anyhow::Result<NodeHandle> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            match millpond_node::start::open(config.clone()) {
                Err(error) if admin::is_in_use(&error) => {}
                outcome => return outcome.context("opening a node"),
            }
        }
    }

    /// Stops it in order; the data stays.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(Running { serving, .. }) => serving.stop().await,
            None => Ok(()),
        }
    }

    /// Where it answers.
    pub(super) fn address(&self) -> anyhow::Result<&str> {
        Ok(&self.running()?.admin.address)
    }

    /// Its name.
    pub(super) fn name(&self) -> anyhow::Result<String> {
        Ok(self.running()?.node.core.identity().server_name().to_string())
    }

    /// The token with which clients register.
    pub(super) fn registration_token(&self) -> anyhow::Result<String> {
        Ok(self.running()?.node.core.config().registration_token.clone())
    }

    /// `millpond contact`.
    pub(super) async fn offer(&self) -> anyhow::Result<String> {
        let made = self.admin()?.call(Method::POST, "/_millpond/v1/contacts/link", None).await?;
        Ok(admin::text(&made, "link").to_owned())
    }

    /// `millpond contact add LINK`.
    pub(super) async fn add(&self, link: &str) -> anyhow::Result<()> {
        let link = json!({ "link": link });
        self.admin()?.call(Method::POST, "/_millpond/v1/contacts/add", Some(&link)).await.map(drop)
    }

    /// `millpond contact confirm NAME`.
    pub(super) async fn confirm(&self, name: &str) -> anyhow::Result<()> {
        let name = json!({ "name": name });
        self.admin()?.call(Method::POST, "/_millpond/v1/contacts/confirm", Some(&name)).await.map(drop)
    }

    /// Waits until the contact of that name is in that state (`millpond contact list`).
    pub(super) async fn until_contact(&self, name: &str, state: &str) -> anyhow::Result<()> {
        let is_so = |contact: &Value| admin::text(contact, "name") == name && admin::text(contact, "state") == state;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let contacts = self.admin()?.call(Method::GET, "/_millpond/v1/contacts", None).await?;
            if admin::list(&contacts, "contacts").iter().any(is_so) {
                return Ok(());
            }
        }
    }

    /// How much waits to be sent to a contact (`millpond status`).
    pub(super) async fn waiting_for(&self, name: &str) -> anyhow::Result<u64> {
        let status = self.admin()?.call(Method::GET, "/_millpond/v1/status", None).await?;
        let contact = admin::list(&status, "contacts").iter().find(|contact| admin::text(contact, "name") == name);
        contact.and_then(|contact| contact["waiting"].as_u64()).context("the status does not list the contact")
    }

    fn admin(&self) -> anyhow::Result<&Caller> {
        Ok(&self.running()?.admin)
    }

    fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("the node is not running")
    }
}
