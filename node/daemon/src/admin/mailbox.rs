//! `millpond mailbox`: where this node's mail waits while it sleeps.

use anyhow::Context;
use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::{Api, list, text};
use crate::cli::Place;

/// What to do with mailboxes.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a mailbox at a host; two, at hosts of different people, are what a node should have
    Add {
        /// The host's link (`millpond-host:...`)
        link: String,
        /// The token that its operator gave you; good once
        token: String,
    },
    /// Make a mailbox at the host of a contact who offers it (`list` shows who does)
    Accept {
        /// The contact's node
        name: String,
    },
    /// List the mailboxes, and who offers to keep one
    List,
    /// Make a mailbox at another host, and take the one at a host out of use; it is read until it closes
    Move {
        /// The host to leave: the beginning of its key, as `list` shows it
        from: String,
        /// The other host's link
        link: String,
        /// The token of its operator
        token: String,
    },
}

pub(crate) fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let api = match &command {
        Command::Add { .. } => Api::open_or_make(place)?,
        _ => Api::open(place)?,
    };
    match command {
        Command::Add { link, token } => {
            api.ask(Method::POST, "mailboxes", Some(&json!({ "link": link, "token": token })))?;
            println!("Made. Contacts hear of it with the next messages.");
        }
        Command::Accept { name } => {
            api.ask(Method::POST, "mailboxes/accept", Some(&json!({ "name": name })))?;
            println!("Made. Contacts hear of it with the next messages.");
        }
        Command::List => {
            let found = api.ask(Method::GET, "mailboxes", None)?;
            for mailbox in list(&found, "mailboxes") {
                let host = text(mailbox, "host").get(..16).unwrap_or_default();
                let state = if mailbox["in_use"] == true { "in use" } else { "out of use" };
                println!("{host}  {}, {state}", text(mailbox, "kind"));
            }
            for offer in list(&found, "offers").iter().filter(|offer| offer["in_use"] == false) {
                let host = text(offer, "host").get(..16).unwrap_or_default();
                let place = if offer["onion"] == true { "an onion service" } else { "an IP address" };
                println!("{host}  offered by {} at {place}: millpond mailbox accept NAME", text(offer, "name"));
            }
        }
        Command::Move { from, link, token } => {
            let wanted = json!({ "link": link, "token": token, "from": from });
            api.ask(Method::POST, "mailboxes", Some(&wanted)).context("nothing was moved")?;
            println!("Moved. What still comes to the old one is read until it closes.");
        }
    }
    Ok(())
}
