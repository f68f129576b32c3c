//! HTTP/2 over one stream of a link. Each direction has its own stream: who opened it is the client on it. One long-lived stream carries all requests
//! of its direction at once.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod server;

/// Windows that keep a 100 ms, 100 Mbit/s path busy without letting one peer fill the memory.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Fits one Noise message, with room for the frame header and the tag.
const MAX_FRAME: u32 = 32 << 10;
