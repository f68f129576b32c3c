//! `millpond status`.

use http::Method;

use super::{Api, list, text};
use crate::cli::Place;

pub(crate) fn run(place: &Place) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    let status = api.ask(Method::GET, "status", None)?;
    println!("Node      {}", text(&status, "server_name"));
    println!("State     {}", if api.is_running() { "running" } else { "stopped" });
    println!("Version   {}", text(&status, "version"));
    println!("Accounts  {}", status["accounts"]);
    println!("Rooms     {}", status["rooms"]);
    for contact in list(&status, "contacts") {
        let waiting = contact["waiting"].as_u64().unwrap_or(0);
        let waits = if waiting > 0 { format!(", {waiting} waiting to be sent") } else { String::new() };
        let route = contact.get("route").and_then(serde_json::Value::as_str).unwrap_or("not connected");
        println!("Contact   {}  {}, {route}{waits}", text(contact, "name"), text(contact, "state"));
    }
    Ok(())
}
