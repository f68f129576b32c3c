//! Addresses that the identity server shows to others: published and taken back by their owners.

use http::{Method, StatusCode};
use millpond_store::{WriteTxn, job, rows::Threepid, tables};
use ruma::{ClientSecret, SessionId, UserId, api::error::ErrorKind, thirdparty::Medium};
use serde::Deserialize;
use serde_json::json;

use super::{Address, of_user};
use crate::{
    Error,
    accounts::Accounts,
    identity_service::{As, IdentityServer, matrix_error},
};

impl Accounts {
    /// Has the identity server show an address as the user's. Dropping the future may leave it shown and not noted here.
    ///
    /// # Errors
    /// 403 `M_THREEPID_DENIED` without a configured identity server, `M_SERVER_NOT_TRUSTED` for another one; what the identity
    /// server refuses; 504; storage errors.
    pub async fn bind_threepid(
        &self,
        user: &UserId,
        (id_server, id_access_token): (&str, &str),
        (sid, client_secret): (&SessionId, &ClientSecret),
    ) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Association {
            medium: Medium,
            address: String,
        }
        let server = IdentityServer::named(&self.0.core, id_server, StatusCode::BAD_REQUEST)?;
        let body = json!({ "sid": sid, "client_secret": client_secret, "mxid": user });
        let asked = server.pass(Method::POST, "/3pid/bind", As::Holder(id_access_token), Some(body));
        let Association { medium, address } = asked.await?;
        let address = Address::parse(&medium, &address)?;
        let now_ms = self.0.core.clock().now_ms();
        self.note_binding(user, &address, Some((server.host().to_owned(), now_ms))).await
    }

    /// Has the identity server show an address no more; says whether it did. `id_server` is where the client thinks that it is
    /// shown. Dropping the future may leave it taken back and not noted here.
    ///
    /// # Errors
    /// What the identity server refuses; 504; storage errors.
    pub async fn unbind_threepid(
        &self,
        user: &UserId,
        address: &Address,
        id_server: Option<&str>,
    ) -> Result<bool, Error> {
        let (medium, text) = address.key();
        let row = self.0.core.snapshot()?.view().get(tables::THREEPIDS, (user, medium, text))?;
        let bound_to = row.and_then(|row| row.bound_to);
        let Some(host) = id_server.or(bound_to.as_deref()) else { return Ok(false) };
        // Another one may show it: that was not done through this homeserver, and it would not be asked.
        let Ok(server) = IdentityServer::named(&self.0.core, host, StatusCode::BAD_REQUEST) else { return Ok(false) };
        let body = json!({ "mxid": user, "threepid": { "medium": medium, "address": text } });
        let url = format!("{}/_matrix/identity/v2/3pid/unbind", server.base());
        let answer = server.send(Method::POST, &url, As::Homeserver, Some(body)).await?;
        if answer.status().is_success() {
            self.note_binding(user, address, None).await?;
            return Ok(true);
        }
        match matrix_error(&answer) {
            // It does not know how, or cannot check who asks: the key of a node without a name in the DNS is found nowhere.
            None => Ok(false),
            Some(error) if error.kind().is_none_or(is_no_support) => Ok(false),
            Some(error) => Err(error),
        }
    }

    /// Has the identity server show nothing of an account any more, as far as it does as it is told; says whether it did.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn unbind_all(&self, user: &UserId) -> Result<bool, Error> {
        let mut bound = of_user(self.0.core.snapshot()?.view(), user)?;
        bound.retain(|(_, row)| row.bound_to.is_some());
        let mut all = true;
        for (address, _) in bound {
            all &= match self.unbind_threepid(user, &address, None).await {
                Ok(done) => done,
                Err(Error::Store(error)) => return Err(error.into()),
                Err(_) => false,
            };
        }
        Ok(all)
    }

    async fn note_binding(&self, user: &UserId, address: &Address, bound: Option<(String, u64)>) -> Result<(), Error> {
        let (user, address) = (user.to_owned(), address.clone());
        let note = job(
            |_| Ok::<_, Error>(()),
            move |(), txn: &mut WriteTxn<'_>| {
                let key = (&*user, address.medium.as_str(), address.address.as_str());
                let before = txn.view().get(tables::THREEPIDS, key)?;
                match (&bound, before) {
                    (Some((host, now_ms)), before) => {
                        let fresh = || Threepid { validated_at_ms: *now_ms, ..Threepid::default() };
                        let row = before.unwrap_or_else(fresh);
                        txn.put(tables::THREEPIDS, key, &Threepid { bound_to: Some(host.clone()), ..row })
                    }
                    (None, Some(row)) if row.added_at_ms.is_some() => {
                        txn.put(tables::THREEPIDS, key, &Threepid { bound_to: None, ..row })
                    }
                    (None, Some(_)) => txn.remove(tables::THREEPIDS, key).map(drop),
                    (None, None) => Ok(()),
                }
            },
        );
        self.0.core.write(note).await?;
        Ok(())
    }
}

fn is_no_support(kind: &ErrorKind) -> bool {
    matches!(kind.errcode().as_str(), "M_UNRECOGNIZED" | "M_FORBIDDEN" | "M_UNAUTHORIZED")
}
