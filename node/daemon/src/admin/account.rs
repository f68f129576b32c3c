//! `millpond account`.

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{Api, list, secret, text};
use crate::cli::Place;

/// What to do with an account.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make an account; the password is asked for, or read from the first line of standard input
    Create {
        /// The local part (`alice`) or the whole user id
        name: String,
        /// May use admin calls (the first account always may)
        #[arg(long)]
        admin: bool,
    },
    /// List the accounts
    List,
    /// Set a new password and log all devices out
    Password {
        /// The local part or the whole user id
        name: String,
    },
    /// Close an account for good
    Deactivate {
        /// The local part or the whole user id
        name: String,
        /// Ask the rooms' servers to hide what the account wrote
        #[arg(long)]
        erase: bool,
    },
    /// Make an account an administrator's, or with --off an ordinary one again
    Admin(Switch),
    /// Lock an account: until --off it can do nothing but log out
    Lock(Switch),
    /// Suspend an account: until --off it can read and leave, and not take part
    Suspend(Switch),
    /// Make an access token for a new device of an account, for scripts and bots
    Token {
        /// The local part or the whole user id
        name: String,
    },
}

/// Something of an account that is on or off.
#[derive(Args)]
pub(crate) struct Switch {
    /// The local part or the whole user id
    name: String,
    /// Take it back
    #[arg(long)]
    off: bool,
}

pub(crate) fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let api = match &command {
        Command::Create { .. } => Api::open_or_make(place)?,
        _ => Api::open(place)?,
    };
    let ask = |path: &str, name: &str, body| {
        api.ask(Method::POST, path, Some(&body)).with_context(|| format!("account `{name}`"))
    };
    match command {
        Command::Create { name, admin } => {
            let body = json!({ "name": name, "password": &*secret::read_new("password")?, "admin": admin });
            let made = ask("accounts", &name, body)?;
            println!("Made {}", text(&made, "user_id"));
        }
        Command::List => {
            for account in list(&api.ask(Method::GET, "accounts", None)?, "accounts") {
                let flags = ["admin", "deactivated", "locked", "suspended"];
                let flags = flags.into_iter().filter(|flag| account[*flag] == true).map(|flag| format!("  {flag}"));
                println!("{}{}", text(account, "user_id"), flags.collect::<String>());
            }
        }
        Command::Password { name } => {
            let body = json!({ "name": name, "password": &*secret::read_new("password")? });
            let done = ask("accounts/password", &name, body)?;
            println!("{} has a new password; all its devices are logged out", text(&done, "user_id"));
        }
        Command::Deactivate { name, erase } => {
            let done = ask("accounts/deactivate", &name, json!({ "name": name, "erase": erase }))?;
            println!("{} is deactivated", text(&done, "user_id"));
        }
        Command::Admin(Switch { name, off }) => {
            let done = ask("accounts/mark", &name, json!({ "name": name, "admin": !off }))?;
            let now = if off { "an ordinary account" } else { "an administrator" };
            println!("{} is {now}", text(&done, "user_id"));
        }
        Command::Lock(Switch { name, off }) => {
            let done = ask("accounts/mark", &name, json!({ "name": name, "locked": !off }))?;
            println!("{} is {}", text(&done, "user_id"), if off { "unlocked" } else { "locked" });
        }
        Command::Suspend(Switch { name, off }) => {
            let done = ask("accounts/mark", &name, json!({ "name": name, "suspended": !off }))?;
            println!("{} is {}", text(&done, "user_id"), if off { "not suspended any more" } else { "suspended" });
        }
        Command::Token { name } => {
            let made = ask("accounts/token", &name, json!({ "name": name }))?;
            println!("{}", text(&made, "access_token"));
            eprintln!("for device {} of {}", text(&made, "device_id"), text(&made, "user_id"));
        }
    }
    Ok(())
}
