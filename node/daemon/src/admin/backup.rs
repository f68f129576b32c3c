//! `millpond backup` and `millpond restore`.

use std::path::Path;

use anyhow::Context;
use http::Method;
use serde_json::json;

use super::{Api, secret};
use crate::cli::Place;

/// Writes a backup: by the running node, or, when none runs, by this process.
pub(crate) fn backup(place: &Place, file: &Path, without_media: bool) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    let path = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
    let passphrase = secret::read_new("passphrase")?;
    let body = json!({ "path": path, "passphrase": &*passphrase, "media": !without_media });
    let made = api.ask(Method::POST, "backup", Some(&body)).with_context(|| format!("backup to {}", path.display()))?;
    println!("{}: {} rows, {} media files", path.display(), made["rows"], made["files"]);
    println!("Whoever has this file and its passphrase can be your node: keep them apart.");
    Ok(())
}

/// Restores a backup into a folder without a node.
pub(crate) fn restore(place: &Place, file: &Path) -> anyhow::Result<()> {
    let config = place.settings()?.decide()?.node;
    let passphrase = secret::read("passphrase")?;
    let restored = millpond_node::backup_file::restore(file, &passphrase, &config.data_dir)?;
    println!("Restored {} into {}", restored.server_name, config.data_dir.display());
    println!("{} rows, {} media files", restored.rows, restored.files);
    println!("Never run the old and the restored node both: they would contradict each other.");
    Ok(())
}
