//! Sync filters (client-server API, "Filtering"): kept for good, named by the hash of their content, so that a client
//! that uploads its filter at each start gets the same id.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use millpond_store::{View, job, tables};
use ruma::{UserId, api::client::filter::FilterDefinition};
use sha2::{Digest as _, Sha256};

use crate::{Core, Error};

/// The filters of local users.
#[derive(Clone)]
pub struct Filters {
    core: Core,
}

impl Filters {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Keeps a filter and says its id. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_BAD_JSON` for a limit of zero; storage errors.
    pub async fn create(&self, user: &UserId, filter: &FilterDefinition) -> Result<String, Error> {
        check(filter)?;
        let json = serde_json::to_string(filter).map_err(|e| Error::bad_json(e.to_string()))?;
        let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(&json)[..ID_BYTES]);
        let (user, kept) = (user.to_owned(), id.clone());
        let known = self.core.snapshot()?.view().contains(tables::FILTERS, (&user, &kept))?;
        if !known {
            let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.put(tables::FILTERS, (&user, &kept), &json));
            self.core.write(write).await?;
        }
        Ok(id)
    }

    /// A filter by its id.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` if the user has none of this id; storage errors.
    pub fn filter(&self, user: &UserId, id: &str) -> Result<FilterDefinition, Error> {
        filter(self.core.snapshot()?.view(), user, id)
    }
}

/// A filter by its id, for /sync.
///
/// # Errors
/// 404 `M_NOT_FOUND` if the user has none of this id; storage errors.
pub fn filter(view: View<'_>, user: &UserId, id: &str) -> Result<FilterDefinition, Error> {
    let json = view.get(tables::FILTERS, (user, id))?;
    let json = json.ok_or_else(|| Error::not_found(format!("there is no filter {id:?}: upload it again")))?;
    serde_json::from_str(&json)
        .map_err(|e| Error::Store(millpond_store::Error::Corrupt { table: tables::FILTERS.name(), why: e.to_string() }))
}

/// Checks what the types leave open: limits are at least 1.
///
/// # Errors
/// 400 `M_BAD_JSON`.
pub fn check(filter: &FilterDefinition) -> Result<(), Error> {
    let room = &filter.room;
    let limits = [
        ("presence", filter.presence.limit),
        ("account_data", filter.account_data.limit),
        ("room.account_data", room.account_data.limit),
        ("room.timeline", room.timeline.limit),
        ("room.ephemeral", room.ephemeral.limit),
        ("room.state", room.state.limit),
    ];
    for (part, limit) in limits {
        if limit.is_some_and(|limit| limit == ruma::UInt::MIN) {
            return Err(Error::bad_json(format!("{part}.limit must be greater than 0")));
        }
    }
    Ok(())
}

/// Bytes of the hash in an id: 96 bits, far beyond accidental collisions within one user's filters.
const ID_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn definition(value: serde_json::Value) -> FilterDefinition {
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn a_filter_comes_back_under_an_id_that_is_the_same_for_the_same_filter() {
        let filters = Filters::new(testing::core());
        let alice = user_id!("@alice:here");
        let filter = definition(json!({ "room": { "timeline": { "limit": 7 } } }));
        let id = filters.create(alice, &filter).await.unwrap();
        assert_eq!(id, filters.create(alice, &filter).await.unwrap());
        assert_eq!(filters.filter(alice, &id).unwrap().room.timeline.limit, Some(7u32.into()));
        let other = filters.filter(user_id!("@bob:here"), &id).unwrap_err();
        assert_eq!(other.kind(), Some(&ruma::api::error::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn a_limit_of_zero_is_bad_json() {
        let filters = Filters::new(testing::core());
        let filter = definition(json!({ "presence": { "limit": 0 } }));
        let error = filters.create(user_id!("@alice:here"), &filter).await.unwrap_err();
        assert_eq!(error.kind(), Some(&ruma::api::error::ErrorKind::BadJson));
        assert!(error.to_string().contains("presence.limit"));
    }
}
