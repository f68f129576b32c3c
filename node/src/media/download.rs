//! An open media file, and how it may be shown (client-server API, "Serving inline content").

use std::{fs::File, io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use millpond_store::rows::MediaContent;
use ruma::http_headers::{ContentDisposition, ContentDispositionType};

/// A media file to be sent.
pub struct Download {
    file: Arc<File>,
    /// What is known about it.
    pub content: MediaContent,
}

impl Download {
    pub(super) fn new(file: File, content: MediaContent) -> Self {
        Self { file: Arc::new(file), content }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.content.len
    }

    /// Whether it is an empty file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entity tag: equal content has an equal one.
    pub fn tag(&self) -> String {
        // A thumbnail keeps the hash of its original, so its size tells them apart.
        format!("{}-{}", data_encoding::HEXLOWER.encode(&self.content.sha256), self.len())
    }

    /// The `Content-Type` to send.
    pub fn content_type(&self) -> &str {
        self.content.content_type.as_deref().unwrap_or("application/octet-stream")
    }

    /// The `Content-Disposition` to send: inline for types that cannot run scripts only. A `filename` replaces the
    /// uploader's.
    pub fn disposition(&self, filename: Option<String>) -> ContentDisposition {
        let essence = self.content_type().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let kind = if INLINE.contains(&essence.as_str()) {
            ContentDispositionType::Inline
        } else {
            ContentDispositionType::Attachment
        };
        ContentDisposition::new(kind).with_filename(filename.or_else(|| self.content.filename.clone()))
    }

    /// The bytes of a part, in blocks, the next one read while one is sent. Dropping the stream ends it.
    pub fn bytes(&self, part: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let file = self.file.clone();
        let starts = part.clone().step_by(BLOCK);
        let blocks = stream::iter(starts).map(move |start| {
            let (file, len) = (file.clone(), (part.end - start).min(BLOCK as u64));
            async move {
                let read = tokio::task::spawn_blocking(move || read_at(&file, start, len));
                read.await.map_err(io::Error::other)?
            }
        });
        blocks.buffered(2)
    }
}

fn read_at(file: &File, start: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut block = vec![0; len];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut block, start)?;
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < len {
            match std::os::windows::fs::FileExt::seek_read(file, &mut block[done..], start + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
    }
    Ok(block.into())
}

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// Types that clients may show in place (spec, "Serving inline content").
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];
