//! Old habits of clients in `auth` that ruma does not take: looked at only when a body was refused.

use serde_json::{Map, Value, json};

/// Whether a body may be one of those: a cheap look before it is parsed.
pub(super) fn may_help(json: &[u8]) -> bool {
    json.len() <= MAX_LEN && json.windows(6).any(|part| part == b"\"auth\"")
}

/// Requests that authenticate are small.
const MAX_LEN: usize = 16 << 10;

/// A body with its `auth` put right; none if that is not what is wrong.
pub(super) fn repaired(json: &[u8]) -> Option<Vec<u8>> {
    let mut body: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let auth = body.get_mut("auth")?.as_object_mut()?;
    if !auth.contains_key("type") && !auth.contains_key("session") {
        // An object without content stands for none at all.
        body.remove("auth");
    } else if auth.get("type")? == "m.login.password" && !auth.contains_key("identifier") {
        // Before r0.4 the user was named without an identifier.
        let user = auth.remove("user")?;
        auth.insert("identifier".to_owned(), json!({ "type": "m.id.user", "user": user }));
    } else {
        return None;
    }
    serde_json::to_vec(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_spellings_of_auth_are_put_right_and_others_left() {
        let fixed = |body: Value| repaired(body.to_string().as_bytes()).map(|b| serde_json::from_slice(&b).unwrap());
        assert_eq!(fixed(json!({ "a": 1, "auth": {} })), Some(json!({ "a": 1 })));
        assert_eq!(
            fixed(json!({ "auth": { "type": "m.login.password", "user": "u", "password": "p" } })),
            Some(json!({ "auth": {
                "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "u" }, "password": "p",
            } })),
        );
        assert_eq!(fixed(json!({ "auth": { "type": "m.login.dummy" } })), None);
        assert_eq!(fixed(json!({ "a": 1 })), None);
    }
}
