//! `millpond contact`: making links with other nodes.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{Api, list, text};
use crate::cli::Place;

/// What to do with contacts. Without one: show a new contact link.
#[derive(Default, Subcommand)]
pub(crate) enum Command {
    /// Show a new contact link and its QR code; hand it to one person in private
    #[default]
    Show,
    /// Add the contact whose link you were given
    Add {
        /// The link (`millpond:...`)
        link: String,
    },
    /// Confirm who answered your link, after comparing the name with him
    Confirm {
        /// The node's name
        name: String,
    },
    /// List the contacts
    List,
    /// End the link with a contact
    Remove {
        /// The node's name
        name: String,
    },
}

pub(crate) fn run(place: &Place, command: Command) -> anyhow::Result<()> {
    let api = match &command {
        Command::Show | Command::Add { .. } => Api::open_or_make(place)?,
        _ => Api::open(place)?,
    };
    match command {
        Command::Show => show(&api),
        Command::Add { link } => {
            let by_mail = !list(&api.ask(Method::GET, "mailboxes", None)?, "mailboxes").is_empty();
            if !by_mail {
                eprintln!("Your contact will see the network address of this device.");
            }
            let added = api.ask(Method::POST, "contacts/add", Some(&json!({ "link": link })))?;
            println!("Added: {}. It is ready when the other side has confirmed.", text(&added, "fingerprint"));
            Ok(())
        }
        Command::Confirm { name } => {
            api.ask(Method::POST, "contacts/confirm", Some(&json!({ "name": name })))?;
            println!("Confirmed {name}");
            Ok(())
        }
        Command::List => {
            api.only_looks();
            print_list(&api.ask(Method::GET, "contacts", None)?);
            Ok(())
        }
        Command::Remove { name } => {
            api.ask(Method::POST, "contacts/remove", Some(&json!({ "name": name })))?;
            println!("Removed {name}");
            Ok(())
        }
    }
}

fn show(api: &Api) -> anyhow::Result<()> {
    let made = api.ask(Method::POST, "contacts/link", None)?;
    let addresses = list(&made, "addresses");
    match addresses.is_empty() {
        true => {
            eprintln!("Who has this link can be your contact, once, within 14 days; he is answered by your mailboxes.")
        }
        false if addresses.iter().all(|address| address.as_str().is_some_and(|text| text.starts_with("/onion3/"))) => {
            eprintln!(
                "Who has this link can be your contact, once, within 14 days - and sees at this onion service when this node is \
                 on, not where:"
            )
        }
        false => eprintln!(
            "Who has this link can be your contact, once, within 14 days - and sees these addresses of this device:"
        ),
    }
    for address in addresses {
        eprintln!("  {}", address.as_str().unwrap_or_default());
    }
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        let qr = fast_qr::QRBuilder::new(text(&made, "link")).build();
        println!("{}", qr.map_err(|e| anyhow::anyhow!("making the QR code: {e:?}"))?.to_str());
    }
    println!("{}", text(&made, "link"));
    eprintln!("When it is answered, compare the name and run `millpond contact confirm NAME`.");
    if !api.is_running() {
        eprintln!("Start the node (`millpond run`), so that the answer can reach it.");
    }
    Ok(())
}

fn print_list(answer: &Value) {
    let contacts = list(answer, "contacts");
    if contacts.is_empty() {
        println!("No contacts. `millpond contact` shows a link for a friend.");
    }
    for contact in contacts {
        let name = contact.get("name").and_then(Value::as_str).unwrap_or("(nobody has answered)");
        let server = contact.get("server_name").and_then(Value::as_str);
        let proven = contact.get("name_proven").and_then(Value::as_bool) == Some(true);
        let server = match server {
            Some(server) if proven => format!("  {server}"),
            Some(server) => format!("  says it is {server}, which is not proven"),
            None => String::new(),
        };
        println!("{name}  {}  {}{server}", text(contact, "state"), text(contact, "class"));
    }
}
