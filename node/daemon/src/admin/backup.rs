//! `millpond backup` and `millpond restore`.

use std::{io::IsTerminal, path::Path};

use anyhow::Context;
use http::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::Api;
use crate::cli::Place;

/// Writes a backup: by the running node, or, when none runs, by this process.
pub(crate) fn backup(place: &Place, file: &Path, without_media: bool) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    let path = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
    let passphrase = read_passphrase(true)?;
    let body = json!({ "path": path, "passphrase": &*passphrase, "media": !without_media });
    let made = api.ask(Method::POST, "backup", Some(&body)).with_context(|| format!("backup to {}", path.display()))?;
    println!("{}: {} rows, {} media files", path.display(), made["rows"], made["files"]);
    println!("Whoever has this file and its passphrase can be your node: keep them apart.");
    Ok(())
}

/// Restores a backup into a folder without a node.
pub(crate) fn restore(place: &Place, file: &Path) -> anyhow::Result<()> {
    let config = place.settings()?.decide()?.node;
    let passphrase = read_passphrase(false)?;
    let restored = millpond_node::backup_file::restore(file, &passphrase, &config.data_dir)?;
    println!("Restored {} into {}", restored.server_name, config.data_dir.display());
    println!("{} rows, {} media files", restored.rows, restored.files);
    println!("Never run the old and the restored node both: they would contradict each other.");
    Ok(())
}

/// A passphrase is asked for, twice for a new backup, or read from the first line of standard input.
fn read_passphrase(new: bool) -> anyhow::Result<Zeroizing<String>> {
    let asks = std::io::stdin().is_terminal();
    let first = line(if asks { "Passphrase: " } else { "" })?;
    anyhow::ensure!(!first.is_empty(), "no passphrase on standard input");
    if asks && new {
        anyhow::ensure!(*line("Once more: ")? == *first, "the passphrases differ");
    }
    Ok(first)
}

fn line(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    eprint!("{prompt}");
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut text)?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
