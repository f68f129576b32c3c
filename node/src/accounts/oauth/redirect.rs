//! Redirect URIs (client-server spec, "Redirect URI validation"): where a client may be answered, so that nobody else is.

use url::{Host, Url};

/// Whether a client may register a redirect URI. `home` is its `client_uri`.
pub(super) fn may_register(uri: &str, home: &Url, native: bool) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    match url.scheme() {
        "https" => is_on_host(&url, home),
        "http" => native && is_loopback(&url) && url.port().is_none(),
        // The home page's host backwards: nobody else would take that scheme.
        scheme => native && !url.has_authority() && is_reversed_host(scheme, home),
    }
}

/// Whether a redirect URI is one of those that were registered. A program on the user's device cannot know its port before.
pub(super) fn matches(given: &str, registered: &str) -> bool {
    if given == registered {
        return true;
    }
    let (Ok(mut given), Ok(registered)) = (Url::parse(given), Url::parse(registered)) else { return false };
    let loopback = given.scheme() == "http" && is_loopback(&given) && is_loopback(&registered);
    loopback && given.set_port(None).is_ok() && given == registered
}

/// `uri` with parameters in its query or its fragment.
pub(super) fn with(uri: &str, in_fragment: bool, parameters: &[(&str, &str)]) -> String {
    let encoded =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters.iter().copied()).finish();
    let separator = match (in_fragment, uri.contains('?')) {
        (true, _) => '#',
        (false, true) => '&',
        (false, false) => '?',
    };
    format!("{uri}{separator}{encoded}")
}

fn is_on_host(url: &Url, home: &Url) -> bool {
    let (Some(Host::Domain(host)), Some(Host::Domain(home))) = (url.host(), home.host()) else { return false };
    host == home || host.strip_suffix(home).is_some_and(|rest| rest.ends_with('.'))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(ip)) => ip == std::net::Ipv6Addr::LOCALHOST,
        None => false,
    }
}

fn is_reversed_host(scheme: &str, home: &Url) -> bool {
    let Some(Host::Domain(host)) = home.host() else { return false };
    let reversed = host.split('.').rev().collect::<Vec<_>>().join(".");
    scheme == reversed || scheme.strip_prefix(&reversed).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(uri: &str, native: bool) -> bool {
        may_register(uri, &Url::parse("https://example.com/").unwrap(), native)
    }

    #[test]
    fn web_clients_are_answered_on_their_own_hosts() {
        assert!(may("https://example.com/callback", false) && may("https://app.example.com/callback?x=1", false));
        for bad in [
            "https://example.org/callback",
            "https://notexample.com/",
            "http://example.com/",
            "https://example.com/#x",
            "https://user@example.com/",
            "http://localhost/",
            "com.example:/x",
            "javascript:alert(1)",
            "nonsense",
        ] {
            assert!(!may(bad, false), "{bad}");
        }
    }

    #[test]
    fn native_clients_have_loopback_or_a_scheme_of_their_own() {
        for good in
            ["http://127.0.0.1/", "http://[::1]/x", "http://localhost/cb", "com.example.app:/cb", "com.example:/"]
        {
            assert!(may(good, true), "{good}");
        }
        for bad in ["http://127.0.0.1:80801/", "http://10.0.0.1/", "com.example.app://host/", "com.examples:/", "org:/"]
        {
            assert!(!may(bad, true), "{bad}");
        }
        assert!(matches("http://127.0.0.1:4711/cb", "http://127.0.0.1/cb"));
        assert!(!matches("http://127.0.0.1:4711/other", "http://127.0.0.1/cb"));
        assert!(!matches("http://localhost:4711/cb", "http://127.0.0.1/cb"));
        assert!(!matches("https://example.com:444/cb", "https://example.com/cb"));
    }

    #[test]
    fn parameters_go_where_they_are_asked_for() {
        assert_eq!(with("https://a.b/c", false, &[("code", "x y")]), "https://a.b/c?code=x+y");
        assert_eq!(with("https://a.b/c?d=1", false, &[("code", "x&y")]), "https://a.b/c?d=1&code=x%26y");
        assert_eq!(with("a.b:/c", true, &[("code", "x"), ("state", "s")]), "a.b:/c#code=x&state=s");
    }
}
