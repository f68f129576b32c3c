//! `millpond backup` and `restore`: one encrypted file with everything that makes the node (docs/backup.md).
//!
//! The database is one snapshot, so a backup can be made while the node runs. What belongs to link traffic stays out of
//! it: a copy of that in two places would be two nodes that speak with one voice. After a restore links that mailboxes
//! carry are made anew by themselves, the others by a new contact link.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use millpond_mailbox::backup_file::{BackupChunks, BackupFileError, BackupHeader, CHUNK_LEN, HEADER_LEN, TAG_LEN};
use millpond_store::{Options, RawRow, Snapshot, Store};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::identity;

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// Read, write, make.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backup does not open.
    #[error("{path}: {source}")]
    File {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: BackupFileError,
    },
    /// What is inside is not what a backup holds.
    #[error("the backup opens, but its content is not that of a backup: {0}")]
    Content(String),
    /// There is a node in the folder already.
    #[error("{0} holds a node already: restore into an empty folder, and never run both")]
    Occupied(PathBuf),
    /// The database.
    #[error(transparent)]
    Store(#[from] millpond_store::Error),
}

/// One thing in a backup. They stand one after another, each with its length before it.
#[derive(Serialize, Deserialize)]
enum Entry {
    /// What wrote it.
    Head {
        /// The server name, so that a restore can say whose it is.
        server_name: String,
        /// Milliseconds since the epoch.
        made_at_ms: u64,
    },
    /// A small private file of the data directory.
    Secret {
        /// Its path, with `/`.
        path: String,
        /// Its content.
        bytes: serde_bytes::ByteBuf,
    },
    /// Rows of the database: table, key, value.
    Rows(Vec<Row>),
    /// A part of a media file.
    Media {
        /// Its path below `media`, with `/`.
        path: String,
        /// The next part of it.
        bytes: serde_bytes::ByteBuf,
    },
    /// Nothing follows.
    End,
}

/// A row: table, key, value.
type Row = (String, serde_bytes::ByteBuf, serde_bytes::ByteBuf);

/// What a backup held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The node's name.
    pub server_name: String,
    /// When it was made, in milliseconds since the epoch.
    pub made_at_ms: u64,
    /// Rows of the database.
    pub rows: u64,
    /// Media files.
    pub files: u64,
}

/// Small files that go along: the node's keys, and what its clients know it by.
const SECRETS: [&str; 5] = ["keys/identity", "keys/signing", "keys/intro", "registration_token", "millpond.toml"];
/// Tables that stay out: what was staged of peers comes again.
const LEFT_OUT: [&str; 1] = ["MAIL_IN"];
/// Tables about one-time keys: they may have been given out since, and clients make new ones when they see none.
const USED_UP: [&str; 7] = [
    "ONE_TIME_KEYS",
    "ONE_TIME_KEY_IDS",
    "KEY_COUNTS",
    "KEY_PACKS_SENT",
    "KEY_PACKS_OWED",
    "KEY_PACKS_OUT",
    "KEY_PACKS_DUE",
];
/// Bytes of rows in one entry.
const ROWS_LEN: usize = 1 << 20;
/// Bytes of one entry: a row is at most an invite's snapshot.
const MAX_ENTRY: usize = 64 << 20;

