//! Profiles (client-server API, "Profiles"): one row per field for users of ours; for users of peers what the peer says,
//! or else what their member events in our rooms say.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use http::StatusCode;
use millpond_store::{View, job, tables};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    api::error::ErrorKind,
    profile::{ProfileFieldName, ProfileFieldValue, UserProfile},
};
use serde_json::Value;

use crate::{
    Core, Error,
    rooms::{Rooms, current},
};

/// The profiles of users. Cloning is cheap.
#[derive(Clone)]
pub struct Profiles {
    core: Core,
    rooms: Rooms,
    remote: Arc<OnceLock<Arc<dyn ProfileSource>>>,
}

/// Where the profiles of users of peers come from.
pub trait ProfileSource: Send + Sync {
    /// Asks the user's own server. Dropping the future gives the question up.
    ///
    /// # Errors
    /// 404 if there is no such user, 504 if the server cannot be reached.
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<UserProfile, Error>>;
}

impl Profiles {
    /// The service over `core`; changes show in the member events of `rooms`.
    pub fn new(core: Core, rooms: Rooms) -> Self {
        Self { core, rooms, remote: Arc::default() }
    }

    /// Says where the profiles of users of peers come from; the first one given stays.
    pub fn use_source(&self, source: Arc<dyn ProfileSource>) {
        let _ = self.remote.set(source);
    }

    /// A user's profile. Dropping the future gives the question up.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` if nothing is known of the user; storage errors.
    pub async fn profile(&self, user: &UserId) -> Result<UserProfile, Error> {
        if self.core.identity().is_our_user(user) {
            return self.ours(user);
        }
        let shown = shown_in_rooms(self.core.snapshot()?.view(), user)?;
        let Some(source) = self.remote.get() else { return shown.ok_or_else(|| unknown(user)) };
        match source.profile(user).await {
            Ok(profile) => Ok(profile),
            Err(error) => shown.ok_or(error),
        }
    }

    /// The profile of a user of ours, as peers may ask for it.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` if there is no such user; storage errors.
    pub fn ours(&self, user: &UserId) -> Result<UserProfile, Error> {
        let snapshot = self.core.snapshot()?;
        if !account_exists(snapshot.view(), user)? {
            return Err(unknown(user));
        }
        Ok(stored(snapshot.view(), user)?.into_iter().collect())
    }

    /// Sets a field; an empty `displayname` or `avatar_url` removes it. Answers when it and the member events that show
    /// it are durable. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`, `M_KEY_TOO_LARGE` or `M_PROFILE_TOO_LARGE` for a field that cannot be kept; storage errors.
    pub async fn set(&self, user: &UserId, field: &ProfileFieldValue) -> Result<(), Error> {
        let (name, value) = (field.field_name(), field.value().into_owned());
        if is_shown(&name) && value.as_str() == Some("") {
            return self.remove(user, &name).await;
        }
        check_name(&name)?;
        check_value(field)?;
        self.write(user, name, Some(value)).await
    }

    /// Removes a field; it need not be there. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` or `M_KEY_TOO_LARGE` for what is no field's name; storage errors.
    pub async fn remove(&self, user: &UserId, name: &ProfileFieldName) -> Result<(), Error> {
        check_name(name)?;
        self.write(user, name.clone(), None).await
    }

    async fn write(&self, user: &UserId, name: ProfileFieldName, value: Option<Value>) -> Result<(), Error> {
        let owner = user.to_owned();
        let reader = owner.clone();
        let (field, new) = (name.as_str().to_owned(), value.map(|value| value.to_string()));
        let (read_field, read_new) = (field.clone(), new.clone());
        let write = job(
            move |view| {
                if !account_exists(view, &reader)? {
                    return Err(unknown(&reader));
                }
                check_size(&stored(view, &reader)?, &read_field, read_new.as_deref())
            },
            move |(), txn| match &new {
                Some(value) => txn.put(tables::PROFILES, (&owner, &field), value),
                None => txn.remove(tables::PROFILES, (&owner, &field)).map(drop),
            },
        );
        self.core.write(write).await?;
        if is_shown(&name) { self.rooms.refresh_profile(user).await } else { Ok(()) }
    }
}

