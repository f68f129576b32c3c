//! Refreshing access tokens (client-server spec, "Refreshing access tokens"). A refresh gives out a new pair beside the old
//! one, since its answer may be lost on the way; the first use of either new token ends the old pair.
//!
//! ```text
//! (A1, R1) -- R1 --> (A1, R1) + (A2, R2) -- A2 or R2 --> (A2, R2); A1 answers "refresh", R1 is gone
//!                          \-- R1 again --> (A1, R1) + (A3, R3): nobody has used A2, so it is forgotten
//! ```

use std::{net::IpAddr, time::Duration};

use futures::FutureExt;
use http::StatusCode;
use millpond_store::{View, WriteTxn, job, rows, tables};
use ruma::api::error::ErrorKind;

use super::{
    Accounts, account,
    token::{self, Secret, Sender, TokenCache},
};
use crate::Error;

/// How long an access token lives that its client can refresh: each refresh costs two commits.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// What a refresh gives: this is the only time it is seen.
pub struct Refreshed {
    /// The new access token.
    pub access_token: String,
    /// The new refresh token.
    pub refresh_token: String,
    /// How long the access token lives.
    pub expires_in: Duration,
}

/// When an access token given out now ends.
pub(super) fn access_ends_ms(now_ms: u64) -> u64 {
    now_ms.saturating_add(u64::try_from(ACCESS_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX))
}

impl Accounts {
    /// New tokens for a refresh token. Dropping the future does not take them back; the old refresh token works then.
    ///
    /// # Errors
    /// 401 `M_UNKNOWN_TOKEN`, 403 `M_USER_DEACTIVATED`, 429 `M_LIMIT_EXCEEDED`; storage errors.
    pub async fn refresh(&self, shown: &str, address: Option<IpAddr>) -> Result<Refreshed, Error> {
        self.refresh_as(shown, None, address).await
    }

    /// The same for the session of an OAuth client.
    pub(super) async fn refresh_as(
        &self,
        shown: &str,
        client: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Refreshed, Error> {
        let client = client.map(str::to_owned);
        let attempt = self.0.limits.attempt(None, address)?;
        let shown = token::hash(shown);
        let (access, refresh) = (Secret::random(), Secret::random());
        let (new, cache) = (rows::TokenPair { access: access.hash, refresh: refresh.hash }, self.0.tokens.clone());
        let ends_ms = access_ends_ms(self.0.core.clock().now_ms());
        let give = job(
            move |view| owner(view, shown, client.as_deref()),
            move |(owner, mut device): (rows::TokenOwner, rows::Device), txn| {
                if next(&device).is_some_and(|next| next.refresh == shown) {
                    step(txn, &cache, &mut device)?;
                }
                offer(txn, &owner, &mut device, new, ends_ms)?;
                txn.put(tables::DEVICES, (&owner.user_id, &owner.device_id), &device)
            },
        );
        self.0.core.write(give).await?;
        attempt.succeeded();
        let (access_token, refresh_token) = (access.text, refresh.text);
        Ok(Refreshed { access_token, refresh_token, expires_in: ACCESS_TOKEN_LIFETIME })
    }

    /// A device uses the access token of its last refresh: the pair before it ends.
    pub(super) fn note_refreshed(&self, sender: &Sender, access: [u8; 32]) {
        let key = (sender.user_id.clone(), sender.device_id.clone());
        let (read, cache) = (key.clone(), self.0.tokens.clone());
        let stepped = job(
            move |view| {
                let device = view.get(tables::DEVICES, &read)?;
                Ok::<_, Error>(device.filter(|device| next(device).is_some_and(|next| next.access == access)))
            },
            move |device: Option<rows::Device>, txn| {
                let Some(mut device) = device else { return Ok(()) };
                step(txn, &cache, &mut device)?;
                txn.put(tables::DEVICES, &key, &device)
            },
        );
        // Queued, not awaited: a full queue may drop it, and then the next request with this token brings it again.
        let _ = self.0.core.write(stepped).now_or_never();
    }
}

/// Whose refresh token it is, if it was given to this client.
fn owner(view: View<'_>, shown: [u8; 32], client: Option<&str>) -> Result<(rows::TokenOwner, rows::Device), Error> {
    let unknown = || {
        let message = "This refresh token is not known here: it was used, or its device is logged out. Log in again";
        Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(Default::default()), message)
    };
    let owner = view.get(tables::REFRESH_TOKENS, shown)?.ok_or_else(unknown)?;
    account::active(view, &owner.user_id)?;
    let device = view.get(tables::DEVICES, (&owner.user_id, &owner.device_id))?;
    // A session is refreshed where it was made, and by whom it was made for.
    let device = device.filter(|device| device.client.as_deref() == client).ok_or_else(unknown)?;
    Ok((owner, device))
}

fn next(device: &rows::Device) -> Option<rows::TokenPair> {
    device.refresh.as_ref().and_then(|refresh| refresh.next)
}

/// Makes the pair of the last refresh the device's; the one before it ends.
fn step(txn: &mut WriteTxn<'_>, cache: &TokenCache, device: &mut rows::Device) -> Result<(), millpond_store::Error> {
    let Some(refresh) = &mut device.refresh else { return Ok(()) };
    let Some(next) = refresh.next.take() else { return Ok(()) };
    if let Some(previous) = refresh.previous.take() {
        txn.remove(tables::TOKENS, previous)?;
    }
    txn.remove(tables::REFRESH_TOKENS, refresh.token)?;
    refresh.token = next.refresh;
    if let Some(old) = device.token_hash.replace(next.access)
        && let Some(mut owner) = txn.view().get(tables::TOKENS, old)?
    {
        owner.expires_at_ms = Some(0);
        txn.put(tables::TOKENS, old, &owner)?;
        refresh.previous = Some(old);
    }
    cache.revoke(txn.next_position());
    Ok(())
}

/// Gives out a pair beside the device's; one that was given out before and never used is forgotten.
fn offer(
    txn: &mut WriteTxn<'_>,
    owner: &rows::TokenOwner,
    device: &mut rows::Device,
    new: rows::TokenPair,
    ends_ms: u64,
) -> Result<(), millpond_store::Error> {
    let Some(refresh) = &mut device.refresh else { return Ok(()) };
    if let Some(unused) = refresh.next.replace(new) {
        txn.remove(tables::TOKENS, unused.access)?;
        txn.remove(tables::REFRESH_TOKENS, unused.refresh)?;
    }
    txn.put(tables::REFRESH_TOKENS, new.refresh, owner)?;
    let access = rows::TokenOwner { expires_at_ms: Some(ends_ms), ..owner.clone() };
    txn.put(tables::TOKENS, new.access, &access)
}
