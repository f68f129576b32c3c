//! Media of our users for other servers. Who knows a media id may have the file: ids are random and travel in events.

use std::time::Duration;

use futures::TryStreamExt;
use ruma::api::federation::authenticated_media::{Content, ContentMetadata, FileOrLocation, get_content};

use super::Federation;
use crate::{
    Error,
    media::{Download, Wanted},
};

/// Files held in memory at once: an answer over a link is whole.
pub(super) const FILES_AT_ONCE: usize = 4;

impl Federation {
    /// Answers `/media/download`, and with `wanted` `/media/thumbnail`. Waits for a file that is not uploaded yet.
    ///
    /// # Errors
    /// As [`crate::media::Media::download`]; a file of another server is not here.
    pub async fn media(
        &self,
        media_id: &str,
        wanted: Option<Wanted>,
        patience: Duration,
    ) -> Result<get_content::v1::Response, Error> {
        let ours = self.core.identity().server_name();
        let found = match wanted {
            None => self.parts.media.download(ours, media_id, patience).await?,
            Some(wanted) => self.parts.media.thumbnail(ours, media_id, wanted, patience).await?,
        };
        let turn = self.files.acquire().await;
        let _turn = turn.map_err(|_| Error::internal("the queue of files is closed"))?;
        let content = Content::new(read(&found).await?, found.content_type().to_owned(), found.disposition(None));
        Ok(get_content::v1::Response::new(ContentMetadata::new(), FileOrLocation::File(content)))
    }
}

async fn read(found: &Download) -> Result<Vec<u8>, Error> {
    let blocks = found.bytes(0..found.len());
    let all = blocks.try_fold(Vec::new(), |mut all, block| async move {
        all.extend_from_slice(&block);
        Ok(all)
    });
    all.await.map_err(|e| Error::internal(format!("a media file cannot be read: {e}")))
}
