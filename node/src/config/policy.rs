//! What strangers must accept before they register (client-server API, "Terms of service at registration").

use std::str::FromStr;

/// A document, as `NAME VERSION URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it is called, like "Terms of use".
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its text is.
    pub url: String,
}

impl Policy {
    /// What clients know it by: its name in small letters, with `_` for what is neither letter nor digit.
    pub fn id(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        self.name.chars().map(plain).take(LONGEST).collect()
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed =
            || format!("{text:?}: allowed is NAME VERSION URL, like Terms of use 1.2 https://example.org/terms");
        let (rest, url) = text.trim().rsplit_once(char::is_whitespace).ok_or_else(allowed)?;
        let (name, version) = rest.trim_end().rsplit_once(char::is_whitespace).ok_or_else(allowed)?;
        let opaque = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
        let web = url.starts_with("https://") || url.starts_with("http://");
        let uri = web && url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some());
        if name.trim().is_empty() || version.len() > LONGEST || !version.chars().all(opaque) || !uri {
            return Err(allowed());
        }
        Ok(Self { name: name.trim().to_owned(), version: version.to_owned(), url: url.to_owned() })
    }
}

/// Characters of an opaque identifier.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_name_a_version_and_a_place_on_the_web() {
        let policy: Policy = " Terms of use  1.2 https://example.org/t ".parse().unwrap();
        assert_eq!((&*policy.name, &*policy.version, &*policy.url), ("Terms of use", "1.2", "https://example.org/t"));
        assert_eq!(policy.id(), "terms_of_use");
        for wrong in
            ["", "Terms", "Terms 1", "1 https://a.b", "Terms 1 ftp://a.b", "Terms 1/2 https://a.b", "Terms 1 https://"]
        {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }
}
