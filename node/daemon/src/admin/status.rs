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
    if let Some(tor) = status.get("tor").filter(|tor| tor.is_object() && text(tor, "state") != "idle") {
        let state = text(tor, "state");
        let percent = if state == "starting" { format!(", {} %", tor["percent"]) } else { String::new() };
        let why = tor["why"].as_str().map(|why| format!(" - what goes over it waits: {why}")).unwrap_or_default();
        println!("Tor       {state}{percent}{why}");
    }
    for room in list(&status, "joining") {
        let from = room["asked"].as_str().map(|server| format!(" from {server}")).unwrap_or_default();
        let far = match room["of"].as_u64() {
            Some(of) if of > 0 => format!(", {} of {of} events", room["events"]),
            _ => String::new(),
        };
        let failed = match room["failed"].as_u64() {
            Some(failed) if failed > 0 => format!("; tried {failed} times in vain, and tried again"),
            _ => String::new(),
        };
        println!("Joining   {}  in use, its members are being fetched{from}{far}{failed}", text(room, "room_id"));
    }
    for refused in list(&status, "refused") {
        let (server, said) = (text(refused, "server"), text(refused, "said"));
        println!(
            "Refused   {server}  {} things that it is owed, tried again at the next start; it said {}: {said}",
            refused["count"], refused["status"]
        );
    }
    for contact in list(&status, "contacts") {
        let waiting = contact["waiting"].as_u64().unwrap_or(0);
        let waits = if waiting > 0 { format!(", {waiting} waiting to be sent") } else { String::new() };
        let mail = contact.get("mail").filter(|mail| mail.is_object());
        let route = match (contact.get("route").and_then(serde_json::Value::as_str), mail) {
            (Some(route), _) => route,
            (None, Some(mail)) if mail["dormant"] == true => "by mailbox, silent for a month",
            (None, Some(_)) => "by mailbox",
            (None, None) if contact["hidden"] == true => "waits: it has addresses only that would show this node's own",
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
        let route = if mailbox["onion"] == true { ", by Tor" } else { "" };
        println!("Mailbox   {host}  {}, {state}{route}", text(mailbox, "kind"));
    }
    Ok(())
}
