//! `millpond report`: what users reported to the node's owner.

use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::{Api, list, text};
use crate::cli::Place;

/// What to do with reports.
#[derive(Subcommand, Default)]
pub(crate) enum Command {
    /// Show all reports (what `millpond report` alone does too)
    #[default]
    List,
    /// Remove a report that was dealt with
    Remove {
        /// Its number
        number: u64,
    },
}

pub(crate) fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    match command {
        Command::List => {
            for report in list(&api.ask(Method::GET, "reports", None)?, "reports") {
                let about = ["user_id", "event_id", "room_id"].map(|name| text(report, name));
                let about: Vec<_> = about.iter().filter(|part| !part.is_empty()).map(ToString::to_string).collect();
                println!("{}  {} about {}", report["number"], text(report, "reporter"), about.join(" in "));
                println!("    {}", text(report, "reason").escape_debug());
            }
        }
        Command::Remove { number } => {
            api.ask(Method::POST, "reports/remove", Some(&json!({ "number": number })))?;
            println!("Report {number} is removed");
        }
    }
    Ok(())
}