/// Writes a backup of a data directory. The file is private, and whole or not there.
///
/// # Errors
/// When something cannot be read or written.
pub fn write(
    to: &Path,
    passphrase: &Zeroizing<String>,
    (data_dir, with_media): (&Path, bool),
    snapshot: &Snapshot,
    (server_name, now_ms): (&str, u64),
) -> Result<Summary, BackupError> {
    let partial = to.with_extension("partial");
    let file = private_file(&partial)?;
    let mut sealing = Sealing::new(BufWriter::new(file), passphrase, &partial)?;
    let mut summary = Summary { server_name: server_name.to_owned(), made_at_ms: now_ms, ..Summary::default() };
    sealing.entry(&Entry::Head { server_name: server_name.to_owned(), made_at_ms: now_ms })?;
    for path in SECRETS {
        let found = data_dir.join(path);
        match fs::read(&found) {
            Ok(bytes) => sealing.entry(&Entry::Secret { path: path.to_owned(), bytes: bytes.into() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BackupError::Io { doing: "read", path: found, source }),
        }
    }
    write_rows(&mut sealing, snapshot, &mut summary)?;
    if with_media {
        let media = data_dir.join("media");
        write_media(&mut sealing, &media, &media, &mut summary)?;
    }
    sealing.entry(&Entry::End)?;
    sealing.finish()?;
    fs::rename(&partial, to).map_err(|source| BackupError::Io { doing: "name", path: to.to_owned(), source })?;
    Ok(summary)
}

fn write_rows<W: Write>(
    sealing: &mut Sealing<W>,
    snapshot: &Snapshot,
    summary: &mut Summary,
) -> Result<(), BackupError> {
    let (mut rows, mut len, mut links) = (Vec::new(), 0, Vec::new());
    snapshot.export(|table, key, value| {
        let row: Row = match table {
            _ if LEFT_OUT.contains(&table) || USED_UP.contains(&table) => return Ok(()),
            "LINKS" => {
                links.push(crate::links::record_of(key, value).map_err(BackupError::Content)?);
                return Ok(());
            }
            _ => (table.to_owned(), key.to_vec().into(), value.to_vec().into()),
        };
        len += row.1.len() + row.2.len();
        summary.rows += 1;
        rows.push(row);
        if len >= ROWS_LEN {
            len = 0;
            sealing.entry(&Entry::Rows(std::mem::take(&mut rows)))?;
        }
        Ok::<_, BackupError>(())
    })?;
    // Of the overlay's records: nothing that link traffic was sealed with.
    for record in millpond_overlay::backed_up(&links) {
        summary.rows += 1;
        rows.push(("LINKS".to_owned(), crate::links::encoded_key(&record.key).into(), record.bytes.into()));
    }
    sealing.entry(&Entry::Rows(rows))
}

fn write_media<W: Write>(
    sealing: &mut Sealing<W>,
    root: &Path,
    folder: &Path,
    summary: &mut Summary,
) -> Result<(), BackupError> {
    let failed = |path: &Path, source| BackupError::Io { doing: "read", path: path.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(folder, source)),
    };
    for entry in entries {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        if path.is_dir() {
            write_media(sealing, root, &path, summary)?;
            continue;
        }
        let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        let name = name.replace(std::path::MAIN_SEPARATOR, "/");
        let mut file = File::open(&path).map_err(|source| failed(&path, source))?;
        loop {
            let mut bytes = vec![0; ROWS_LEN];
            let read = read_full(&mut file, &mut bytes).map_err(|source| failed(&path, source))?;
            bytes.truncate(read);
            sealing.entry(&Entry::Media { path: name.clone(), bytes: bytes.into() })?;
            if read < ROWS_LEN {
                break;
            }
        }
        summary.files += 1;
    }
    Ok(())
}

/// Restores a backup into a folder without a node. What is left of a restore that failed is removed.
///
/// # Errors
/// When the passphrase is wrong, the file is damaged, or something cannot be written.
pub fn restore(from: &Path, passphrase: &Zeroizing<String>, data_dir: &Path) -> Result<Summary, BackupError> {
    if data_dir.join("millpond.redb").exists() || data_dir.join("keys/identity").exists() {
        return Err(BackupError::Occupied(data_dir.to_owned()));
    }
    let file = File::open(from).map_err(|source| BackupError::Io { doing: "read", path: from.to_owned(), source })?;
    let mut opening = Opening::new(BufReader::new(file), passphrase, from)?;
    let Entry::Head { server_name, made_at_ms } = opening.entry()? else {
        return Err(BackupError::Content("it does not say whose it is".to_owned()));
    };
    let mut summary = Summary { server_name, made_at_ms, ..Summary::default() };
    let restored = restore_entries(&mut opening, data_dir, &mut summary);
    if restored.is_err() {
        // A node without a part of itself must not be started; the keys go last, so that none can be.
        for path in ["millpond.redb"].into_iter().chain(SECRETS) {
            let _ = fs::remove_file(data_dir.join(path));
        }
    }
    restored.map(|()| summary)
}

