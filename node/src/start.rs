//! Starting a node: the data directory, its keys, its secrets, its database.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use millpond_store::{Options, Store, discard_unfinished};

use crate::{
    Core, NodeHandle,
    clock::Clock,
    config::Config,
    identity::{self, Identity, KeyFileError},
    notify::Notifier,
};

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or read.
    #[error("cannot use the data directory {path}: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a database, but not the key that its events were made under.
    #[error(
        "{path} is missing, though this node has a database: restore it from a backup - with a new key the node would be another one"
    )]
    KeyGone {
        /// The key file.
        path: PathBuf,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The settings of Tor.
    #[error("the settings of Tor: {0}")]
    Tor(#[source] millpond_overlay::transport::TransportError),
    /// The database.
    #[error(transparent)]
    Store(#[from] millpond_store::Error),
}

/// Opens the core of a node: everything that needs no runtime and no network.
///
/// # Errors
/// When the data directory, the keys or the database cannot be used.
pub fn open(mut config: Config) -> Result<NodeHandle, StartError> {
    let dir = config.data_dir.clone();
    let failed = |source| StartError::DataDir { path: dir.clone(), source };
    private_dir(&dir).map_err(failed)?;
    let (database, key) = (dir.join("millpond.redb"), dir.join("keys/identity"));
    discard_unfinished(&database)?;
    if rewrite_mark(&dir).exists() && database.exists() {
        rewrite(&dir)?;
    }
    // At first run the keys are on the disk before the database is made.
    if database.exists() && !key.exists() {
        return Err(StartError::KeyGone { path: key });
    }
    if config.registration_token.is_empty() {
        config.registration_token = secret_file(&dir.join("registration_token")).map_err(failed)?;
    }
    let chosen = config.classic.as_ref().map(|classic| &*classic.server_name);
    let identity = Identity::load_or_create_named(&dir, chosen)?;
    let notifier = Notifier::default();
    let observer = notifier.clone();
    let options = Options {
        cache_bytes: config.store_cache_bytes,
        observer: Box::new(move |commit| observer.commit(commit)),
        ..Options::default()
    };
    crate::tor::routes(&config.tor, &dir).map_err(StartError::Tor)?;
    let store = Store::open(&database, options)?;
    Ok(NodeHandle::new(Core::new(store, identity, notifier, Clock::system(), config)))
}

/// Has the database written anew before it is opened the next time, so that what was removed is gone from the disk.
///
/// # Errors
/// When the mark cannot be made.
pub fn rewrite_at_next_start(data_dir: &Path) -> io::Result<()> {
    identity::write_private(&rewrite_mark(data_dir), b"")
}

/// Writes the database anew, which nobody may have open; gives its sizes before and after. Blocks.
///
/// # Errors
/// When the database is open or the disk refuses; the database is then as it was.
pub fn rewrite(data_dir: &Path) -> Result<(u64, u64), StartError> {
    let sizes = millpond_store::rewrite(&data_dir.join("millpond.redb"))?;
    match fs::remove_file(rewrite_mark(data_dir)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StartError::DataDir { path: data_dir.to_owned(), source })
        }
        _ => Ok(sizes),
    }
}

/// While this file is there, the database is to be written anew.
fn rewrite_mark(data_dir: &Path) -> PathBuf {
    data_dir.join("rewrite_database")
}

/// The bearer token of `/_millpond/v1`: who can read the data directory may use it.
///
/// # Errors
/// When the file cannot be read or written.
pub fn admin_token(data_dir: &Path) -> io::Result<String> {
    secret_file(&data_dir.join("admin_token"))
}

/// Reads a secret of one line, or makes it.
fn secret_file(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = data_encoding::BASE32_NOPAD.encode(&rand::random::<[u8; 20]>()).to_lowercase();
            identity::write_private(path, format!("{secret}\n").as_bytes())?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
