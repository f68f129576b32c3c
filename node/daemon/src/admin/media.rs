//! `millpond media`.

use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::Api;
use crate::cli::Place;

/// What to do with a file.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Give it to nobody any more; one of another server is not fetched either
    Quarantine {
        /// Its address, like mxc://server/id
        uri: String,
    },
    /// Give it free again
    Release {
        /// Its address, like mxc://server/id
        uri: String,
    },
}

pub(crate) fn run(place: &Place, command: &Command) -> anyhow::Result<()> {
    let (uri, withheld) = match command {
        Command::Quarantine { uri } => (uri, true),
        Command::Release { uri } => (uri, false),
    };
    Api::open(place)?.ask(Method::POST, "media/quarantine", Some(&json!({ "uri": uri, "withheld": withheld })))?;
    println!("{uri} is {}", if withheld { "withheld" } else { "free" });
    Ok(())
}
