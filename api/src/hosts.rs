//! The Host check: a web page whose name is re-bound to 127.0.0.1 must not reach the API as if it were of our origin.

use std::collections::HashSet;

use http::{Request, StatusCode, header::HOST, uri::Authority};
use millpond_node::{Error, config::Config};
use ruma::api::error::ErrorKind;

/// The names under which the client API answers, on any port.
pub(crate) struct Hosts(HashSet<String>);

impl Hosts {
    /// Loopback, the host of the client URL, and the configured names.
    pub(crate) fn new(config: &Config) -> Self {
        let mut names: HashSet<_> = ["127.0.0.1", "localhost", "[::1]"].map(str::to_owned).into();
        let base = config.client_base_url.parse::<http::Uri>().ok();
        names.extend(base.and_then(|uri| uri.host().map(str::to_ascii_lowercase)));
        names.extend(config.allowed_hosts.iter().map(|name| name.to_ascii_lowercase()));
        Self(names)
    }

    /// Refuses a request for a name that is not ours.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN`.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Error> {
        // HTTP/2 has the authority in the URI; a Host header, where there is one, must pass as well.
        let header = request.headers().get(HOST).map(|value| value.to_str().unwrap_or_default());
        let authority = request.uri().authority().map(Authority::as_str);
        let mut named = header.into_iter().chain(authority).peekable();
        if named.peek().is_some() && named.all(|name| self.knows(name)) {
            return Ok(());
        }
        let message = "This homeserver does not answer under the host name in this request; use 127.0.0.1 or \
                       localhost, or add the name to the setting `hosts`";
        Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message))
    }

    fn knows(&self, named: &str) -> bool {
        let authority = named.parse::<Authority>();
        // A user part would not be a Host header.
        authority.is_ok_and(|a| !named.contains('@') && self.0.contains(&a.host().to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(host: &str) -> bool {
        let config = Config { allowed_hosts: vec!["Box.lan".to_owned()], ..Config::new("/nowhere".into()) };
        let request = Request::builder().header(HOST, host).body(()).unwrap();
        Hosts::new(&config).check(&request).is_ok()
    }

    #[test]
    fn own_names_pass_on_any_port_and_others_do_not() {
        for host in ["127.0.0.1", "127.0.0.1:8008", "localhost:80", "LOCALHOST", "[::1]:8008", "box.lan:1"] {
            assert!(answers(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8008", "127.0.0.1@evil.example", "[::2]", "a b"] {
            assert!(!answers(host), "{host}");
        }
    }

    #[test]
    fn a_request_without_a_host_is_refused() {
        let hosts = Hosts::new(&Config::new("/nowhere".into()));
        assert!(hosts.check(&Request::new(())).is_err());
    }
}
