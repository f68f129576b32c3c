//! The client form of an event, spliced from its header and raw JSON: nothing is parsed, text that the sender wrote is
//! copied as it is.
//!
//! Client-server spec, "Room event format" and "Stripped state". `/sync` leaves `room_id` out, everything else has it.

use ruma::{EventId, RoomId, events::room::member::MembershipState};

use crate::PduHeader;

/// What we add to an event for one reader; nothing of it is in the PDU. Raw values are JSON texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsigned<'a> {
    /// Milliseconds since `origin_server_ts`.
    pub age: Option<u64>,
    /// The reader's own transaction id, if the event came from this reader's device.
    pub transaction_id: Option<&'a str>,
    /// The reader's own delay id, if the event was a delayed one (MSC4140).
    pub delay_id: Option<&'a str>,
    /// Raw content of the state event that this one replaced.
    pub prev_content: Option<&'a str>,
    /// Id of the state event that this one replaced.
    pub replaces_state: Option<&'a EventId>,
    /// Raw client form of the event that redacted this one.
    pub redacted_because: Option<&'a str>,
    /// The reader's membership when the event was sent (MSC4115).
    pub membership: Option<&'a MembershipState>,
    /// Raw `m.relations` object: the bundled aggregations.
    pub relations: Option<&'a str>,
    /// Raw array of stripped state, on the reader's own invite.
    pub invite_room_state: Option<&'a str>,
    /// Raw array of stripped state, on the reader's own knock.
    pub knock_room_state: Option<&'a str>,
}

/// Appends the client form of an event. `json` is the PDU that `header` belongs to; without `room_id` it is the form
/// that `/sync` uses.
pub fn write_client_event(
    out: &mut Vec<u8>,
    header: &PduHeader,
    json: &str,
    room_id: Option<&RoomId>,
    unsigned: &Unsigned<'_>,
) {
    out.reserve(json.len() + 256);
    out.extend_from_slice(b"{\"content\":");
    write_content(out, header, json);
    raw(out, ",\"event_id\":");
    write_string(out, header.event_id.as_str());
    raw(out, ",\"origin_server_ts\":");
    write_number(out, header.origin_server_ts.0.into());
    if let Some(redacts) = header.redacts {
        // Old clients look beside the content, new ones inside; both get it, whatever the version says.
        raw(out, ",\"redacts\":");
        raw(out, redacts.of(json));
    }
    if let Some(room_id) = room_id {
        raw(out, ",\"room_id\":");
        write_string(out, room_id.as_str());
    }
    raw(out, ",\"sender\":");
    raw(out, header.sender.of(json));
    if let Some(state_key) = header.state_key {
        raw(out, ",\"state_key\":");
        raw(out, state_key.of(json));
    }
    raw(out, ",\"type\":");
    raw(out, header.kind.of(json));
    unsigned.write(out);
    out.push(b'}');
}

/// Appends the stripped form of a state event (invites, knocks, previews): content, sender, state key and type.
pub fn write_stripped_event(out: &mut Vec<u8>, header: &PduHeader, json: &str) {
    raw(out, "{\"content\":");
    raw(out, header.content.of(json));
    raw(out, ",\"sender\":");
    raw(out, header.sender.of(json));
    if let Some(state_key) = header.state_key {
        raw(out, ",\"state_key\":");
        raw(out, state_key.of(json));
    }
    raw(out, ",\"type\":");
    raw(out, header.kind.of(json));
    out.push(b'}');
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing a str into memory cannot fail; the quotes alone would be wrong, so say so.
    serde_json::to_writer(&mut *out, text).expect("a string is always serialisable into memory");
}

impl Unsigned<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        raw(out, ",\"unsigned\":{");
        let body = out.len();
        if let Some(age) = self.age {
            raw(out, "\"age\":");
            write_number(out, age);
        }
        if let Some(id) = self.transaction_id {
            key(out, body, "transaction_id");
            write_string(out, id);
        }
        if let Some(id) = self.delay_id {
            key(out, body, "org.matrix.msc4140.delay_id");
            write_string(out, id);
        }
        if let Some(membership) = self.membership {
            key(out, body, "membership");
            write_string(out, membership.as_str());
        }
        if let Some(id) = self.replaces_state {
            key(out, body, "replaces_state");
            write_string(out, id.as_str());
        }
        let raws = [
            ("prev_content", self.prev_content),
            ("redacted_because", self.redacted_because),
            ("m.relations", self.relations),
            ("invite_room_state", self.invite_room_state),
            ("knock_room_state", self.knock_room_state),
        ];
        for (name, value) in raws {
            if let Some(value) = value {
                key(out, body, name);
                raw(out, value);
            }
        }
        if out.len() == body {
            out.truncate(start);
        } else {
            out.push(b'}');
        }
    }
}

fn write_content(out: &mut Vec<u8>, header: &PduHeader, json: &str) {
    let content = header.content.of(json);
    let (Some(redacts), false) = (header.redacts, header.redacts_in_content) else {
        return raw(out, content);
    };
    if content.contains("\"redacts\"") {
        // The sender wrote one already; two keys of one name would be worse than its own.
        return raw(out, content);
    }
    // A redaction from before version 11: its content gets the `redacts` that stands beside it.
    let rest = content.strip_prefix('{').unwrap_or("}");
    raw(out, "{\"redacts\":");
    raw(out, redacts.of(json));
    if rest != "}" {
        out.push(b',');
    }
    raw(out, rest);
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn key(out: &mut Vec<u8>, body: usize, name: &str) {
    if out.len() > body {
        out.push(b',');
    }
    out.push(b'"');
    raw(out, name);
    raw(out, "\":");
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
