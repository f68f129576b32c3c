//! Files that go, and files that nobody is given: removal, quarantine, and the age and size of what is kept of peers.

use millpond_store::{job, rows, tables};
use ruma::{OwnedServerName, ServerName};

use super::{Media, check_id, files};
use crate::Error;

/// How much is kept of the files of other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// How long after they were fetched, in milliseconds; none: for ever.
    pub age_ms: Option<u64>,
    /// How many bytes in all; none: as many as come.
    pub bytes: Option<u64>,
}

impl Media {
    /// Removes a file for good, its thumbnails and its content too unless another id has the same; says whether it was
    /// there. Dropping the future may leave the content without a name, never a name without content.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn remove(&self, server: &ServerName, media_id: &str) -> Result<bool, Error> {
        // No upload may settle on the content that is being removed.
        let _turn = self.0.keeping.write().await;
        let key = (server.to_owned(), media_id.to_owned());
        let remove = job(
            move |view| Ok::<_, Error>(view.get(tables::MEDIA, (&*key.0, &key.1))?.map(|row| (key.clone(), row))),
            |found: Option<((OwnedServerName, String), rows::Media)>, txn| {
                let Some(((server, media_id), row)) = found else { return Ok(None) };
                txn.remove(tables::MEDIA, (&*server, &media_id))?;
                if let Some(creator) = row.creator {
                    txn.remove(tables::MEDIA_PENDING, (&creator, &media_id))?;
                }
                Ok(Some(row.content))
            },
        );
        let (Some(content), _) = self.0.core.write(remove).await? else { return Ok(false) };
        if let Some(content) = content
            && !self.has_content(&content.sha256)?
        {
            let files = self.0.files.clone();
            files::joined(tokio::task::spawn_blocking(move || files.remove(&content.sha256)).await)?;
        }
        Ok(true)
    }

    /// Whether an id has this content.
    fn has_content(&self, sha256: &[u8; 32]) -> Result<bool, Error> {
        for row in self.0.core.snapshot()?.view().scan(tables::MEDIA, ())? {
            if row?.1.content.is_some_and(|content| content.sha256 == *sha256) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Withholds a file from everybody, or gives it free again. One that is not here is not fetched while it is withheld.
    ///
    /// # Errors
    /// 404 for a file of ours that there is none of, 400 for what is no media id, storage errors.
    pub async fn quarantine(&self, server: &ServerName, media_id: &str, withheld: bool) -> Result<(), Error> {
        check_id(media_id)?;
        let ours = self.0.core.identity().is_ours(server);
        let fresh = self.row(None, None);
        let (server, media_id) = (server.to_owned(), media_id.to_owned());
        let (read_server, read_id) = (server.clone(), media_id.clone());
        let write = job(
            move |view| match view.get(tables::MEDIA, (&*read_server, &read_id))? {
                Some(row) => Ok(row),
                None if ours => Err(super::no_such(&read_server, &read_id)),
                None => Ok(fresh.clone()),
            },
            move |row: rows::Media, txn| {
                if row.content.is_none() && row.creator.is_none() && !withheld {
                    return txn.remove(tables::MEDIA, (&*server, &media_id)).map(drop);
                }
                txn.put(tables::MEDIA, (&*server, &media_id), &rows::Media { quarantined: withheld, ..row })
            },
        );
        self.0.core.write(write).await?;
        Ok(())
    }

    /// Removes files of other servers that are too old, and the oldest until the rest is small enough; says how many. They
    /// are fetched again when somebody asks. Dropping the future leaves the rest for another time.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn evict(&self, keep: Keep) -> Result<u64, Error> {
        if keep == Keep::default() {
            return Ok(0);
        }
        let oldest = self.0.core.clock().now_ms().saturating_sub(keep.age_ms.unwrap_or(u64::MAX));
        let mut kept = Vec::new();
        for row in self.0.core.snapshot()?.view().scan(tables::MEDIA, ())? {
            let ((server, media_id), row) = row?;
            if let Some(content) = row.content.filter(|_| row.creator.is_none() && !row.quarantined)
                && !self.0.core.identity().is_ours(&server)
            {
                kept.push((row.created_at_ms, content.len, server, media_id));
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, len, ..)| len).sum();
        let mut removed = 0;
        for (fetched_ms, len, server, media_id) in kept {
            if fetched_ms >= oldest && keep.bytes.is_none_or(|most| bytes <= most) {
                break;
            }
            removed += u64::from(self.remove(&server, &media_id).await?);
            bytes -= len;
        }
        Ok(removed)
    }
}
