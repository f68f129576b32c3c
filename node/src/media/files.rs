//! Media files on the disk: `media/ab/<SHA-256>`, thumbnails beside it with their size in the name, unfinished ones in
//! `media/incoming`. Readable by their owner only. A file has its name only once it is whole and synced.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use millpond_store::rows::MediaContent;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinError;

use super::{
    download::Download,
    metadata,
    thumbnail::{Format, Size},
};
use crate::Error;

/// The folder. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Files(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    ready: OnceLock<()>,
}

/// A file that is being written; dropped before [`Files::keep`] it goes away.
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    hash: Sha256,
    len: u64,
    unsynced: usize,
}

impl Files {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self(Arc::new(Inner { dir, ready: OnceLock::new() }))
    }

    /// Starts a file. Blocks.
    pub(super) fn create(&self) -> Result<Incoming, Error> {
        self.create_file().map_err(|e| failed("starting a media file", &e))
    }

    fn create_file(&self) -> io::Result<Incoming> {
        let incoming = self.0.dir.join("incoming");
        if self.0.ready.get().is_none() {
            // What a crash left there was never answered for.
            match fs::remove_dir_all(&incoming) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => private_dir(&incoming)?,
            }
            let _ = self.0.ready.set(());
        }
        let path = incoming.join(HEXLOWER.encode(&rand::random::<[u8; 16]>()));
        let mut open = fs::OpenOptions::new();
        open.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
        let file = open.open(&path)?;
        Ok(Incoming { file, path, hash: Sha256::new(), len: 0, unsynced: 0 })
    }

    /// The file without what a picture says about its maker; one that is no picture, or a damaged one, stays as it is. Blocks.
    pub(super) fn stripped(&self, incoming: Incoming) -> Result<Incoming, Error> {
        let mut head = [0; 12];
        let read = File::open(&incoming.path).and_then(|mut file| {
            let looks = file.read(&mut head)? == head.len() && metadata::may_have(&head);
            if looks { fs::read(&incoming.path).map(Some) } else { Ok(None) }
        });
        let whole = read.map_err(|e| failed("reading a media file", &e))?;
        let Some(stripped) = whole.as_deref().and_then(metadata::stripped) else { return Ok(incoming) };
        let mut clean = self.create()?;
        clean.write(&[stripped.into()])?;
        Ok(clean)
    }

    /// Makes a file durable under its hash. Blocks.
    pub(super) fn keep(&self, incoming: Incoming) -> Result<([u8; 32], u64), Error> {
        let sha256: [u8; 32] = incoming.hash.clone().finalize().into();
        let len = incoming.len;
        self.rename(incoming, &self.path(&sha256)).map_err(|e| failed("keeping a media file", &e))?;
        Ok((sha256, len))
    }

    fn rename(&self, incoming: Incoming, to: &Path) -> io::Result<()> {
        incoming.file.sync_all()?;
        let folder = to.parent().ok_or_else(|| io::Error::other("a media file has a folder"))?;
        if !folder.exists() {
            private_dir(folder)?;
            sync_dir(&self.0.dir)?;
        }
        fs::rename(&incoming.path, to)?;
        sync_dir(folder)
    }

    /// Opens a content. Dropping the future is safe.
    pub(super) async fn open(&self, content: MediaContent) -> Result<Download, Error> {
        let path = self.path(&content.sha256);
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        match opened.map_err(io::Error::other).flatten() {
            Ok(file) => Ok(Download::new(file, content)),
            Err(error) => Err(failed("opening a media file", &error)),
        }
    }

    /// Opens a thumbnail that was made before. Dropping the future is safe.
    pub(super) async fn open_thumbnail(&self, of: &MediaContent, size: Size) -> Result<Option<Download>, Error> {
        let paths = Format::ALL.map(|format| (format, self.thumbnail_path(&of.sha256, size, format)));
        let of = of.clone();
        let opened = tokio::task::spawn_blocking(move || {
            for (format, path) in paths {
                match File::open(path) {
                    Ok(file) => return file.metadata().map(|meta| Some((file, meta.len(), format))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        });
        let opened = opened.await.map_err(io::Error::other).flatten();
        let opened = opened.map_err(|e| failed("opening a thumbnail", &e))?;
        Ok(opened.map(|(file, len, format)| Download::new(file, format.content(&of, len))))
    }

    /// Keeps a thumbnail, if its size is one that many ask for, and opens it. Blocks.
    pub(super) fn keep_thumbnail(
        &self,
        of: &MediaContent,
        size: Size,
        format: Format,
        bytes: Vec<u8>,
    ) -> Result<Download, Error> {
        let content = format.content(of, bytes.len() as u64);
        let mut incoming = self.create()?;
        incoming.write(&[bytes.into()])?;
        let file = File::open(&incoming.path).map_err(|e| failed("opening a thumbnail", &e))?;
        if size.is_usual() {
            let path = self.thumbnail_path(&of.sha256, size, format);
            self.rename(incoming, &path).map_err(|e| failed("keeping a thumbnail", &e))?;
        }
        Ok(Download::new(file, content))
    }

    /// Gives bytes that are made of a content, without keeping them. Blocks.
    pub(super) fn show(&self, of: &MediaContent, format: Format, bytes: Vec<u8>) -> Result<Download, Error> {
        let content = format.content(of, bytes.len() as u64);
        let mut incoming = self.create()?;
        incoming.write(&[bytes.into()])?;
        let file = File::open(&incoming.path).map_err(|e| failed("opening a thumbnail", &e))?;
        Ok(Download::new(file, content))
    }

    /// Removes a content and its thumbnails. Blocks.
    pub(super) fn remove(&self, sha256: &[u8; 32]) -> Result<(), Error> {
        let path = self.path(sha256);
        let removed = || {
            let folder = path.parent().ok_or_else(|| io::Error::other("a media file has a folder"))?;
            let name = HEXLOWER.encode(sha256);
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&name) {
                    fs::remove_file(entry.path())?;
                }
            }
            sync_dir(folder)
        };
        match removed() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing a media file", &error)),
            _ => Ok(()),
        }
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let name = HEXLOWER.encode(sha256);
        self.0.dir.join(&name[..2]).join(name)
    }

    fn thumbnail_path(&self, sha256: &[u8; 32], size: Size, format: Format) -> PathBuf {
        self.path(sha256).with_extension(format!("{size}.{}", format.extension()))
    }
}

