//! The content repository: uploads, downloads, thumbnails. A media id is a row, its content a file named by its SHA-256,
//! so equal files are kept once. An upload is answered when file, folder and row are on the disk.
//!
//! Content of peers comes through a [`MediaSource`], is kept like our own, and is fetched once however many ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::BoxFuture, stream::BoxStream};
use http::StatusCode;
use millpond_store::{View, job, rows, tables};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedMxcUri, OwnedServerName, ServerName, UInt, UserId,
    api::error::{ErrorKind, LimitExceededErrorData},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use crate::{Core, Error};

mod animation;
mod download;
mod files;
mod metadata;
mod removal;
mod thumbnail;
mod wanted;

use self::files::Files;
pub use self::{download::Download, removal::Keep, thumbnail::Wanted};

/// The media of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    core: Core,
    files: Files,
    /// Woken when a reserved id gets its content.
    uploaded: Notify,
    source: OnceLock<Arc<dyn MediaSource>>,
    fetching: Mutex<HashMap<(OwnedServerName, String), Weak<FetchLock>>>,
    /// A decoded image can have hundreds of megabytes, so one at a time.
    decoding: Semaphore,
    /// Read from the moment a content has its name on the disk until its row is written; written by who removes.
    keeping: tokio::sync::RwLock<()>,
}

/// Held until the row of a content is written.
type Kept<'a> = tokio::sync::RwLockReadGuard<'a, ()>;

/// Held by the one who fetches a file; the others wait.
type FetchLock = tokio::sync::Mutex<()>;

/// Where the media of peers come from.
pub trait MediaSource: Send + Sync {
    /// Asks the server for a file of its own. Dropping the future or the body gives the fetch up.
    ///
    /// # Errors
    /// 404 if it has no such file, 502 if it gives none that is one, 504 if it cannot be reached in time.
    fn fetch<'a>(
        &'a self,
        server: &'a ServerName,
        media_id: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<RemoteMedia, Error>>;
}

/// A file on its way from a peer.
pub struct RemoteMedia {
    /// What the peer says about it.
    pub label: Label,
    /// Its content.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

/// What the uploader says about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The file's name.
    pub filename: Option<String>,
}

impl Media {
    /// The service over `core`; files are kept under `media` in the data directory.
    pub fn new(core: Core) -> Self {
        let files = Files::new(core.config().data_dir.join("media"));
        let (source, fetching) = Default::default();
        Self(Arc::new(Inner {
            core,
            files,
            uploaded: Notify::new(),
            source,
            fetching,
            decoding: Semaphore::new(1),
            keeping: Default::default(),
        }))
    }

    /// Says where the media of peers come from; the first one given stays.
    pub fn use_source(&self, source: Arc<dyn MediaSource>) {
        let _ = self.0.source.set(source);
    }

    /// The largest upload in bytes.
    pub fn max_upload(&self) -> u64 {
        self.0.core.config().max_upload_bytes
    }

