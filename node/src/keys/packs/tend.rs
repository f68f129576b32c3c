//! Keeping the packs that peers hold as they should be: a loop that works off what changed.

use std::collections::BTreeSet;

use millpond_store::{Error as StoreError, Topic, View, WriteTxn, job, rows::PackDue, tables};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio_util::sync::CancellationToken;

use super::made::renew;
use crate::{
    Error,
    keys::{Audience, Keys, lists},
    peers,
};

/// Changes that are looked at together.
const BATCH: usize = 256;
/// Packs made in one commit.
const SLICE: usize = 16;
/// Local users whose packs a contact gets before it shares a room with them.
const MAX_STRANGERS: usize = 64;

impl Keys {
    /// Makes packs anew where keys changed, until told to stop.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn tend_packs(&self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let changed = self.core.notifier().register([Topic::KeyPacks]);
            while self.tend_packs_once().await? {
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            if stop.run_until_cancelled(changed.changed()).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Works off what is due; says whether there was any. Dropping it leaves the rest due.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn tend_packs_once(&self) -> Result<bool, Error> {
        let (done, pairs) = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let mut done = Vec::new();
            let mut wanted = BTreeSet::new();
            for row in view.scan(tables::KEY_PACKS_DUE, ())?.take(BATCH) {
                let (position, due) = row?;
                done.push(position);
                wanted.insert(due);
            }
            (done, self.pairs(view, wanted)?)
        };
        if done.is_empty() {
            return Ok(false);
        }
        self.renew_all(pairs).await?;
        let forget = move |(), txn: &mut WriteTxn<'_>| {
            done.iter().try_for_each(|position| txn.remove(tables::KEY_PACKS_DUE, *position).map(drop))
        };
        self.core.write(job(|_| Ok::<_, Error>(()), forget)).await?;
        Ok(true)
    }

    /// Gives a peer the packs that it lacks: who comes to share a room, or was linked before there were packs.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn renew_packs(&self, server: &ServerName) -> Result<(), Error> {
        let pairs = {
            let snapshot = self.core.snapshot()?;
            let due = PackDue { user_id: None, server: Some(server.to_owned()) };
            self.pairs(snapshot.view(), [due].into())?
        };
        self.renew_all(pairs).await
    }

    async fn renew_all(&self, pairs: BTreeSet<(OwnedServerName, OwnedUserId)>) -> Result<(), Error> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        for slice in pairs.chunks(SLICE) {
            let slice = slice.to_vec();
            let write =
                move |(), txn: &mut WriteTxn<'_>| slice.iter().try_for_each(|(server, user)| renew(txn, server, user));
            self.core.write(job(|_| Ok::<_, Error>(()), write)).await?;
        }
        Ok(())
    }

    /// Which packs a change is about: of peers that are linked, and of users about whom they may ask.
    fn pairs(
        &self,
        view: View<'_>,
        wanted: BTreeSet<PackDue>,
    ) -> Result<BTreeSet<(OwnedServerName, OwnedUserId)>, Error> {
        let linked = peers::linked_servers(view)?;
        let mut pairs = BTreeSet::new();
        for due in wanted {
            let servers = linked.iter().filter(|server| due.server.as_ref().is_none_or(|only| only == *server));
            for server in servers {
                let contact = self.remote.audience(server) == Audience::Contact;
                let users = match &due.user_id {
                    Some(user) => vec![user.clone()],
                    None => local_users(view)?,
                };
                for (n, user) in users.into_iter().enumerate() {
                    let may_ask = contact && n < MAX_STRANGERS;
                    if may_ask
                        || view.contains(tables::KEY_PACKS_SENT, (&**server, &*user))?
                        || lists::shares_room_with(view, &user, server)?
                    {
                        pairs.insert((server.clone(), user));
                    }
                }
            }
        }
        Ok(pairs)
    }
}

fn local_users(view: View<'_>) -> Result<Vec<OwnedUserId>, StoreError> {
    let mut users = Vec::new();
    for row in view.scan(tables::ACCOUNTS, ())? {
        let (user, account) = row?;
        if !account.deactivated {
            users.push(user);
        }
    }
    Ok(users)
}

/// The peers that hold a pack of a user.
pub(super) fn holders(view: View<'_>, user: &UserId) -> Result<Vec<OwnedServerName>, StoreError> {
    let mut holders = Vec::new();
    for server in peers::linked_servers(view)? {
        if view.contains(tables::KEY_PACKS_SENT, (&*server, user))? {
            holders.push(server);
        }
    }
    Ok(holders)
}
