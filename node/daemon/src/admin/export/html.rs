//! A room as one HTML page, to be read without a network and without scripts. Every text that somebody wrote is escaped.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde_json::Value;

use super::Room;

/// The page.
pub(super) fn page(room: &Room) -> String {
    let mut page = Page { room, names: HashMap::new(), reactions: reactions(&room.events), day: String::new() };
    let entry = |kind: &str, field: &str| {
        let event = room.state.iter().find(|event| event["type"] == kind && event["state_key"] == "");
        event.and_then(|event| event["content"][field].as_str()).unwrap_or_default().to_owned()
    };
    let (name, topic) = (entry("m.room.name", "name"), entry("m.room.topic", "topic"));
    let name = if name.is_empty() { &room.room_id } else { &name };
    let mut out = String::new();
    out.push_str("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\">\n");
    out.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src 'self' file:; media-src 'self' file:\">\n",
    );
    out.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n");
    let _ = write!(out, "<title>{}</title>\n<style>{STYLE}</style></head>\n<body>\n", escaped(name));
    let _ = writeln!(
        out,
        "<h1>{}</h1>\n<p>{}</p>\n<p><code>{}</code></p>",
        escaped(name),
        escaped(&topic),
        escaped(&room.room_id)
    );
    for event in &room.events {
        page.event(&mut out, event);
    }
    out.push_str("</body></html>\n");
    out
}

struct Page<'r> {
    room: &'r Room,
    /// What users were called at this point of the timeline.
    names: HashMap<String, String>,
    /// By the event that they are to: the keys and how often.
    reactions: HashMap<String, BTreeMap<String, usize>>,
    day: String,
}

impl Page<'_> {
    fn event(&mut self, out: &mut String, event: &Value) {
        let (kind, content) = (text(&event["type"]), &event["content"]);
        if kind == "m.room.member" {
            self.member(out, event);
            return;
        }
        // Edits are shown where the edited message is, reactions below theirs.
        if content["m.relates_to"]["rel_type"] == "m.replace" || kind == "m.reaction" || kind == "m.room.redaction" {
            return;
        }
        let Some(line) = self.line(event) else { return };
        self.head(out, event);
        let _ = writeln!(out, "{line}{}</div>", self.reactions_to(event));
    }

    /// The time and the sender.
    fn head(&mut self, out: &mut String, event: &Value) {
        let (day, time) = clock(event["origin_server_ts"].as_u64().unwrap_or_default());
        if day != self.day {
            let _ = writeln!(out, "<h2>{day}</h2>");
            self.day = day;
        }
        let sender = text(&event["sender"]);
        let name = self.names.get(sender).map_or(sender, String::as_str);
        let _ = write!(
            out,
            "<div class=\"event\" id=\"{}\"><span class=\"time\">{time}</span> <b title=\"{}\">{}</b> ",
            escaped(text(&event["event_id"])),
            escaped(sender),
            escaped(name)
        );
    }

    fn member(&mut self, out: &mut String, event: &Value) {
        let (content, user) = (&event["content"], text(&event["state_key"]));
        let (before, membership) = (&event["unsigned"]["prev_content"], text(&content["membership"]));
        let name = content["displayname"].as_str().unwrap_or(user).to_owned();
        let said = match (text(&before["membership"]), membership) {
            ("join", "join") => format!("is now called {}", escaped(&name)),
            (_, "join") => "joined".to_owned(),
            (_, "leave") if text(&event["sender"]) == user => "left".to_owned(),
            (_, other) => format!("{}: {}", escaped(other), escaped(user)),
        };
        if membership == "join" {
            self.names.insert(user.to_owned(), name);
        }
        self.head(out, event);
        let _ = writeln!(out, "<i>{said}</i></div>");
    }

    /// What an event says, as HTML; nothing for state that is for clients only.
    fn line(&self, event: &Value) -> Option<String> {
        let content = match &event["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"] {
            edited @ Value::Object(_) => edited,
            _ => &event["content"],
        };
        let state = |what: &str, value: &Value| Some(format!("<i>{what} {}</i>", escaped(text(value))));
        match text(&event["type"]) {
            _ if !event["unsigned"]["redacted_because"].is_null() => Some("<i>removed</i>".to_owned()),
            "m.room.encrypted" => Some("<i>encrypted: only clients have the key</i>".to_owned()),
            "m.room.message" | "m.sticker" => Some(self.message(content)),
            "m.room.create" => Some("<i>made the room</i>".to_owned()),
            "m.room.name" => state("named the room", &content["name"]),
            "m.room.topic" => state("set the topic", &content["topic"]),
            _ if !event["state_key"].is_null() => None,
            _ => content["body"].as_str().map(|body| format!("<p>{}</p>", escaped(body))),
        }
    }

    fn message(&self, content: &Value) -> String {
        let body = escaped(text(&content["body"]));
        let file = content["url"].as_str().and_then(|uri| self.room.media.get(uri));
        let source = file.map(|name| format!("media/{}", escaped(name)));
        match (text(&content["msgtype"]), source) {
            ("m.image", Some(source)) => format!("<p><img src=\"{source}\" alt=\"{body}\"></p>"),
            ("", Some(source)) => format!("<p><img src=\"{source}\" alt=\"{body}\"></p>"),
            ("m.video", Some(source)) => format!("<p><video controls src=\"{source}\"></video><br>{body}</p>"),
            ("m.audio", Some(source)) => format!("<p><audio controls src=\"{source}\"></audio><br>{body}</p>"),
            (_, Some(source)) => format!("<p><a download href=\"{source}\">{body}</a></p>"),
            ("m.emote", None) => format!("<i>{body}</i>"),
            (_, None) => format!("<p>{body}</p>"),
        }
    }

    fn reactions_to(&self, event: &Value) -> String {
        let Some(keys) = self.reactions.get(text(&event["event_id"])) else { return String::new() };
        let shown = keys.iter().map(|(key, times)| format!("{} {times}", escaped(key)));
        format!("<p class=\"reactions\">{}</p>", shown.collect::<Vec<_>>().join(" &middot; "))
    }
}

