//! Device authorisation (RFC 8628): a client without a browser shows a short code, which the user types in on a page of ours.

use std::{net::IpAddr, time::Duration};

use millpond_store::{View, job, rows, tables};
use ruma::{OwnedDeviceId, UserId};
use serde_json::{Value, json};

use super::{Form, Refusal, clients, codes, required, scope};
use crate::accounts::{Accounts, account, token};

/// What a client without a browser asks.
#[derive(Clone, Debug)]
pub struct DeviceRequest {
    /// The client.
    pub client: rows::OAuthClient,
    /// The device that it asks for.
    pub device_id: OwnedDeviceId,
}

impl Accounts {
    /// Begins a device authorisation.
    ///
    /// # Errors
    /// `invalid_client`, `invalid_scope`; 429; storage errors.
    pub async fn device_authorization(&self, form: &Form, address: Option<IpAddr>) -> Result<Value, Refusal> {
        let _attempt = self.0.limits.attempt(None, address)?;
        let client_id = required(form, "client_id")?;
        clients::client(self.0.core.snapshot()?.view(), client_id)?;
        let scope = form.get("scope").map(String::as_str).unwrap_or_default();
        let device_id = scope::device(scope)?;
        let (device_code, user_code) = (token::Secret::random(), user_code());
        let row = rows::OAuthCode {
            client_id: client_id.to_owned(),
            device_id,
            scope: scope.to_owned(),
            user_id: None,
            stage: rows::OAuthStage::Asked,
            expires_at_ms: self.0.core.clock().now_ms() + u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX),
            redirect_uri: None,
            challenge: None,
            user_code: Some(token::hash(&normal(&user_code))),
        };
        self.keep_code(device_code.hash, row, None).await?;
        let page = format!("{}/oauth2/device", self.base_url());
        Ok(json!({
            "device_code": device_code.text,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={user_code}"),
            "expires_in": LIFETIME.as_secs(),
            "interval": INTERVAL.as_secs(),
        }))
    }

    /// What the client with a code asks.
    ///
    /// # Errors
    /// `invalid_grant` for a code that is not known, or over; 429; storage errors.
    pub fn device_request(&self, user_code: &str, address: Option<IpAddr>) -> Result<DeviceRequest, Refusal> {
        // Short codes can be guessed: that is what the limit is for.
        let attempt = self.0.limits.attempt(None, address)?;
        let snapshot = self.0.core.snapshot()?;
        let (_, row) = self.asked(snapshot.view(), user_code)?;
        attempt.succeeded();
        Ok(DeviceRequest { client: clients::client(snapshot.view(), &row.client_id)?, device_id: row.device_id })
    }

    /// The user allows or refuses it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// As [`Accounts::device_request`]; for an account that is not active.
    pub async fn decide_device(&self, user_code: &str, user_id: &UserId, allow: bool) -> Result<(), Refusal> {
        let (this, user_code, user_id) = (self.clone(), user_code.to_owned(), user_id.to_owned());
        let decide = job(
            move |view| {
                account::active(view, &user_id)?;
                let (hash, row) = this.asked(view, &user_code)?;
                let stage = if allow { rows::OAuthStage::Allowed } else { rows::OAuthStage::Denied };
                Ok::<_, Refusal>((hash, rows::OAuthCode { stage, user_id: Some(user_id.clone()), ..row }))
            },
            move |(hash, row): ([u8; 32], rows::OAuthCode), txn| txn.put(tables::OAUTH_CODES, hash, &row),
        );
        self.0.core.store().write(decide).await?;
        Ok(())
    }

    fn asked(&self, view: View<'_>, user_code: &str) -> Result<([u8; 32], rows::OAuthCode), Refusal> {
        let (wanted, now_ms) = (token::hash(&normal(user_code)), self.0.core.clock().now_ms());
        let found = codes::codes(view)?.into_iter().find(|(_, row)| {
            row.user_code == Some(wanted) && row.stage == rows::OAuthStage::Asked && row.expires_at_ms > now_ms
        });
        found.ok_or_else(|| Refusal::new("invalid_grant", "this code is not known, or it was used, or it has expired"))
    }

    /// Whether a device code is asked about more often than every few seconds.
    pub(super) fn is_hasty(&self, code: [u8; 32]) -> bool {
        let interval_ms = u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX);
        self.0.polls.is_hasty(code, self.0.core.clock().now_ms(), interval_ms)
    }
}

/// Eight letters that make no words and that nobody confuses.
fn user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let letter = |_| char::from(LETTERS[usize::try_from(rand::random::<u32>() % 20).unwrap_or(0)]);
    let letters: String = (0..8).map(letter).collect();
    format!("{}-{}", &letters[..4], &letters[4..])
}

/// As it is kept, however it was typed in.
fn normal(user_code: &str) -> String {
    user_code.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase()).collect()
}

/// How long the user has to type it in.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How often the client may ask.
const INTERVAL: Duration = Duration::from_secs(5);
