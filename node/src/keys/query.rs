//! Asking for keys. Spec: `POST /keys/query`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use millpond_store::{Position, View, tables};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::{
        client::keys::get_keys::v3::{Request, Response},
        error::ErrorKind,
        federation::keys::get_keys::v1,
    },
};

use super::{
    Keys, lists, packs,
    remote::{MAX_DEVICES, cross_signing, failure, patience},
    show,
    signed::{CrossSigningKey, Usage, device_keys},
};
use crate::Error;

type Asked = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What has to be asked from one server.
#[derive(Default)]
struct Questions {
    /// Users who share a room with the asker: their lists are fetched whole and kept.
    lists: BTreeSet<OwnedUserId>,
    /// Others: asked, and not kept.
    once: Asked,
}

impl Keys {
    /// The keys of users' devices, for a client. Safe to drop.
    ///
    /// # Errors
    /// Storage errors. A peer that cannot be reached is named in `failures`; what we kept of it is shown.
    pub async fn query(&self, viewer: &UserId, request: Request) -> Result<Response, Error> {
        let asked = request.device_keys;
        let questions = self.questions(viewer, &asked)?;
        let patience = patience(request.timeout);
        let servers = questions.into_iter().map(|(server, questions)| async move {
            let answer = self.ask(&server, questions, patience).await;
            (server, answer)
        });
        let mut response = Response::new();
        for (server, answer) in join_all(servers).await {
            match answer {
                Ok(Some(answer)) => add_remote(&mut response, &server, answer, &asked),
                Ok(None) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => drop(response.failures.insert(server.to_string(), failure(&error))),
            }
        }
        self.add_kept(&mut response, viewer, &asked)?;
        Ok(response)
    }

    fn questions(&self, viewer: &UserId, asked: &Asked) -> Result<BTreeMap<OwnedServerName, Questions>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mine = lists::memberships(view, viewer)?;
        let mut questions = BTreeMap::<_, Questions>::new();
        for (user, devices) in asked.iter().filter(|(user, _)| !self.core.identity().is_our_user(user)) {
            let server = user.server_name().to_owned();
            let kept = view.get(tables::REMOTE_LISTS, (&server, user))?;
            // Its server owes us every change; what it sleeps over it does not change.
            if packs::is_packed(view, &server, user)?
                && kept.is_some_and(|list| !list.stale || !self.remote.is_up(&server))
            {
                continue;
            }
            let since = Position(kept.map_or(0, |list| list.fetched_at));
            let (shared, unbroken) = lists::sharing_since(view, &mine, (viewer, user), since)?;
            if kept.is_some_and(|list| !list.stale) && unbroken {
                continue;
            }
            let questions = questions.entry(server).or_default();
            if shared {
                questions.lists.insert(user.clone());
            } else {
                questions.once.insert(user.clone(), devices.clone());
            }
        }
        Ok(questions)
    }

    async fn ask(
        &self,
        server: &OwnedServerName,
        questions: Questions,
        patience: Duration,
    ) -> Result<Option<v1::Response>, Error> {
        let lists = questions.lists;
        let fetch = async {
            let mut fetches =
                stream::iter(lists).map(|user| async move { self.resync(&user).await }).buffer_unordered(8);
            while let Some(fetched) = fetches.next().await {
                match fetched {
                    // The server was reached and does not know the user: no failure.
                    Err(error) if error.kind() == Some(&ErrorKind::NotFound) => {}
                    other => other?,
                }
            }
            match questions.once.is_empty() {
                true => Ok(None),
                false => self.remote.query(server, questions.once).await.map(Some),
            }
        };
        self.within(patience, fetch).await
    }

    /// Adds what our tables hold: local users, and remote ones who were not answered for.
    fn add_kept(&self, response: &mut Response, viewer: &UserId, asked: &Asked) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        for (user, filter) in asked {
            if response.device_keys.contains_key(user) {
                add_own_signatures(response, view, user, viewer)?;
                continue;
            }
            if self.core.identity().is_our_user(user) {
                if view.contains(tables::ACCOUNTS, user)? {
                    let devices = show::local_devices(view, user, filter, Some(viewer))?;
                    response.device_keys.insert(user.clone(), devices);
                }
            } else if view.contains(tables::REMOTE_LISTS, (user.server_name(), user))? {
                response.device_keys.insert(user.clone(), show::remote_devices(view, user, filter)?);
            }
            add_cross_signing(response, view, user, viewer)?;
        }
        Ok(())
    }
}

fn add_cross_signing(response: &mut Response, view: View<'_>, user: &UserId, viewer: &UserId) -> Result<(), Error> {
    let show = |usage| show::cross_signing(view, user, usage, Some(viewer));
    if let Some(key) = show(Usage::Master)? {
        response.master_keys.insert(user.to_owned(), key);
    }
    if let Some(key) = show(Usage::SelfSigning)? {
        response.self_signing_keys.insert(user.to_owned(), key);
    }
    if user == viewer
        && let Some(key) = show(Usage::UserSigning)?
    {
        response.user_signing_keys.insert(user.to_owned(), key);
    }
    Ok(())
}

/// The asker's own signatures on the master key of a user that we keep nothing of.
fn add_own_signatures(response: &mut Response, view: View<'_>, user: &UserId, viewer: &UserId) -> Result<(), Error> {
    if let Some(raw) = response.master_keys.get_mut(user)
        && let Some(key) = CrossSigningKey::stored(raw.json().get())
    {
        *raw = show::raw(&show::sign(view, key.signed, user, &key.public, Some(viewer))?);
    }
    Ok(())
}

/// Adds a peer's answer about users that we keep nothing of: only what was asked, only about its own users.
fn add_remote(response: &mut Response, server: &OwnedServerName, mut answer: v1::Response, asked: &Asked) {
    for (user, filter) in asked.iter().filter(|(user, _)| user.server_name() == server) {
        if let Some(mut devices) = answer.device_keys.remove(user) {
            devices.retain(|device, keys| {
                (filter.is_empty() || filter.contains(device)) && device_keys(keys.json().get(), user, device).is_ok()
            });
            let devices = devices.into_iter().take(MAX_DEVICES).collect();
            response.device_keys.insert(user.clone(), devices);
        }
        let keys = cross_signing(user, answer.master_keys.remove(user), answer.self_signing_keys.remove(user));
        for (usage, key) in keys {
            let raw = show::raw(&key.signed);
            match usage {
                Usage::Master => response.master_keys.insert(user.clone(), raw),
                _ => response.self_signing_keys.insert(user.clone(), raw),
            };
        }
    }
}
