//! The node's routes, made of its settings: which Tor there is, and whether an onion route is in use.

use std::{path::Path, sync::Arc};

pub use millpond_overlay::transport::tor::{TorState, TorStatus};
use millpond_overlay::{
    Routes,
    transport::{
        TransportError,
        tor::{Through, Tor, TorConfig},
    },
};
use millpond_store::Store;

use crate::{
    config::{TorMode, TorSettings},
    links,
};

/// The routes of a node whose files are in `folder`. Nothing is opened.
///
/// # Errors
/// When a bridge line or the file of a test network is wrong.
pub fn routes(settings: &TorSettings, folder: &Path) -> Result<Routes, TransportError> {
    if settings.mode == TorMode::Off {
        return Ok(Routes::without_tor());
    }
    let mut config = TorConfig::new(folder.join("tor"));
    if let Some(proxy) = settings.socks {
        config.through = Through::Socks(proxy);
    }
    config.bridges.clone_from(&settings.bridges);
    config.transports.clone_from(&settings.transports);
    config.memory = settings.memory.unwrap_or(config.memory);
    config.sparing = settings.sparing;
    config.test_network.clone_from(&settings.test_network);
    let tor = Tor::new(config)?;
    Ok(match settings.mode {
        TorMode::Only => Routes::tor_only(tor),
        _ => Routes::with_tor(tor, settings.direct),
    })
}

/// The same, with what the database says of mailboxes. Settings that are wrong leave no route at all rather than a wrong one.
pub(crate) fn of_node(settings: &TorSettings, folder: &Path, store: &Store) -> Arc<Routes> {
    let routes = routes(settings, folder).unwrap_or_else(|error| {
        tracing::error!(%error, "the settings of Tor are wrong: nothing is dialled");
        Routes::closed()
    });
    if settings.onion || links::has_onion_mailbox(store) {
        routes.note_onion();
    }
    Arc::new(routes)
}
