//! Runs the delivery protocol of `millpond-mailbox` over real transports; knows peers and bytes, not Matrix.
//!
//! `start` gives the handle `Overlay` and the requests of peers. Below it one driver task owns all links; below that a `Transport` moves bytes:
//!
//! ```
//! use millpond_overlay::transport::{Transport, memory::MemoryNet};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let net = MemoryNet::new();
//! let (a, b) = (net.transport(1), net.transport(2));
//! let (streams, mut incoming) = tokio::sync::mpsc::channel(4);
//! a.start(streams)?;
//! let addresses = a.listen(Vec::new()).await?;
//!
//! let mut dialled = b.dial(&addresses[0]).await?;
//! dialled.write_all(b"hello").await?;
//! let mut accepted = incoming.recv().await.expect("a stream came in");
//! let mut text = [0; 5];
//! accepted.io.read_exact(&mut text).await?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A process that uses the libp2p transport calls `install_crypto_provider` first.

mod clock;
mod crypto;
mod driver;
mod error;
mod event;
mod gate;
mod hello;
pub mod host_client;
mod hosts;
mod http;
mod limits;
mod me;
mod overlay;
pub mod relay;
mod routes;
mod secure;
mod store;
mod tasks;
pub mod transport;

pub use crypto::install_crypto_provider;
pub use driver::OpenedIntro;
pub use driver::backed_up;
pub use error::{Error, RouteError};
pub use event::{Alarm, Arrival, Event, LinkClass, LinkInfo, LinkState, LodgingInfo, MailInfo, MailboxInfo};
pub use limits::Limits;
pub use me::Me;
pub use overlay::{Config, INTRO_PATH, Overlay, start};
pub use routes::{Routes, has_onion_mailbox};
pub use store::{Change, Delivery, LinkStore, Record, RecordKey, RecordKind, StoreError};
