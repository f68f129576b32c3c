//! Pushers (client-server API, "Push notifications"): where users have asked to be notified. Nothing leaves the node for it
//! unless a client of the user has set one; then the gateway is told of what the push rules notify about ([`work`]).

mod due;
mod gateway;
mod work;

use millpond_store::{View, WriteTxn, job, rows::Pusher as Row, tables};
use ruma::{
    DeviceId, UserId,
    api::client::push::{self, PusherIds, PusherInit, PusherKind},
    push::{HttpPusherData, PushFormat},
    serde::JsonObject,
};

use crate::{Core, Error, accounts::Sender, push::Push};

/// The pushers of local users. Cloning is cheap.
#[derive(Clone)]
pub struct Pushers {
    core: Core,
    push: Push,
}

impl Pushers {
    /// The service over `core`; `push` counts what is unread.
    pub fn new(core: Core, push: Push) -> Self {
        Self { core, push }
    }

    /// The pushers of a user.
    ///
    /// # Errors
    /// Storage errors.
    pub fn all(&self, user: &UserId) -> Result<Vec<push::Pusher>, Error> {
        let snapshot = self.core.snapshot()?;
        let rows = snapshot.view().scan(tables::PUSHERS, (user,))?;
        rows.map(|row| row.map(|((_, app_id, pushkey), row)| shown(app_id, pushkey, row)).map_err(Error::from))
            .collect()
    }

    /// Sets a pusher; unless it is an addition (`append`), those of other users with the same app and key go. Dropping the
    /// future does not take it back.
    ///
    /// # Errors
    /// 400 for a pusher that cannot be; 429 for too many of one user; storage errors.
    pub async fn set(&self, sender: &Sender, pusher: push::Pusher, append: bool) -> Result<(), Error> {
        let (key, row) = self.checked(sender, pusher)?;
        let (user, read) = (key.0.clone(), key.clone());
        let set = job(
            move |view| {
                let known = view.get(tables::PUSHERS, &read)?;
                if known.is_none() && view.scan(tables::PUSHERS, (&*user,))?.count() >= PUSHERS_MAX {
                    return Err(Error::invalid_param(format!("you have {PUSHERS_MAX} pushers: remove some first")));
                }
                let others = if append { Vec::new() } else { others(view, &read)? };
                Ok((known.map(|known| known.told), others))
            },
            move |(told, others), txn| {
                for other in others {
                    txn.remove(tables::PUSHERS, &other)?;
                }
                // What was before is not pushed: the user has not asked for it then.
                let told = told.unwrap_or(txn.position().0);
                txn.put(tables::PUSHERS, &key, &Row { told, ..row.clone() })
            },
        );
        self.core.write(set).await?;
        Ok(())
    }

    /// Removes a pusher, if it is there. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn remove(&self, user: &UserId, ids: PusherIds) -> Result<(), Error> {
        let key = (user.to_owned(), ids.app_id, ids.pushkey);
        let remove = job(|_| Ok::<_, Error>(()), move |(), txn| txn.remove(tables::PUSHERS, &key).map(drop));
        self.core.write(remove).await?;
        Ok(())
    }

    fn checked(&self, sender: &Sender, pusher: push::Pusher) -> Result<(Key, Row), Error> {
        let http = match pusher.kind {
            PusherKind::Http(http) => http,
            PusherKind::Email(_) => {
                return Err(Error::invalid_param("this homeserver sends no mail: `kind` can be http"));
            }
            _ => return Err(Error::invalid_param("`kind` can be http, or null to remove the pusher")),
        };
        let PusherIds { pushkey, app_id, .. } = pusher.ids;
        let texts = [(&pushkey, "pushkey", 512), (&app_id, "app_id", 64), (&http.url, "url", 2048)];
        let names =
            [(&pusher.app_display_name, "app_display_name"), (&pusher.device_display_name, "device_display_name")];
        let names = names.into_iter().chain([(&pusher.lang, "lang")]).map(|(text, name)| (text, name, 1000));
        for (text, name, max) in texts.into_iter().chain(names) {
            if text.len() > max {
                return Err(Error::invalid_param(format!("`{name}` may have {max} bytes")));
            }
        }
        if pusher.profile_tag.as_ref().is_some_and(|tag| tag.len() > 1000) {
            return Err(Error::invalid_param("`profile_tag` may have 1000 bytes"));
        }
        gateway::check_url(&http.url, &self.core.config().egress.allow)?;
        let mut data = http.data;
        if let Some(format) = http.format {
            data.insert("format".to_owned(), format.as_str().into());
        }
        let data =
            serde_json::to_string(&data).map_err(|e| Error::internal(format!("data does not serialise: {e}")))?;
        if data.len() > DATA_MAX {
            return Err(Error::too_large(format!("`data` may have {DATA_MAX} bytes")));
        }
        let row = Row {
            device_id: sender.device_id.clone(),
            app_display_name: pusher.app_display_name,
            device_display_name: pusher.device_display_name,
            profile_tag: pusher.profile_tag,
            lang: pusher.lang,
            url: http.url,
            data,
            set_at_ms: self.core.clock().now_ms(),
            told: 0,
        };
        Ok(((sender.user_id.clone(), app_id, pushkey), row))
    }
}

/// Which pusher: user, app id, pushkey.
type Key = (ruma::OwnedUserId, String, String);

/// The pushers of other users for the same app and key.
fn others(view: View<'_>, key: &Key) -> Result<Vec<Key>, Error> {
    let mut others = Vec::new();
    for row in view.scan(tables::PUSHERS, ())? {
        let (other, _) = row?;
        if other.0 != key.0 && other.1 == key.1 && other.2 == key.2 {
            others.push(other);
        }
    }
    Ok(others)
}

fn shown(app_id: String, pushkey: String, row: Row) -> push::Pusher {
    let mut http = HttpPusherData::new(row.url.clone());
    http.data = serde_json::from_str::<JsonObject>(&row.data).unwrap_or_default();
    http.format = format_of(&mut http.data);
    let init = PusherInit {
        ids: PusherIds::new(pushkey, app_id),
        kind: PusherKind::Http(http),
        app_display_name: row.app_display_name,
        device_display_name: row.device_display_name,
        profile_tag: row.profile_tag,
        lang: row.lang,
    };
    init.into()
}

fn format_of(data: &mut JsonObject) -> Option<PushFormat> {
    data.remove("format").and_then(|format| format.as_str().map(Into::into))
}

/// A device was removed: what it asked for ends with it.
pub(crate) fn device_removed(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    device: &DeviceId,
) -> Result<(), millpond_store::Error> {
    let mut gone = Vec::new();
    for row in txn.view().scan(tables::PUSHERS, (user,))? {
        let (key, row) = row?;
        if row.device_id == device {
            gone.push(key);
        }
    }
    for key in gone {
        txn.remove(tables::PUSHERS, &key)?;
    }
    Ok(())
}

/// Pushers of one user: one a device and app is usual.
const PUSHERS_MAX: usize = 100;
/// Bytes of a pusher's `data`.
const DATA_MAX: usize = 16 << 10;
