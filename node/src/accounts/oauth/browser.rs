//! Browsers that are signed in on our pages, and what their users approve there.

use std::{net::IpAddr, time::Duration};

use millpond_store::{WriteTxn, job, rows, tables};
use ruma::{
    OwnedUserId, UserId,
    api::client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo},
};
use serde_json::json;

use super::Refusal;
use crate::accounts::{Accounts, Asked, Sender, account, token};

/// How long a browser stays signed in: as long as one looks at a page.
pub const SIGNED_IN_FOR: Duration = Duration::from_secs(30 * 60);
/// How long an approval to reset cross-signing keys holds.
const APPROVED_MS: u64 = 10 * 60 * 1000;
/// Browsers at once.
const BROWSERS_MAX: usize = 1000;

impl Accounts {
    /// Signs a browser in; gives its cookie. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 403 for a wrong password, 429; storage errors.
    pub async fn sign_in(
        &self,
        user: &str,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<(OwnedUserId, String), Refusal> {
        let user_id = self.password_login(user, password, address).await?;
        let (cookie, now_ms) = (token::Secret::random(), self.0.core.clock().now_ms());
        let expires_at_ms = now_ms + u64::try_from(SIGNED_IN_FOR.as_millis()).unwrap_or(u64::MAX);
        let row = rows::OAuthBrowser { user_id: user_id.clone(), expires_at_ms };
        let keep = job(
            |_| Ok::<_, Refusal>(()),
            move |(), txn: &mut WriteTxn<'_>| {
                let known: Vec<_> = txn.view().scan(tables::OAUTH_BROWSERS, ())?.collect::<Result<_, _>>()?;
                let crowded = known.len() >= BROWSERS_MAX;
                for (hash, _) in known.into_iter().filter(|(_, row)| crowded || row.expires_at_ms <= now_ms) {
                    txn.remove(tables::OAUTH_BROWSERS, hash)?;
                }
                txn.put(tables::OAUTH_BROWSERS, cookie.hash, &row)
            },
        );
        self.0.core.store().write(keep).await?;
        Ok((user_id, cookie.text))
    }

    /// Who is signed in with a cookie.
    ///
    /// # Errors
    /// Storage errors.
    pub fn browser(&self, cookie: &str) -> Result<Option<OwnedUserId>, Refusal> {
        let snapshot = self.0.core.snapshot()?;
        let row = snapshot.view().get(tables::OAUTH_BROWSERS, token::hash(cookie))?;
        let Some(row) = row.filter(|row| row.expires_at_ms > self.0.core.clock().now_ms()) else { return Ok(None) };
        Ok(account::active(snapshot.view(), &row.user_id).is_ok().then_some(row.user_id))
    }

    /// Signs a browser out. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), Refusal> {
        let hash = token::hash(cookie);
        let forget = job(|_| Ok::<_, Refusal>(()), move |(), txn| txn.remove(tables::OAUTH_BROWSERS, hash).map(drop));
        self.0.core.store().write(forget).await?;
        Ok(())
    }

    /// The user approves that his cross-signing keys are replaced, within the next minutes. Dropping the future does not take
    /// it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn approve_reset(&self, user_id: &UserId) -> Result<(), Refusal> {
        let (user_id, until_ms) = (user_id.to_owned(), self.0.core.clock().now_ms() + APPROVED_MS);
        let approve = job(|_| Ok::<_, Refusal>(()), move |(), txn| txn.put(tables::OAUTH_RESETS, &*user_id, &until_ms));
        self.0.core.store().write(approve).await?;
        Ok(())
    }

    /// Confirms that the sender may replace his cross-signing keys: by the password, or, for the session of an OAuth client,
    /// by what he approved in the browser (client-server spec, "OAuth authentication").
    ///
    /// # Errors
    /// As [`Accounts::confirm`].
    pub async fn confirm_reset(
        &self,
        sender: &Sender,
        auth: Option<&AuthData>,
        asked: Asked,
    ) -> Result<(), crate::Error> {
        let device = self.device(&sender.user_id, &sender.device_id)?;
        if device.client.is_none() {
            return self.confirm(sender, auth, asked).await;
        }
        if self.is_reset_approved(&sender.user_id)? {
            return Ok(());
        }
        let url = format!("{}/account?action=org.matrix.cross_signing_reset", self.base_url());
        // The second is what the stage was called before it was specified (MSC4312).
        let stages = ["m.oauth", "org.matrix.cross_signing_reset"];
        let mut info = UiaaInfo::new(vec![AuthFlow::new(vec![AuthType::from(stages[0])])]);
        let params: serde_json::Map<_, _> =
            stages.map(|stage| (stage.to_owned(), json!({ "url": url }))).into_iter().collect();
        info.params = serde_json::value::to_raw_value(&params).ok();
        info.session = Some(token::random_token());
        Err(crate::Error::Uiaa(Box::new(info)))
    }

    /// Whether the user has approved that his cross-signing keys are replaced.
    fn is_reset_approved(&self, user_id: &UserId) -> Result<bool, crate::Error> {
        let until_ms = self.0.core.snapshot()?.view().get(tables::OAUTH_RESETS, user_id)?;
        Ok(until_ms.is_some_and(|until_ms| self.0.core.clock().now_ms() < until_ms))
    }
}
