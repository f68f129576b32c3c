//! Runs the delivery protocol of `millpond-mailbox` over real transports; knows peers and bytes, not Matrix.

mod clock;
mod crypto;
mod driver;
mod error;
mod event;
mod gate;
mod hello;
mod http;
mod limits;
mod me;
mod overlay;
mod secure;
mod store;
mod tasks;
pub mod transport;

pub use crypto::install_crypto_provider;
pub use driver::OpenedIntro;
pub use error::{Error, RouteError};
pub use event::{Alarm, Arrival, Event, LinkClass, LinkInfo, LinkState};
pub use limits::Limits;
pub use me::Me;
pub use overlay::{Config, INTRO_PATH, Overlay, start};
pub use store::{Change, LinkStore, Record, RecordKey, RecordKind, StoreError};
