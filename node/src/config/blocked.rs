//! Whom the owner does not want to hear of: servers and users, with `*` and `?` for any letters and any one letter.

use std::{fmt, str::FromStr};

use ruma::{ServerName, UserId};

/// Servers and users that are kept out.
#[derive(Clone, Debug, Default)]
pub struct Blocked(Vec<Pattern>);

/// One entry: a server name without its port, or a user id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let user = text.starts_with('@') && text.contains(':');
        if text.is_empty() || text.contains(char::is_whitespace) || (text.starts_with('@') && !user) {
            return Err(format!(
                "{text:?}: allowed is a server name or a user id, like *.example.org or @spam*:example.org"
            ));
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Pattern> for Blocked {
    fn from_iter<T: IntoIterator<Item = Pattern>>(patterns: T) -> Self {
        Self(patterns.into_iter().collect())
    }
}

impl Blocked {
    /// Whether a server is kept out. Its port does not matter.
    pub fn has_server(&self, server: &ServerName) -> bool {
        let host = server.host().to_lowercase();
        self.0.iter().any(|pattern| !pattern.0.starts_with('@') && matches(pattern.0.as_bytes(), host.as_bytes()))
    }

    /// Whether a user, or his server, is kept out.
    pub fn has_user(&self, user: &UserId) -> bool {
        let id = user.as_str().to_lowercase();
        let named =
            self.0.iter().any(|pattern| pattern.0.starts_with('@') && matches(pattern.0.as_bytes(), id.as_bytes()));
        named || self.has_server(user.server_name())
    }
}

/// Whether a pattern fits all of a text: `*` stands for any letters, `?` for one.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes())
}

/// Whether a pattern fits all of a text. Linear but for the last star, to which it goes back.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;

    #[test]
    fn servers_and_users_are_kept_out_by_name_or_pattern() {
        let blocked: Blocked =
            ["*.spam.example", "bad.example", "@bot*:good.example"].into_iter().map(|p| p.parse().unwrap()).collect();
        assert!(
            blocked.has_server(server_name!("a.spam.example:8448")) && blocked.has_server(server_name!("BAD.example"))
        );
        assert!(!blocked.has_server(server_name!("spam.example")) && !blocked.has_server(server_name!("good.example")));
        assert!(blocked.has_user(user_id!("@bot7:good.example")) && blocked.has_user(user_id!("@x:bad.example")));
        assert!(!blocked.has_user(user_id!("@robot:good.example")));
    }

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, text, fits) in [
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
        assert!("@nobody".parse::<Pattern>().is_err() && "".parse::<Pattern>().is_err());
    }
}
