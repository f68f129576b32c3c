//! `millpond status`.

use http::Method;

use super::{Api, list, text};
use crate::cli::Place;

pub(crate) fn run(place: &Place) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    api.only_looks();
    let status = api.ask(Method::GET, "status", None)?;
    println!("Node      {}", text(&status, "server_name"));
    println!("State     {}", if api.is_running() { "running" } else { "stopped" });
    println!("Version   {}", text(&status, "version"));
    println!("Accounts  {}", status["accounts"]);
    println!("Rooms     {}", status["rooms"]);
    for contact in list(&status, "contacts") {
        let waiting = contact["waiting"].as_u64().unwrap_or(0);
        let waits = if waiting > 0 { format!(", {waiting} waiting to be sent") } else { String::new() };
        let mail = contact.get("mail").filter(|mail| mail.is_object());
        let route = match (contact.get("route").and_then(serde_json::Value::as_str), mail) {
            (Some(route), _) => route,
            (None, Some(mail)) if mail["dormant"] == true => "by mailbox, silent for a month",
            (None, Some(_)) => "by mailbox",
            (None, None) => "not connected",
        };
        println!("Contact   {}  {}, {route}{waits}", text(contact, "name"), text(contact, "state"));
    }
    for mailbox in list(&status, "mailboxes") {
        let host = text(mailbox, "host").get(..16).unwrap_or_default();
        let state = match (mailbox["in_use"] == true, mailbox["announced"] == true) {
            (false, _) => "out of use",
            (true, true) => "open",
            (true, false) => "polled",
        };
        println!("Mailbox   {host}  {}, {state}", text(mailbox, "kind"));
    }
    Ok(())
}