fn restore_entries<R: Read>(
    opening: &mut Opening<R>,
    data_dir: &Path,
    summary: &mut Summary,
) -> Result<(), BackupError> {
    crate::start::private_dir(data_dir)
        .and_then(|()| crate::start::private_dir(&data_dir.join("keys")))
        .map_err(|source| BackupError::Io { doing: "make", path: data_dir.to_owned(), source })?;
    let database = data_dir.join("millpond.redb");
    let store = Store::open(&database, Options { inline: true, ..Options::default() })?;
    let mut secrets = Vec::new();
    let mut last_file = None;
    loop {
        match opening.entry()? {
            Entry::Head { .. } => return Err(BackupError::Content("it has two heads".to_owned())),
            Entry::Secret { path, bytes } if SECRETS.contains(&path.as_str()) => secrets.push((path, bytes)),
            Entry::Secret { path, .. } => return Err(BackupError::Content(format!("it has a file {path}"))),
            Entry::Rows(rows) => {
                summary.rows += rows.len() as u64;
                let rows = rows.into_iter().map(|(table, key, value)| RawRow {
                    table,
                    key: key.into_vec(),
                    value: value.into_vec(),
                });
                store.import(rows.collect())?;
            }
            Entry::Media { path, bytes } => {
                let first = last_file.as_ref() != Some(&path);
                append(&data_dir.join("media"), &path, &bytes, first)?;
                summary.files += u64::from(first);
                last_file = Some(path);
            }
            Entry::End => break,
        }
    }
    store.jump()?;
    drop(store);
    for (path, bytes) in secrets {
        let target = data_dir.join(&path);
        identity::write_private(&target, &bytes).map_err(|source| BackupError::Io {
            doing: "write",
            path: target,
            source,
        })?;
    }
    Ok(())
}

/// Writes the next part of a media file. Names are those that we give ourselves.
fn append(media: &Path, name: &str, bytes: &[u8], first: bool) -> Result<(), BackupError> {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !name.split('/').all(plain) {
        return Err(BackupError::Content(format!("it has a media file named {name:?}")));
    }
    let path = media.join(name);
    let failed = |source| BackupError::Io { doing: "write", path: path.clone(), source };
    let folder = path.parent().unwrap_or(media);
    crate::start::private_dir(folder).map_err(failed)?;
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(first).append(!first);
    if first {
        options.append(false);
    }
    let mut file = options.open(&path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Entries on their way into a file: each with its length, all of it in chunks.
struct Sealing<W> {
    out: W,
    chunks: BackupChunks,
    plain: Zeroizing<Vec<u8>>,
    path: PathBuf,
}

impl Sealing<BufWriter<File>> {
    fn finish(mut self) -> Result<(), BackupError> {
        let sealed = self.chunks.seal(&self.plain, true);
        let failed = |source| BackupError::Io { doing: "write", path: self.path.clone(), source };
        self.out.write_all(&sealed).map_err(failed)?;
        let file = self.out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)
    }
}

impl<W: Write> Sealing<W> {
    fn new(mut out: W, passphrase: &str, path: &Path) -> Result<Self, BackupError> {
        let header = BackupHeader::new(rand::random(), rand::random());
        out.write_all(&header.to_bytes()).map_err(|source| BackupError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        })?;
        let chunks = BackupChunks::new(&key(passphrase, &header)?, &header);
        Ok(Self { out, chunks, plain: Zeroizing::new(Vec::with_capacity(2 * CHUNK_LEN)), path: path.to_owned() })
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), BackupError> {
        let bytes = Zeroizing::new(serde_cbor::to_vec(entry).map_err(|e| BackupError::Content(e.to_string()))?);
        self.plain.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.plain.extend_from_slice(&bytes);
        while self.plain.len() > CHUNK_LEN {
            let sealed = self.chunks.seal(&self.plain[..CHUNK_LEN], false);
            self.out.write_all(&sealed).map_err(|source| BackupError::Io {
                doing: "write",
                path: self.path.clone(),
                source,
            })?;
            self.plain.drain(..CHUNK_LEN);
        }
        Ok(())
    }
}

