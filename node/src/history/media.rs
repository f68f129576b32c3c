//! Files that only purged messages referred to. A file may be shown by many events, profiles and account data, so what is
//! left of them is searched for its address first. What encrypted events refer to is known to clients alone.

use std::collections::BTreeSet;

use millpond_store::{View, tables};
use ruma::OwnedServerName;

use super::History;
use crate::Error;

/// A file: server name and media id.
pub(super) type File = (OwnedServerName, String);

impl History {
    /// Removes those files that nothing refers to; says how many.
    pub(super) async fn remove_files(&self, mut files: BTreeSet<File>) -> Result<u64, Error> {
        {
            let snapshot = self.core.snapshot()?;
            keep_known(snapshot.view(), &mut files)?;
            forget_referred(snapshot.view(), &mut files)?;
        }
        let mut removed = 0;
        for (server, media_id) in files {
            removed += u64::from(self.media.remove(&server, &media_id).await?);
        }
        Ok(removed)
    }
}

/// The files that a text of JSON refers to.
pub(super) fn files(json: &str) -> BTreeSet<File> {
    let addresses = json.split("mxc://").skip(1);
    addresses
        .filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~:/[]".contains(c))).unwrap_or(rest.len());
            let (server, media_id) = rest[..end].split_once('/')?;
            Some((OwnedServerName::try_from(server).ok()?, media_id.to_owned()))
        })
        .collect()
}

fn keep_known(view: View<'_>, files: &mut BTreeSet<File>) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for (server, media_id) in std::mem::take(files) {
        if view.contains(tables::MEDIA, (&*server, &media_id))? {
            known.insert((server, media_id));
        }
    }
    *files = known;
    Ok(())
}

/// Takes out the files that are referred to. Reads everything once.
fn forget_referred(view: View<'_>, wanted: &mut BTreeSet<File>) -> Result<(), Error> {
    let mut see = |json: &str| {
        if json.contains("mxc://") {
            for file in files(json) {
                wanted.remove(&file);
            }
        }
        wanted.is_empty()
    };
    if see("") {
        return Ok(());
    }
    for row in view.scan(tables::PROFILES, ())? {
        see(&row?.1);
    }
    for row in view.scan(tables::ACCOUNT_DATA, ())? {
        see(&row?.1.content);
    }
    for row in view.scan(tables::EVENTS, ())? {
        if see(&row?.1.json) {
            break;
        }
    }
    Ok(())
}
