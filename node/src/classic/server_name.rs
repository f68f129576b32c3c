//! Server names as the DNS sees them.

use std::net::IpAddr;

use ruma::ServerName;

/// Whether a name is one that classic federation may look for: all but those under `.onion`, which are made of keys and are
/// not asked of the DNS (RFC 7686).
pub(crate) fn is_of_the_dns(server: &ServerName) -> bool {
    let host = server.host().trim_end_matches('.');
    !host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("onion"))
}

/// The parts of a server name: its host, whether that is an address, and the port that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// As in a URL: an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) is_address: bool,
    pub(super) port: Option<u16>,
}

impl Parts {
    pub(super) fn of(server: &ServerName) -> Self {
        let host = server.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self { host: host.to_owned(), is_address: bare.parse::<IpAddr>().is_ok(), port: server.port() }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn names_fall_into_their_parts() {
        let of = |name: &str| Parts::of(<&ServerName>::try_from(name).unwrap());
        let parts = |host: &str, is_address, port| Parts { host: host.to_owned(), is_address, port };
        assert_eq!(of("pond.example"), parts("pond.example", false, None));
        assert_eq!(of("pond.example:80"), parts("pond.example", false, Some(80)));
        assert_eq!(of("1.2.3.4"), parts("1.2.3.4", true, None));
        assert_eq!(of("[2001:db8::1]:8448"), parts("[2001:db8::1]", true, Some(8448)));
    }

    #[test]
    fn names_made_of_keys_are_not_asked_of_the_dns() {
        assert!(is_of_the_dns(server_name!("pond.example")));
        assert!(is_of_the_dns(server_name!("onion.example")));
        assert!(!is_of_the_dns(server_name!("abc.onion")));
        assert!(!is_of_the_dns(server_name!("abc.ONION:8448")));
    }
}
