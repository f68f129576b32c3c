//! Media of peers that sleep: "not there yet" at once, and fetched when they are back (overlay.md section 5, "What
//! unmodified clients force on us", 5). Clients ask again by themselves.

use millpond_store::{View, job, tables};
use ruma::{ServerName, api::error::ErrorKind};

use super::{Media, PATIENCE_MAX};
use crate::{Error, peers::is_linked};

/// Files of one server that are waited for; beyond it the client asks again when the server is there.
const MAX_WANTED: usize = 256;

impl Media {
    /// Notes that somebody wants a file of a linked server: others do not tell that they are back.
    pub(super) async fn want(&self, server: &ServerName, media_id: &str) -> Result<(), Error> {
        let (key, now) = ((server.to_owned(), media_id.to_owned()), self.0.core.clock().now_ms());
        let view_key = key.clone();
        let write = job(
            move |view: View<'_>| {
                if !is_linked(view, &view_key.0)? {
                    return Ok(false);
                }
                let known = view.contains(tables::MEDIA_WANTED, &view_key)?;
                let full = view.scan(tables::MEDIA_WANTED, (&*view_key.0,))?.take(MAX_WANTED).count() == MAX_WANTED;
                Ok::<_, Error>(!known && !full)
            },
            move |new: bool, txn| match new {
                true => txn.put(tables::MEDIA_WANTED, &key, &now),
                false => Ok(()),
            },
        );
        self.0.core.write(write).await?;
        Ok(())
    }

    /// Fetches what was wanted of a server that is back, or has answered over mailboxes. Says whether nothing is left. Dropping it
    /// leaves the rest wanted.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn fetch_wanted(&self, server: &ServerName) -> Result<bool, Error> {
        let wanted = {
            let snapshot = self.0.core.snapshot()?;
            let rows = snapshot.view().scan(tables::MEDIA_WANTED, (server,))?;
            rows.map(|row| row.map(|((_, id), _)| id)).collect::<Result<Vec<_>, _>>()?
        };
        let mut left = false;
        for media_id in wanted {
            match self.remote(server, &media_id, PATIENCE_MAX).await {
                Err(Error::Store(error)) => return Err(error.into()),
                // It sleeps again, or has not answered this one yet.
                Err(Error::Matrix { kind: ErrorKind::NotYetUploaded, .. }) => left = true,
                // Here, or there is none.
                Ok(_) | Err(_) => self.unwant(server, media_id).await?,
            }
        }
        Ok(!left)
    }

    async fn unwant(&self, server: &ServerName, media_id: String) -> Result<(), Error> {
        let key = (server.to_owned(), media_id);
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.remove(tables::MEDIA_WANTED, &key).map(drop));
        self.0.core.write(write).await?;
        Ok(())
    }
}