/// Entries on their way out of a file.
struct Opening<R> {
    input: R,
    chunks: BackupChunks,
    plain: Zeroizing<Vec<u8>>,
    /// The chunk that was read ahead: only the one behind it tells whether it is the last.
    ahead: Vec<u8>,
    ended: bool,
    path: PathBuf,
}

impl<R: Read> Opening<R> {
    fn new(mut input: R, passphrase: &str, path: &Path) -> Result<Self, BackupError> {
        let refused = |source| BackupError::File { path: path.to_owned(), source };
        let mut header = [0; HEADER_LEN];
        input.read_exact(&mut header).map_err(|_| refused(BackupFileError::Form))?;
        let header = BackupHeader::parse(&header).map_err(refused)?;
        let chunks = BackupChunks::new(&key(passphrase, &header)?, &header);
        let plain = Zeroizing::new(Vec::new());
        let mut opening = Self { input, chunks, plain, ahead: Vec::new(), ended: false, path: path.to_owned() };
        opening.ahead = opening.read_chunk()?;
        Ok(opening)
    }

    fn read_chunk(&mut self) -> Result<Vec<u8>, BackupError> {
        let mut chunk = vec![0; CHUNK_LEN + TAG_LEN];
        let read = read_full(&mut self.input, &mut chunk).map_err(|source| BackupError::Io {
            doing: "read",
            path: self.path.clone(),
            source,
        })?;
        chunk.truncate(read);
        Ok(chunk)
    }

    fn more(&mut self) -> Result<(), BackupError> {
        let refused = |source| BackupError::File { path: self.path.clone(), source };
        if self.ended {
            return Err(refused(BackupFileError::DoesNotOpen));
        }
        let next = match self.ahead.len() {
            full if full == CHUNK_LEN + TAG_LEN => self.read_chunk()?,
            _ => Vec::new(),
        };
        let last = next.is_empty();
        let opened = self.chunks.open(&self.ahead, last);
        let opened = opened.map_err(|source| BackupError::File { path: self.path.clone(), source })?;
        self.plain.extend_from_slice(&opened);
        (self.ahead, self.ended) = (next, last);
        Ok(())
    }

    fn entry(&mut self) -> Result<Entry, BackupError> {
        let len = loop {
            match self.plain.first_chunk::<8>() {
                Some(len) => break usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX),
                None => self.more()?,
            }
        };
        if len > MAX_ENTRY {
            return Err(BackupError::Content("an entry is too long".to_owned()));
        }
        while self.plain.len() < 8 + len {
            self.more()?;
        }
        let entry = serde_cbor::from_slice(&self.plain[8..8 + len]).map_err(|e| BackupError::Content(e.to_string()));
        self.plain.drain(..8 + len);
        entry
    }
}

/// Argon2id, as the header says.
fn key(passphrase: &str, header: &BackupHeader) -> Result<Zeroizing<[u8; 32]>, BackupError> {
    let failed = |e: argon2::Error| BackupError::Content(format!("the passphrase gives no key: {e}"));
    let params = Params::new(header.memory_kib, header.passes, 1, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &header.salt, &mut *key)
        .map_err(failed)?;
    Ok(key)
}

fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match input.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn private_file(path: &Path) -> Result<File, BackupError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| BackupError::Io { doing: "make", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
