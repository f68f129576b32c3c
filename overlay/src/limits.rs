//! Every bound of the overlay, in one place. The defaults suit a phone; nothing from a peer grows beyond them.

use std::time::Duration;

/// Bounds in count, bytes and time.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one request or response body.
    pub max_body: usize,
    /// Bytes of all bodies being received at once, over all peers.
    pub body_budget: usize,
    /// Bytes of the headers of one request or response.
    pub max_headers: u32,
    /// Requests that one peer may have open at once on one stream.
    pub requests_per_stream: u32,
    /// Streams that one peer may hold open towards us; the oldest is closed for one more.
    pub streams_per_peer: usize,
    /// Streams that have not yet proven to belong to a link, over all sources.
    pub unauthenticated_streams: usize,
    /// The same, for one source.
    pub unauthenticated_per_source: usize,
    /// How long a new stream may take to prove itself.
    pub handshake: Duration,
    /// How long one dial may take.
    pub dial: Duration,
    /// How long a body may take to arrive.
    pub body: Duration,
    /// How long the node may take to answer a peer's request.
    pub answer: Duration,
    /// A stream without requests closes after this.
    pub idle: Duration,
    /// A silent peer is asked for a sign of life this often ...
    pub ping: Duration,
    /// ... and is dead when none comes within this.
    pub ping_timeout: Duration,
    /// How long a stream for first contact stays open, waiting for the user to confirm.
    pub contact: Duration,
    /// Attempts at first contact, for one contact link, in one hour.
    pub first_contacts_per_hour: usize,
    /// Introductions that one carrier may bring in one hour, in messages: a link takes two each way.
    pub introductions_per_hour: usize,
    /// Offers and introductions that may be open at once.
    pub open_offers: usize,
    /// Links that may be pending at once.
    pub pending_links: usize,
    /// Requests waiting for the node.
    pub arrivals: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 100 << 20,
            body_budget: 256 << 20,
            max_headers: 64 << 10,
            requests_per_stream: 64,
            streams_per_peer: 4,
            unauthenticated_streams: 64,
            unauthenticated_per_source: 16,
            handshake: Duration::from_secs(10),
            dial: Duration::from_secs(15),
            body: Duration::from_secs(180),
            answer: Duration::from_secs(300),
            idle: Duration::from_secs(300),
            ping: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(15),
            contact: Duration::from_secs(15 * 60),
            first_contacts_per_hour: 20,
            introductions_per_hour: 80,
            open_offers: 256,
            pending_links: 64,
            arrivals: 64,
        }
    }
}
