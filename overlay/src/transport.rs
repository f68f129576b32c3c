//! What carries bytes between nodes: a `Transport` dials addresses and brings in streams. It promises nothing about who is at the other end;
//! that is proven on every stream by the link's own handshake.

pub mod libp2p;
pub mod memory;
pub mod tor;

use std::fmt;
use std::time::Duration;

use ::libp2p::Multiaddr;
use futures::future::{BoxFuture, FutureExt};
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A boxed byte stream.
pub type BoxIo = Box<dyn Io>;

/// One way of carrying byte streams. All methods take `&self`: a transport is shared between the driver and its dial tasks.
pub trait Transport: Send + Sync + 'static {
    /// Short name of the route, for `status`: "direct", "memory".
    fn route(&self) -> &'static str;

    /// Whether this transport understands the address.
    fn carries(&self, address: &Address) -> bool;

    /// Begins work and hands every inbound stream to `incoming`. Called once, inside the runtime; nothing listens yet.
    ///
    /// # Errors
    /// When the transport cannot be set up at all.
    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError>;

    /// Opens a stream to an address. Dropping the future gives the attempt up; the caller sets the time-out.
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>>;

    /// As `dial`, with what finds the other end if it shows itself only to those who have a key: the likeliest first.
    fn dial_with<'a>(
        &'a self,
        address: &'a Address,
        keys: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        let _ = keys;
        self.dial(address)
    }

    /// Whether what listens shows itself only to those whose keys were admitted.
    fn is_restricted(&self) -> bool {
        false
    }

    /// From now on those with these keys find what listens, and nobody else; the most important first, in case they are too many. It may take a minute
    /// until the network knows.
    fn admit(&self, keys: Vec<DiscoveryKey>) {
        let _ = keys;
    }

    /// Listens where the configuration says, and returns the addresses to tell contacts. `earlier` are those of last time: where possible they are
    /// taken again, because contacts know them. A second call changes nothing. Not to be dropped half-way.
    fn listen(&self, earlier: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>>;

    /// The addresses at which this node can be reached now; empty before `listen`.
    fn local_addresses(&self) -> Vec<Address>;

    /// Whether those who are told of `local_addresses` see this node's IP address.
    fn shows_address(&self) -> bool {
        false
    }

    /// How long a dial may take over this transport; `None`: as over most.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Addresses of unknown nodes seen on the local network, when the user chose to be visible nearby.
    fn nearby(&self) -> Vec<Address>;

    /// Ends when `nearby` has shown somebody new since it last ended. One task waits.
    fn nearby_found(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    /// Closes everything and waits for the transport's own tasks. Not to be dropped half-way.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// A stream that somebody opened to us.
pub struct Incoming {
    /// The bytes.
    pub io: BoxIo,
    /// An address that opens a stream the other way over the same connection, as long as it lives. This is how a node that cannot be dialled is answered.
    pub back: Option<Address>,
    /// Who is behind it, as far as the transport can tell.
    pub source: Source,
    /// The transport's `route`.
    pub route: &'static str,
}

/// Streams with equal sources share one allowance of unauthenticated streams. Never logged: it may be an IP address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Source(pub String);

/// Where a transport can dial: a multiaddr of at most 256 bytes. Its meaning is the transport's affair.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Multiaddr);

impl Address {
    /// Reads the text form, such as `/ip4/192.0.2.1/udp/4001/quic-v1`.
    ///
    /// # Errors
    /// When it is no multiaddr, is empty or too long.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::checked(text.parse().map_err(|_| AddressError::Form)?)
    }

    /// Reads the binary form, as contact links carry it.
    ///
    /// # Errors
    /// When it is no multiaddr, is empty or too long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AddressError> {
        Self::checked(Multiaddr::try_from(bytes.to_vec()).map_err(|_| AddressError::Form)?)
    }

    /// Whether who dials it shows his IP address to somebody.
    pub fn is_ip(&self) -> bool {
        use ::libp2p::multiaddr::Protocol;
        self.0.iter().any(|part| {
            matches!(
                part,
                Protocol::Ip4(_)
                    | Protocol::Ip6(_)
                    | Protocol::Dns(_)
                    | Protocol::Dns4(_)
                    | Protocol::Dns6(_)
                    | Protocol::Dnsaddr(_)
            )
        })
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    fn checked(address: Multiaddr) -> Result<Self, AddressError> {
        match address.len() {
            0 => Err(AddressError::Form),
            1..=MAX_ADDRESS => Ok(Self(address)),
            bytes => Err(AddressError::TooLong { bytes }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says nothing: addresses stay out of logs, and `Debug` is what ends up in them.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(..)")
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Over 256 bytes.
    #[error("an address has at most {MAX_ADDRESS} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not in the form of a multiaddr.
    #[error("an address is a multiaddr such as /ip4/192.0.2.1/udp/4001/quic-v1")]
    Form,
}

/// Why a transport did not do what it was asked. No variant shows an address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nobody answered there.
    #[error("nobody answered at the address: {why}")]
    Unreachable {
        /// What the layer below said.
        why: String,
    },
    /// Somebody answered who does not carry our streams.
    #[error("the node at the address does not carry Millpond streams")]
    NotOurs,
    /// The transport does not know this kind of address.
    #[error("the {route} transport cannot dial this kind of address")]
    WrongKind {
        /// The transport asked.
        route: &'static str,
    },
    /// No port could be opened.
    #[error("cannot listen on {on}: {why}")]
    Listen {
        /// Which local port.
        on: String,
        /// What the system said.
        why: String,
    },
    /// The transport cannot be set up.
    #[error("cannot set up the {route} transport: {why}")]
    Setup {
        /// The transport asked.
        route: &'static str,
        /// What the layer below said.
        why: String,
    },
    /// Dialling there would show this node's IP address.
    #[error("the only ways there would show this node's IP address, and it uses Tor (docs/tor.md, \"direct\")")]
    Shows,
    /// Listening would show this node's IP address.
    #[error(
        "this node uses Tor and shows no IP address: make a mailbox (`millpond mailbox add`), or give it an onion service \
         (onion = true under [tor])"
    )]
    Hidden,
    /// Too many dials at once.
    #[error("too many dials at once; try again later")]
    Busy,
    /// The transport was stopped, or never started.
    #[error("the transport is not running")]
    Stopped,
}

const MAX_ADDRESS: usize = 256;
