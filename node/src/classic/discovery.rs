//! Where a server is (server-server spec, "Resolving server names"), step by step as the spec numbers them.
//!
//! The authority of the URL is what the certificate must be for and what goes into the `Host` header; where the connection
//! goes instead (SRV records, port 8448) is the resolver's part, [`super::dns`].

use std::sync::Arc;

use ruma::ServerName;

use super::{
    ClassicError,
    dns::MatrixNames,
    server_name::{Parts, is_of_the_dns},
    well_known::WellKnown,
};
use crate::egress::Egress;

/// The port where a name says nothing.
const PORT: u16 = 8448;

/// Finds servers. It remembers what their `.well-known` said.
pub(super) struct Discovery {
    /// Connects to the host and port of the URL.
    plain: Egress,
    /// Connects to where the DNS says that the Matrix server of the URL's host is.
    by_dns: Egress,
    well_known: WellKnown,
}

/// Where a request goes.
#[derive(Clone)]
pub(super) struct Target {
    /// Host and, if it was named, port, for the URL.
    pub(super) authority: String,
    /// By which the request goes.
    pub(super) egress: Egress,
}

impl Discovery {
    pub(super) fn new(egress: Egress) -> Self {
        let by_dns = egress.with_names(Arc::new(MatrixNames::default()));
        Self { plain: egress.clone(), by_dns, well_known: WellKnown::new(egress) }
    }

    /// Where `server` is. Dropping the future gives the search up.
    pub(super) async fn find(&self, server: &ServerName) -> Result<Target, ClassicError> {
        if !is_of_the_dns(server) {
            return Err(ClassicError::NotOfTheDns(server.to_owned()));
        }
        let parts = Parts::of(server);
        // 1. An IP literal, 2. a name with a port: what it says.
        if let Some(target) = self.explicit(&parts) {
            return Ok(target);
        }
        // 3. The name's `.well-known` may delegate: 3.1, 3.2 explicitly, 3.3 to 3.5 by the DNS.
        if let Some(delegate) = self.well_known.delegate(&parts.host).await {
            if !is_of_the_dns(&delegate) {
                return Err(ClassicError::NotOfTheDns(delegate));
            }
            let parts = Parts::of(&delegate);
            return Ok(self.explicit(&parts).unwrap_or_else(|| self.by_dns(parts)));
        }
        // 4. to 6. By the DNS: SRV records, else port 8448.
        Ok(self.by_dns(parts))
    }

    fn explicit(&self, parts: &Parts) -> Option<Target> {
        let port = match parts.port {
            Some(port) => port,
            None if parts.is_address => PORT,
            None => return None,
        };
        Some(Target { authority: format!("{}:{port}", parts.host), egress: self.plain.clone() })
    }

    fn by_dns(&self, parts: Parts) -> Target {
        Target { authority: parts.host, egress: self.by_dns.clone() }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;
    use crate::egress::Settings;

    async fn authority(server: &ServerName) -> String {
        Discovery::new(Egress::new(Settings::default()))
            .find(server)
            .await
            .map_or_else(|e| e.to_string(), |t| t.authority)
    }

    #[tokio::test]
    async fn what_a_name_says_itself_needs_no_question() {
        assert_eq!(authority(server_name!("1.2.3.4")).await, "1.2.3.4:8448");
        assert_eq!(authority(server_name!("1.2.3.4:5")).await, "1.2.3.4:5");
        assert_eq!(authority(server_name!("[2001:db8::1]")).await, "[2001:db8::1]:8448");
        assert_eq!(authority(server_name!("pond.example:443")).await, "pond.example:443");
        assert!(authority(server_name!("abc.onion")).await.contains("not a name of the DNS"));
    }
}
