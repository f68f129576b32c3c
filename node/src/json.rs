//! Writing JSON by hand into one buffer: what `/sync` and the room reads answer is spliced from stored bytes.

use millpond_matrix::client::write_string;

/// Appends a comma unless the last byte opened an object or an array or follows a key.
pub(crate) fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[' | b':')) {
        out.push(b',');
    }
}

/// Appends a key; `name` needs no escapes.
pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a key that somebody else chose.
pub(crate) fn any_key(out: &mut Vec<u8>, name: &str) {
    comma(out);
    write_string(out, name);
    out.push(b':');
}

/// Appends raw JSON.
pub(crate) fn raw(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(json.as_bytes());
}

/// Appends a member with a string value.
pub(crate) fn text_member(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    write_string(out, value);
}

/// Appends a member with a value that prints as JSON: numbers, `true` and `false`.
pub(crate) fn plain_member(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    key(out, name);
    raw(out, &value.to_string());
}

/// Appends `"name":{"events":[..]}` with what `write` appends between the brackets; nothing at all if that is nothing.
pub(crate) fn events_member<E>(
    out: &mut Vec<u8>,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<bool, E> {
    let start = out.len();
    key(out, name);
    raw(out, "{\"events\":[");
    let body = out.len();
    write(out)?;
    if out.len() == body {
        out.truncate(start);
        return Ok(false);
    }
    raw(out, "]}");
    Ok(true)
}

/// Appends `"name":{..}` with what `write` appends between the braces; nothing at all if that is nothing.
pub(crate) fn object_member<E>(
    out: &mut Vec<u8>,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<bool, E> {
    let start = out.len();
    key(out, name);
    out.push(b'{');
    let body = out.len();
    write(out)?;
    if out.len() == body {
        out.truncate(start);
        return Ok(false);
    }
    out.push(b'}');
    Ok(true)
}

/// The text of a JSON string that is known to be one, without its quotes.
pub(crate) fn unquote(json: &str) -> std::borrow::Cow<'_, str> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => text.into(),
        _ => serde_json::from_str::<String>(json).unwrap_or_default().into(),
    }
}
