//! Claims of keys of sleeping devices, from what their node gave us.

use millpond_store::{
    Error as StoreError, Topic, View, WriteTxn, job,
    rows::{KeyPack, OutboxItem},
    tables,
};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName, serde::Raw};

use super::{USED, Used, edu, held::take};
use crate::{
    Error,
    keys::{Claimed, Claims, Keys},
};

impl Keys {
    /// Whether packs can answer all of these claims on a server.
    pub(crate) fn packed_all(&self, server: &ServerName, claims: &Claims) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        for (user, devices) in claims {
            for (device, algorithm) in devices {
                let held = view.get(tables::KEY_PACKS, (server, &**user, &**device))?;
                if held.is_none_or(|mut held| take(&mut held, algorithm.as_str()).is_none()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Claims keys from the packs of a server; what they do not have is left out. The server is owed the news in the same
    /// commit. Dropping it may lose claimed keys.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn claim_packed(&self, server: &ServerName, claims: &Claims) -> Result<Claimed, Error> {
        let (server, claims) = (server.to_owned(), claims.clone());
        let view_server = server.clone();
        let decide = move |view: View<'_>| -> Result<Vec<Taken>, Error> { Ok(choose(view, &view_server, &claims)?) };
        let write = move |plan: Vec<Taken>, txn: &mut WriteTxn<'_>| -> Result<Vec<Taken>, StoreError> {
            for taken in &plan {
                taken.write(txn, &server)?;
            }
            Ok(plan)
        };
        let (taken, _) = self.core.write(job(decide, write)).await?;
        let mut claimed = Claimed::new();
        for Taken { user, device, id, json, .. } in taken {
            let (Ok(id), Ok(key)) = (id.as_str().try_into(), Raw::from_json_string(json)) else { continue };
            claimed.entry(user).or_default().entry(device).or_default().insert(id, key);
        }
        Ok(claimed)
    }
}

struct Taken {
    user: OwnedUserId,
    device: OwnedDeviceId,
    held: KeyPack,
    id: String,
    json: String,
    one_time: bool,
    /// The owner need not hear again that its fallback key is used.
    news: bool,
}

fn choose(view: View<'_>, server: &ServerName, claims: &Claims) -> Result<Vec<Taken>, StoreError> {
    let mut all = Vec::new();
    for (user, devices) in claims {
        for (device, algorithm) in devices {
            let Some(mut held) = view.get(tables::KEY_PACKS, (server, &**user, &**device))? else { continue };
            let was_used = held.fallback.get(algorithm.as_str()).is_some_and(|fallback| fallback.used);
            let Some((id, json, one_time)) = take(&mut held, algorithm.as_str()) else { continue };
            let news = one_time || !was_used;
            all.push(Taken { user: user.clone(), device: device.clone(), held, id, json, one_time, news });
        }
    }
    Ok(all)
}

impl Taken {
    fn write(&self, txn: &mut WriteTxn<'_>, server: &ServerName) -> Result<(), StoreError> {
        txn.put(tables::KEY_PACKS, (server, &*self.user, &*self.device), &self.held)?;
        if !self.news {
            return Ok(());
        }
        let ids = vec![self.id.clone()];
        let (one_time, fallback) = if self.one_time { (ids, Vec::new()) } else { (Vec::new(), ids) };
        let used = Used { user_id: self.user.clone(), device_id: self.device.clone(), one_time, fallback };
        let position = txn.next_position().0;
        txn.put(tables::OUTBOX, (server, position), &OutboxItem::Edu(edu(USED, &used)))?;
        txn.touch(Topic::Outbox(server.to_owned()));
        Ok(())
    }
}