impl Incoming {
    /// Appends. Blocks.
    pub(super) fn write(&mut self, block: &[Bytes]) -> Result<(), Error> {
        for bytes in block {
            self.hash.update(bytes);
            self.file.write_all(bytes).map_err(|e| failed("writing a media file", &e))?;
            self.len += bytes.len() as u64;
            self.unsynced += bytes.len();
        }
        Ok(())
    }

    /// If much was written since the last time: a step that brings it to the disk, which blocks.
    pub(super) fn sync_due(&mut self) -> Result<Option<impl FnOnce() -> Result<(), Error> + Send + 'static>, Error> {
        if self.unsynced < SYNC_EVERY {
            return Ok(None);
        }
        self.unsynced = 0;
        let file = self.file.try_clone().map_err(|e| failed("writing a media file", &e))?;
        Ok(Some(move || file.sync_data().map_err(|e| failed("writing a media file", &e))))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a rename there is nothing under this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// The outcome of a blocking step.
pub(super) fn joined<T>(outcome: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    outcome.map_err(|e| Error::internal(format!("a media file was not written: {e}")))?
}

fn failed(doing: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Store(millpond_store::Error::DiskFull),
        _ => Error::internal(format!("{doing} failed: {error}")),
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes the names in a folder durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    // Windows cannot sync a folder, and orders names itself.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Bytes between two syncs of a file that is being written.
const SYNC_EVERY: usize = 4 << 20;
