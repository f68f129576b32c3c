//! Addresses of onion services: multiaddrs of one part, `/onion3/<56 characters>:<port>`.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use millpond_mailbox::name::NodeName;

use super::super::Address;

/// An onion service and a port of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct OnionAddress {
    /// Key, checksum and version.
    bytes: [u8; 35],
    port: u16,
}

impl OnionAddress {
    /// The onion service of an address, if it is one and nothing else.
    pub(super) fn of(address: &Address) -> Option<Self> {
        let mut parts = address.0.iter();
        let (Some(Protocol::Onion3(onion)), None) = (parts.next(), parts.next()) else { return None };
        let found = Self { bytes: *onion.hash(), port: onion.port() };
        // Key, checksum and version are looked at as in the name of a node, which has the same form.
        (found.port != 0 && NodeName::parse(&found.host()).is_ok()).then_some(found)
    }

    /// The service of this host name.
    pub(super) fn parse(host: &str, port: u16) -> Option<Self> {
        let name = host.strip_suffix(".onion")?.to_ascii_uppercase();
        let bytes = data_encoding::BASE32_NOPAD.decode(name.as_bytes()).ok()?.try_into().ok()?;
        Self::of(&Self { bytes, port }.address())
    }

    pub(super) fn address(&self) -> Address {
        Address(Multiaddr::empty().with(Protocol::Onion3((self.bytes, self.port).into())))
    }

    /// Its host name.
    pub(super) fn host(&self) -> String {
        format!("{}.onion", data_encoding::BASE32_NOPAD.encode(&self.bytes).to_ascii_lowercase())
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion";

    #[test]
    fn an_onion_address_is_exactly_one_service_with_its_port() {
        let onion = OnionAddress::parse(HOST, 7448).unwrap();
        let address = onion.address();
        assert_eq!(OnionAddress::of(&address).unwrap().host(), HOST);
        assert_eq!(Address::from_bytes(address.as_bytes()).unwrap(), address);
        let service = HOST.strip_suffix(".onion").unwrap();
        assert_eq!(address.to_string(), format!("/onion3/{service}:7448"));
        for other in [
            "/ip4/192.0.2.1/tcp/7448".to_owned(),
            format!("/onion3/{service}:7448/tcp/1"),
            format!("/ip4/192.0.2.1/tcp/7448/onion3/{service}:7448"),
            // Another last character: the checksum is wrong.
            format!("/onion3/{}c:7448", &service[..55]),
        ] {
            let address: Result<Address, _> = Address::parse(&other);
            assert!(address.ok().is_none_or(|address| OnionAddress::of(&address).is_none()), "{other}");
        }
        assert!(OnionAddress::parse(HOST, 0).is_none());
        assert!(OnionAddress::parse("example.org", 1).is_none());
    }
}
