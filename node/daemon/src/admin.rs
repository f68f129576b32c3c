//! Commands. Each is a request to the `/_millpond/v1` API: of the running node, or, when none runs, of this process, which
//! then opens the store itself for the moment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use http::Method;
use http_body_util::BodyExt;
use millpond_node::{NodeHandle, start::StartError};
use serde_json::Value;

use crate::{cli::Place, http1};

pub(crate) mod account;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod contact;
pub(crate) mod export;
pub(crate) mod mailbox;
pub(crate) mod media;
pub(crate) mod purge;
pub(crate) mod report;
mod secret;
pub(crate) mod status;

/// Where a running node writes the address that it listens on.
pub(crate) fn address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("listening_on")
}

/// The address that a node on this data directory wrote down, if somebody listens there.
pub(crate) fn running(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = address_file(data_dir);
    let address = match fs::read_to_string(&path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    // A node that was killed leaves the file behind.
    Ok(std::net::TcpStream::connect(&address).is_ok().then_some(address))
}

/// Whether a node has ever run on this data directory.
pub(crate) fn has_node(data_dir: &Path) -> bool {
    data_dir.join("millpond.redb").exists()
}

/// Refuses a folder without a node, so that a mistyped name does not become one.
pub(crate) fn require_node(data_dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        has_node(data_dir),
        "there is no node in {}: start one with `millpond run`, or name its folder with --data-dir",
        data_dir.display()
    );
    Ok(())
}

/// Whether the node could not be opened because it runs.
pub(crate) fn is_in_use(error: &StartError) -> bool {
    matches!(error, StartError::Store(millpond_store::Error::InUse { .. }))
}

/// The API of a node.
pub(crate) struct Api {
    way: Way,
    token: String,
    runtime: tokio::runtime::Runtime,
}

enum Way {
    Running(String),
    Here(Box<NodeHandle>),
}

impl Api {
    /// The node that runs on this data directory, or the store itself.
    pub(crate) fn open(place: &Place) -> anyhow::Result<Self> {
        let config = place.settings()?.decide()?.node;
        require_node(&config.data_dir)?;
        Self::with(config)
    }

    /// As [`Api::open`]; where there is no node yet, it is made.
    pub(crate) fn open_or_make(place: &Place) -> anyhow::Result<Self> {
        Self::with(place.settings()?.decide()?.node)
    }

    fn with(config: millpond_node::config::Config) -> anyhow::Result<Self> {
        let data_dir = config.data_dir.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Who holds the database is the node; the address alone may be of another program, which must not get the token.
        let way = match millpond_node::start::open(config) {
            Ok(node) => Way::Here(Box::new(node)),
            Err(error) if is_in_use(&error) => Way::Running(running(&data_dir)?.ok_or(error)?),
            Err(error) => return Err(error.into()),
        };
        let token = millpond_node::start::admin_token(&data_dir).context("reading the admin token")?;
        Ok(Self { way, token, runtime })
    }

    /// What follows only looks: a node that is not running calls nobody for it.
    pub(crate) fn only_looks(&self) {
        if let Way::Here(node) = &self.way {
            node.links.stay_offline();
        }
    }

    /// Whether a node is running.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.way, Way::Running(_))
    }

    /// One request; the answer's JSON, or its error message.
    pub(crate) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.bytes(method, path, body)?).unwrap_or_default())
    }

    /// One request; the answer's bytes, or its error message.
    pub(crate) fn bytes(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<bytes::Bytes> {
        let host = match &self.way {
            Way::Running(address) => address.as_str(),
            Way::Here(_) => "localhost",
        };
        let request = http1::request(method, host, &format!("/_millpond/v1/{path}"), Some(&self.token), body)?;
        let exchange = async {
            match &self.way {
                Way::Running(address) => http1::send(address, request).await,
                Way::Here(node) => {
                    let app = millpond_api::App::new((**node).clone());
                    let (head, body) = app.answer(request).await.into_parts();
                    let bytes = body.collect().await.context("reading the answer")?.to_bytes();
                    Ok((head.status, bytes))
                }
            }
        };
        let (status, bytes) = self.runtime.block_on(exchange)?;
        if !status.is_success() {
            let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let message = json.get("error").and_then(Value::as_str).unwrap_or("the node gave no reason");
            anyhow::bail!("{message}");
        }
        Ok(bytes)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // A contact that is just being called hears the end of it.
        if let Way::Here(node) = &self.way {
            self.runtime.block_on(node.links.shutdown());
        }
    }
}

/// A text field of an answer.
pub(crate) fn text<'a>(json: &'a Value, field: &str) -> &'a str {
    json.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A list field of an answer.
pub(crate) fn list<'a>(json: &'a Value, field: &str) -> &'a [Value] {
    json.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
