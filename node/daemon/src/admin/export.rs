//! `millpond export`: a room as its member sees it, in a folder of its own: `room.json` or `index.html`, and `media/`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::{Api, list, text};
use crate::cli::Place;

mod html;

/// What to export.
#[derive(Args)]
pub(crate) struct What {
    /// The room id, like `!abc`
    #[arg(value_name = "ROOM")]
    room: String,
    /// A folder that is not there yet
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Whose room it is; may be left out where there is one account only
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// `json`: the events as clients get them; `html`: a page to read
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `room.json`
    Json,
    /// `index.html`
    Html,
}

/// A room as it was read.
pub(super) struct Room {
    room_id: String,
    state: Vec<Value>,
    /// In the order of the timeline.
    events: Vec<Value>,
    /// Names in `media/`, by address.
    media: BTreeMap<String, String>,
}

pub(crate) fn run(place: &Place, what: &What) -> anyhow::Result<()> {
    let api = Api::open(place)?;
    let user = match &what.user {
        Some(user) => user.clone(),
        None => only_account(&api)?,
    };
    let mut room = read(&api, &user, &what.room)?;
    // Made only now: a room that cannot be read leaves nothing behind.
    private_folder(&what.folder).with_context(|| format!("making the folder {}", what.folder.display()))?;
    let missing = save_media(&api, &mut room, &what.folder)?;
    let (name, bytes) = match what.format {
        Format::Json => ("room.json", json_of(&room)?),
        Format::Html => ("index.html", html::page(&room).into_bytes()),
    };
    write(&what.folder.join(name), &bytes)?;
    println!("Wrote {} events and {} files to {}", room.events.len(), room.media.len(), what.folder.display());
    if missing > 0 {
        println!("{missing} files are not here and could not be fetched from their servers");
    }
    Ok(())
}

fn only_account(api: &Api) -> anyhow::Result<String> {
    let answer = api.ask(Method::GET, "accounts", None)?;
    match list(&answer, "accounts") {
        [account] => Ok(text(account, "user_id").to_owned()),
        _ => anyhow::bail!("say whose room it is with --user NAME"),
    }
}

fn read(api: &Api, user: &str, room_id: &str) -> anyhow::Result<Room> {
    let mut room = Room { room_id: room_id.to_owned(), state: Vec::new(), events: Vec::new(), media: BTreeMap::new() };
    let mut from = Value::Null;
    loop {
        let body = json!({ "user": user, "room": room_id, "from": from });
        let mut page = api.ask(Method::POST, "export", Some(&body)).with_context(|| format!("room {room_id}"))?;
        let mut take = |name: &str| match page[name].take() {
            Value::Array(events) => events,
            _ => Vec::new(),
        };
        room.state.extend(take("state"));
        room.events.extend(take("events"));
        from = page["next"].take();
        if from.is_null() {
            return Ok(room);
        }
    }
}

fn json_of(room: &Room) -> anyhow::Result<Vec<u8>> {
    let Room { room_id, state, events, media } = room;
    Ok(serde_json::to_vec_pretty(&json!({ "room_id": room_id, "events": events, "state": state, "media": media }))?)
}

/// Saves the files that messages show; says how many there are not. What encrypted messages show is known to clients only.
fn save_media(api: &Api, room: &mut Room, folder: &Path) -> anyhow::Result<usize> {
    let mut wanted = BTreeMap::new();
    for event in &room.events {
        let content = &event["content"];
        let shown = [(&content["url"], &content["filename"]), (&content["info"]["thumbnail_url"], &Value::Null)];
        for (uri, filename) in shown {
            if let Some(uri) = uri.as_str().filter(|uri| uri.starts_with("mxc://")) {
                let filename = filename.as_str().or(content["body"].as_str()).unwrap_or_default();
                wanted.entry(uri.to_owned()).or_insert_with(|| (filename.to_owned(), kind(content)));
            }
        }
    }
    let mut missing = 0;
    for (number, (uri, (filename, kind))) in wanted.into_iter().enumerate() {
        let Ok(bytes) = api.bytes(Method::POST, "export/media", Some(&json!({ "uri": uri }))) else {
            missing += 1;
            continue;
        };
        private_folder_if_new(&folder.join("media"))?;
        let name = format!("{:05}{}", number + 1, extension(&filename, &kind));
        write(&folder.join("media").join(&name), &bytes)?;
        room.media.insert(uri, name);
    }
    Ok(missing)
}

fn kind(content: &Value) -> String {
    content["info"]["mimetype"].as_str().unwrap_or_default().to_ascii_lowercase()
}

/// The ending of a file's name, with its dot. What a browser would run as a page of the exported folder gets another one.
fn extension(filename: &str, mimetype: &str) -> String {
    let ending = filename.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let plain =
        |ending: &String| (1..=8).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let known = MIMETYPES.iter().find(|(kind, _)| *kind == mimetype).map(|(_, ending)| (*ending).to_owned());
    match ending.filter(plain).or(known) {
        Some(ending) if PAGES.iter().any(|page| ending.contains(page)) => ".bin".to_owned(),
        Some(ending) => format!(".{ending}"),
        None => ".bin".to_owned(),
    }
}

/// Endings of what browsers run.
const PAGES: [&str; 6] = ["htm", "svg", "xml", "xht", "js", "mht"];
/// Endings for files without one.
const MIMETYPES: [(&str, &str); 8] = [
    ("image/jpeg", "jpg"),
    ("image/png", "png"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
    ("audio/ogg", "ogg"),
    ("audio/mpeg", "mp3"),
];

/// Makes a folder for its owner's eyes; refuses one that is there.
fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn private_folder_if_new(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        private_folder(path).with_context(|| format!("making the folder {}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut open = fs::OpenOptions::new();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let written = open.open(path).and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_ending_unless_a_browser_would_run_it() {
        for (filename, mimetype, ending) in [
            ("a.PDF", "", ".pdf"),
            ("photo", "image/jpeg", ".jpg"),
            ("a.html", "image/png", ".bin"),
            ("a.svg", "", ".bin"),
            ("a.b/../c", "", ".bin"),
            ("a.tar.gz", "", ".gz"),
            ("", "", ".bin"),
        ] {
            assert_eq!(extension(filename, mimetype), ending, "{filename}");
        }
    }
}