fn reactions(events: &[Value]) -> HashMap<String, BTreeMap<String, usize>> {
    let mut found: HashMap<String, BTreeMap<String, usize>> = HashMap::new();
    for event in events.iter().filter(|event| event["type"] == "m.reaction") {
        let relation = &event["content"]["m.relates_to"];
        if let (Some(to), Some(key)) = (relation["event_id"].as_str(), relation["key"].as_str()) {
            *found.entry(to.to_owned()).or_default().entry(key.to_owned()).or_default() += 1;
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text that cannot end an element or an attribute, with its line breaks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#10;"),
            other => out.push(other),
        }
    }
    out
}

/// Day and time of day, in UTC.
fn clock(ms: u64) -> (String, String) {
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years that begin in March; 146,097 days are the 400 years after which the calendar repeats.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    (format!("{year:04}-{month:02}-{day_of_month:02}"), format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60))
}

const STYLE: &str = "body{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em;line-height:1.4}\
h2{font-size:1em;border-bottom:1px solid #ccc;margin-top:2em}.time{color:#777;font-size:.8em}\
.event{margin:.4em 0}.event p{margin:.2em 0 0 3.5em;white-space:pre-wrap;overflow-wrap:anywhere}\
.reactions{color:#555;font-size:.9em}img,video{max-width:100%;max-height:30em}i{color:#555}";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room(events: Value) -> Room {
        let Value::Array(events) = events else { panic!("a list") };
        let media = BTreeMap::from([("mxc://a/b".to_owned(), "00001.png".to_owned())]);
        Room { room_id: "!r".to_owned(), state: Vec::new(), events, media }
    }

    #[test]
    fn what_somebody_wrote_is_text_and_nothing_else() {
        let evil = "<script>alert(1)</script>\" onload='x' &amp;";
        let page = page(&room(json!([
            { "type": "m.room.member", "sender": "@e", "state_key": "@e", "content": { "membership": "join", "displayname": evil } },
            { "type": "m.room.message", "sender": "@e", "event_id": evil, "content": { "msgtype": "m.text", "body": evil } },
            { "type": "m.room.message", "sender": "@e", "content": { "msgtype": "m.image", "body": evil, "url": "mxc://a/b" } },
            { "type": "m.room.name", "sender": evil, "state_key": "", "content": { "name": evil } },
            { "type": "m.reaction", "sender": "@e", "content": { "m.relates_to": { "event_id": evil, "key": evil } } },
        ])));
        assert!(!page.contains("<script") && !page.contains("onload='x'"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 10, "{page}");
        assert!(page.contains("<img src=\"media/00001.png\""));
    }

    #[test]
    fn edits_are_shown_in_place_redactions_as_removed_and_names_as_they_were() {
        let edit = json!({ "m.relations": { "m.replace": { "content": { "m.new_content": { "msgtype": "m.text", "body": "right" } } } } });
        let join = |name: &str| json!({ "type": "m.room.member", "sender": "@e", "state_key": "@e", "content": { "membership": "join", "displayname": name } });
        let say = |body: &str, unsigned: &Value| json!({ "type": "m.room.message", "sender": "@e", "event_id": body, "unsigned": unsigned, "content": { "msgtype": "m.text", "body": body } });
        let page = page(&room(json!([
            join("First"),
            say("wrong", &edit),
            join("Second"),
            say("gone", &json!({ "redacted_because": {} })),
            say("last", &Value::Null),
        ])));
        assert!(page.contains("First</b> <p>right</p>") && !page.contains("<p>wrong"), "{page}");
        assert!(page.contains("Second</b> <i>removed</i>") && page.contains("Second</b> <p>last</p>"), "{page}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (ms, day, time) in [
            (0, "1970-01-01", "00:00"),
            (951_782_400_000, "2000-02-29", "00:00"),
            (1_700_000_000_000, "2023-11-14", "22:13"),
            (1_735_689_599_000, "2024-12-31", "23:59"),
        ] {
            assert_eq!(clock(ms), (day.to_owned(), time.to_owned()));
        }
    }
}