/// The fields of a user of ours.
fn stored(view: View<'_>, user: &UserId) -> Result<Vec<(String, Value)>, Error> {
    let mut fields = Vec::new();
    for row in view.scan(tables::PROFILES, (user,))? {
        let ((_, field), json) = row?;
        let value = serde_json::from_str(&json).map_err(|e| {
            Error::Store(millpond_store::Error::Corrupt { table: tables::PROFILES.name(), why: e.to_string() })
        })?;
        fields.push((field, value));
    }
    Ok(fields)
}

/// What the member events of a user of ours show: `displayname` and `avatar_url`.
///
/// # Errors
/// Storage errors.
pub(crate) fn shown(view: View<'_>, user: &UserId) -> Result<CanonicalJsonObject, Error> {
    let mut content = CanonicalJsonObject::new();
    for (field, value) in stored(view, user)? {
        if let Value::String(text) = value
            && is_shown(&ProfileFieldName::from(field.as_str()))
        {
            content.insert(field, CanonicalJsonValue::String(text));
        }
    }
    Ok(content)
}

/// What a member event of a room that we share with the user shows.
fn shown_in_rooms(view: View<'_>, user: &UserId) -> Result<Option<UserProfile>, Error> {
    for room in crate::shared_rooms::joined_rooms(view, user)? {
        let content: Option<serde_json::Map<String, Value>> =
            current::content(view, room, "m.room.member", user.as_str())?;
        if let Some(content) = content {
            let fields = content
                .into_iter()
                .filter(|(field, value)| value.is_string() && is_shown(&ProfileFieldName::from(field.as_str())));
            return Ok(Some(fields.collect()));
        }
    }
    Ok(None)
}

fn account_exists(view: View<'_>, user: &UserId) -> Result<bool, Error> {
    Ok(view.get(tables::ACCOUNTS, user)?.is_some_and(|account| !account.deactivated))
}

/// Whether member events show the field.
fn is_shown(name: &ProfileFieldName) -> bool {
    matches!(name, ProfileFieldName::DisplayName | ProfileFieldName::AvatarUrl)
}

/// Spec, appendix "Common Namespaced Identifier Grammar".
fn check_name(name: &ProfileFieldName) -> Result<(), Error> {
    let name = name.as_str();
    if name.len() > NAME_MAX {
        let message = format!("a profile field's name has {NAME_MAX} bytes at most, this one has {}", name.len());
        return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::KeyTooLarge, message));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.bytes().all(allowed) {
        return Err(Error::invalid_param(
            "a profile field's name starts with a-z and has a-z, 0-9, '-', '_' and '.' only",
        ));
    }
    Ok(())
}

fn check_value(field: &ProfileFieldValue) -> Result<(), Error> {
    match field {
        ProfileFieldValue::AvatarUrl(url) if url.as_str().len() > AVATAR_MAX || url.validate().is_err() => {
            Err(Error::invalid_param(format!("avatar_url must be an mxc:// URI of {AVATAR_MAX} bytes at most")))
        }
        ProfileFieldValue::DisplayName(name) if name.chars().count() > DISPLAY_NAME_MAX => {
            Err(Error::invalid_param(format!("displayname may have {DISPLAY_NAME_MAX} characters")))
        }
        _ => Ok(()),
    }
}

/// The size of the whole profile as JSON, with the new value in place.
fn check_size(fields: &[(String, Value)], field: &str, new: Option<&str>) -> Result<(), Error> {
    let Some(new) = new else { return Ok(()) };
    let others = fields.iter().filter(|(name, _)| name != field);
    let others: usize = others.map(|(name, value)| name.len() + value.to_string().len() + PUNCTUATION).sum();
    if others + field.len() + new.len() + PUNCTUATION + 2 > PROFILE_MAX {
        let message = format!("a whole profile may have {PROFILE_MAX} bytes: remove other fields first");
        return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::ProfileTooLarge, message));
    }
    Ok(())
}

fn unknown(user: &UserId) -> Error {
    Error::not_found(format!("nothing is known of {user}"))
}

/// Bytes of a whole profile as JSON (spec, "Profiles").
const PROFILE_MAX: usize = 64 << 10;
/// Bytes of a field's name (spec, "Profiles").
const NAME_MAX: usize = 255;
/// Characters of a display name: it is copied into each member event, which must stay under 64 KiB.
const DISPLAY_NAME_MAX: usize = 256;
/// Bytes of an avatar's URI, for the same reason.
const AVATAR_MAX: usize = 1000;
/// Quotes, colon and comma of one field.
const PUNCTUATION: usize = 4;

#[cfg(test)]
mod tests;