    /// Takes a file and gives it an id; `len` is what the client announces. Answers when it is durable; dropping the
    /// future before leaves nothing.
    ///
    /// # Errors
    /// 413 `M_TOO_LARGE`; 400 if the body breaks off; storage errors.
    pub async fn upload<E>(
        &self,
        user: &UserId,
        label: Label,
        len: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<OwnedMxcUri, Error> {
        let (content, _kept) = self.receive(label, len, body, true).await?;
        let media_id = new_id();
        let row = self.row(Some(user), Some(content));
        self.put(self.0.core.identity().server_name(), &media_id, row).await?;
        Ok(self.uri(&media_id))
    }

    /// Keeps a file of the node's own, such as the picture of a preview. As [`Media::upload`].
    ///
    /// # Errors
    /// As [`Media::upload`].
    pub async fn keep(&self, label: Label, bytes: Bytes) -> Result<OwnedMxcUri, Error> {
        let body = futures::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        let (content, _kept) = self.receive(label, None, body, false).await?;
        let media_id = new_id();
        self.put(self.0.core.identity().server_name(), &media_id, self.row(None, Some(content))).await?;
        Ok(self.uri(&media_id))
    }

    /// Reserves an id, to be uploaded to until the time given. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` if the user has reserved too many and used none; storage errors.
    pub async fn reserve(&self, user: &UserId) -> Result<(OwnedMxcUri, MilliSecondsSinceUnixEpoch), Error> {
        let media_id = new_id();
        let (creator, id, row) = (user.to_owned(), media_id.clone(), self.row(Some(user), None));
        let server = self.0.core.identity().server_name().to_owned();
        let now = row.created_at_ms;
        let expires = now + RESERVED_FOR_MS;
        let reader = creator.clone();
        let write = job(
            move |view| expired_reservations(view, &reader, now),
            move |expired: Vec<String>, txn| {
                for old in &expired {
                    txn.remove(tables::MEDIA_PENDING, (&creator, old))?;
                    txn.remove(tables::MEDIA, (&*server, old))?;
                }
                txn.put(tables::MEDIA, (&*server, &id), &row)?;
                txn.put(tables::MEDIA_PENDING, (&creator, &id), &expires)
            },
        );
        self.0.core.write(write).await?;
        Ok((self.uri(&media_id), MilliSecondsSinceUnixEpoch(UInt::new_saturating(expires))))
    }

    /// Takes the file of a reserved id. As [`Media::upload`].
    ///
    /// # Errors
    /// 403 if somebody else reserved it, 404 if nobody did or the time is over, 409 `M_CANNOT_OVERWRITE_MEDIA`; and as
    /// [`Media::upload`].
    pub async fn upload_reserved<E>(
        &self,
        user: &UserId,
        (server, media_id): (&ServerName, &str),
        label: Label,
        len: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(), Error> {
        let now = self.0.core.clock().now_ms();
        let creator = user.to_owned();
        reservation(self.0.core.snapshot()?.view(), user, (server, media_id), now)?;
        let (content, _kept) = self.receive(label, len, body, true).await?;
        let (server, media_id) = (server.to_owned(), media_id.to_owned());
        let (read_server, read_id, reader) = (server.clone(), media_id.clone(), creator.clone());
        let write = job(
            move |view| reservation(view, &reader, (&read_server, &read_id), now),
            move |row: rows::Media, txn| {
                let row = rows::Media { content: Some(content.clone()), ..row };
                txn.put(tables::MEDIA, (&server, &media_id), &row)?;
                txn.remove(tables::MEDIA_PENDING, (&creator, &media_id)).map(drop)
            },
        );
        self.0.core.write(write).await?;
        self.0.uploaded.notify_waiters();
        Ok(())
    }

    /// Opens a file, ours or a peer's, waiting so long at most for one that is not uploaded yet. May be dropped.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`, 504 `M_NOT_YET_UPLOADED`; of another server's file also 502 `M_TOO_LARGE`, 502 `M_UNKNOWN` if what it
    /// gives is no file, 504 `M_UNKNOWN` if it gives nothing in time; storage errors.
    pub async fn download(&self, server: &ServerName, media_id: &str, patience: Duration) -> Result<Download, Error> {
        check_id(media_id)?;
        let content = if self.0.core.identity().is_ours(server) {
            self.awaited(server, media_id, patience).await?
        } else {
            self.remote(server, media_id, patience).await?
        };
        self.0.files.open(content).await
    }

    /// A thumbnail of an image, at least as large as wanted where the image is; an image that is not larger is given as
    /// it is. May be dropped.
    ///
    /// # Errors
    /// As [`Media::download`]; 400 `M_UNKNOWN` for what is not an image, 413 `M_TOO_LARGE` for one with too many pixels, 502 if
    /// that one is of another server.
    pub async fn thumbnail(
        &self,
        server: &ServerName,
        media_id: &str,
        wanted: Wanted,
        patience: Duration,
    ) -> Result<Download, Error> {
        let original = self.download(server, media_id, patience).await?;
        let size = wanted.rounded();
        if let Some(size) = size
            && let Some(known) = self.0.files.open_thumbnail(&original.content, size).await?
        {
            return Ok(known);
        }
        if size.is_none() && wanted.animated != Some(false) {
            return Ok(original);
        }
        let turn = self.0.decoding.acquire().await;
        let turn = turn.map_err(|_| Error::internal("the thumbnail queue is closed"))?;
        let files = self.0.files.clone();
        let made = tokio::task::spawn_blocking(move || thumbnail::make(&files, original, size, wanted)).await;
        drop(turn);
        let made = made.map_err(|_| Error::unknown("no thumbnail: the image decoder failed on this content"))?;
        match self.0.core.identity().is_ours(server) {
            true => made,
            false => made.map_err(|error| match error {
                Error::Matrix { kind: ErrorKind::TooLarge, .. } => theirs(error),
                other => other,
            }),
        }
    }

    async fn awaited(
        &self,
        server: &ServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<rows::MediaContent, Error> {
        let deadline = Instant::now() + patience.min(PATIENCE_MAX);
        loop {
            // Register first, then read, then wait.
            let uploaded = self.0.uploaded.notified();
            tokio::pin!(uploaded);
            uploaded.as_mut().enable();
            let row = self.0.core.snapshot()?.view().get(tables::MEDIA, (server, media_id))?;
            let row = row.filter(|row| !row.quarantined).ok_or_else(|| no_such(server, media_id))?;
            if let Some(content) = row.content {
                return Ok(content);
            }
            if timeout_at(deadline, uploaded).await.is_err() {
                let message = "this file is not uploaded yet: try again later";
                return Err(Error::matrix(StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded, message));
            }
        }
    }

    async fn remote(
        &self,
        server: &ServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<rows::MediaContent, Error> {
        let known = || self.0.core.snapshot()?.view().get(tables::MEDIA, (server, media_id)).map_err(Error::Store);
        match known()? {
            Some(row) if row.quarantined => return Err(no_such(server, media_id)),
            Some(rows::Media { content: Some(content), .. }) => return Ok(content),
            _ => {}
        }
        let source = self.0.source.get().ok_or_else(|| no_such(server, media_id))?;
        let turn = self.fetch_lock(server, media_id);
        let _turn = turn.lock().await;
        // Who waited finds what the one before fetched.
        if let Some(content) = known()?.and_then(|row| row.content) {
            return Ok(content);
        }
        let fetched = source.fetch(server, media_id, patience.min(PATIENCE_MAX)).await;
        if let Err(Error::Matrix { kind: ErrorKind::NotYetUploaded, .. }) = &fetched {
            self.want(server, media_id).await?;
        }
        let media = fetched?;
        let (content, _kept) = self.receive(media.label, None, media.body, false).await.map_err(theirs)?;
        self.put(server, media_id, self.row(None, Some(content.clone()))).await?;
        Ok(content)
    }

    /// One fetch at a time for one file.
    fn fetch_lock(&self, server: &ServerName, media_id: &str) -> Arc<FetchLock> {
        let mut fetching = self.0.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, lock| lock.strong_count() > 0);
        let key = (server.to_owned(), media_id.to_owned());
        if let Some(lock) = fetching.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        fetching.insert(key, Arc::downgrade(&lock));
        lock
    }

    /// Writes a body to the disk, block by block: one is written while the next one arrives. `strips`: if the settings say so,
    /// pictures lose their metadata.
    async fn receive<E>(
        &self,
        label: Label,
        len: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        strips: bool,
    ) -> Result<(rows::MediaContent, Kept<'_>), Error> {
        let max = self.max_upload();
        let too_large = || Error::too_large(format!("files may have {max} bytes here"));
        if len.is_some_and(|len| len > max) {
            return Err(too_large());
        }
        let files = self.0.files.clone();
        let mut writing = tokio::task::spawn_blocking(move || files.create());
        let mut body = std::pin::pin!(body);
        let (mut block, mut block_len, mut total) = (Vec::new(), 0, 0u64);
        // Syncing as we go lets the disk work while the rest arrives, and the last sync has little left to do.
        let mut syncing = tokio::task::spawn_blocking(|| Ok(()));
        loop {
            let chunk = timeout(CHUNK_PATIENCE, body.next()).await;
            let chunk = chunk
                .map_err(|_| Error::unknown("the file stalled on its way: nothing came for a minute"))?
                .transpose();
            let chunk =
                chunk.map_err(|_| Error::unknown("the file broke off on its way: it has to be sent again, whole"))?;
            let last = chunk.is_none();
            if let Some(chunk) = chunk {
                total += chunk.len() as u64;
                block_len += chunk.len();
                block.push(chunk);
            }
            if total > max {
                return Err(too_large());
            }
            if block_len >= BLOCK || last {
                let (mut incoming, full) = (files::joined(writing.await)?, std::mem::take(&mut block));
                if syncing.is_finished()
                    && let Some(sync) = incoming.sync_due()?
                {
                    files::joined(std::mem::replace(&mut syncing, tokio::task::spawn_blocking(sync)).await)?;
                }
                block_len = 0;
                writing = tokio::task::spawn_blocking(move || incoming.write(&full).map(|()| incoming));
            }
            if last {
                let incoming = files::joined(writing.await)?;
                files::joined(syncing.await)?;
                let files = self.0.files.clone();
                let turn = self.0.keeping.read().await;
                let strip = strips && self.0.core.config().strip_metadata;
                let kept = tokio::task::spawn_blocking(move || match strip {
                    true => files.keep(files.stripped(incoming)?),
                    false => files.keep(incoming),
                });
                let kept = kept.await;
                let (sha256, len) = files::joined(kept)?;
                return Ok((label.of(sha256, len), turn));
            }
        }
    }

    fn row(&self, creator: Option<&UserId>, content: Option<rows::MediaContent>) -> rows::Media {
        let created_at_ms = self.0.core.clock().now_ms();
        rows::Media { creator: creator.map(ToOwned::to_owned), created_at_ms, content, quarantined: false }
    }

    async fn put(&self, server: &ServerName, media_id: &str, row: rows::Media) -> Result<(), Error> {
        let (server, media_id) = (server.to_owned(), media_id.to_owned());
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.put(tables::MEDIA, (&server, &media_id), &row));
        self.0.core.write(write).await?;
        Ok(())
    }

    fn uri(&self, media_id: &str) -> OwnedMxcUri {
        format!("mxc://{}/{media_id}", self.0.core.identity().server_name()).into()
    }
}

impl Label {
    fn of(self, sha256: [u8; 32], len: u64) -> rows::MediaContent {
        let bounded = |text: Option<String>| text.filter(|text| text.len() <= LABEL_MAX);
        let (content_type, filename) = (bounded(self.content_type), bounded(self.filename));
        rows::MediaContent { sha256, len, content_type, filename }
    }
}

/// What is wrong with a file of another server: no fault of the client's request.
fn theirs(error: Error) -> Error {
    match error {
        Error::Matrix { status, kind, message } if status.is_client_error() => {
            Error::matrix(StatusCode::BAD_GATEWAY, kind, message)
        }
        other => other,
    }
}

/// The row of an id that the user reserved and may upload to.
fn reservation(
    view: View<'_>,
    user: &UserId,
    (server, media_id): (&ServerName, &str),
    now_ms: u64,
) -> Result<rows::Media, Error> {
    let row = view.get(tables::MEDIA, (server, media_id))?.ok_or_else(|| no_such(server, media_id))?;
    if row.creator.as_deref() != Some(user) {
        return Err(Error::forbidden("this media id was reserved by somebody else"));
    }
    if row.content.is_some() {
        let message = "this media id has its content: upload to a new one";
        return Err(Error::matrix(StatusCode::CONFLICT, ErrorKind::CannotOverwriteMedia, message));
    }
    let expires = view.get(tables::MEDIA_PENDING, (user, media_id))?;
    if expires.is_none_or(|expires| expires <= now_ms) {
        return Err(Error::not_found("the reservation of this media id has expired: make a new one"));
    }
    Ok(row)
}

/// The reservations of a user that are over; refuses if he has too many that are not.
fn expired_reservations(view: View<'_>, user: &UserId, now_ms: u64) -> Result<Vec<String>, Error> {
    let (mut expired, mut open) = (Vec::new(), 0);
    for row in view.scan(tables::MEDIA_PENDING, (user,))? {
        let ((_, media_id), expires) = row?;
        if expires <= now_ms {
            expired.push(media_id);
        } else {
            open += 1;
        }
    }
    if open >= RESERVED_MAX {
        let message = format!("you have {open} media ids without content: upload to them first");
        let kind = ErrorKind::LimitExceeded(LimitExceededErrorData::new());
        return Err(Error::matrix(StatusCode::TOO_MANY_REQUESTS, kind, message));
    }
    Ok(expired)
}

/// Spec, "Content repository", security considerations.
fn check_id(media_id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if media_id.is_empty() || media_id.len() > LABEL_MAX || !media_id.bytes().all(allowed) {
        return Err(Error::invalid_param("a media id has letters, digits, '_' and '-' only"));
    }
    Ok(())
}

fn no_such(server: &ServerName, media_id: &str) -> Error {
    Error::not_found(format!("there is no file mxc://{server}/{media_id} here"))
}

fn new_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>())
}

/// Bytes written at once: large enough that a block costs little beside its writing.
const BLOCK: usize = 1 << 20;
/// How long a client or peer may let us wait for the next bytes.
const CHUNK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a request may wait for an upload or a peer, whatever it asks for.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// How long a reserved id waits for its upload: a day, as the specification suggests.
const RESERVED_FOR_MS: u64 = 24 * 60 * 60 * 1000;
/// Reserved ids without content that a user may have.
const RESERVED_MAX: usize = 100;
/// Bytes of a content type, a file name, a media id.
const LABEL_MAX: usize = 255;

#[cfg(test)]
mod tests;
