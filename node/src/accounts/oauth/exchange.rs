//! The token endpoint and revocation (RFC 6749, RFC 8628, RFC 7009): codes and refresh tokens to tokens.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use millpond_store::{View, WriteTxn, job, rows, tables};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DEVICE_CODE, Form, Refusal, required};
use crate::{
    Error,
    accounts::{ACCESS_TOKEN_LIFETIME, Accounts, NewDevice, account, device, device::Opening, token},
};

/// What becomes of a code that is shown.
enum Shown {
    /// The client gets its tokens.
    Good(rows::OAuthCode),
    /// It was used before: who has the tokens of it may have stolen them, so they end.
    Again(OwnedUserId, OwnedDeviceId),
}

impl Accounts {
    /// Answers at the token endpoint. Dropping the future does not take the tokens back.
    ///
    /// # Errors
    /// The codes of RFC 6749 and RFC 8628; 429; storage errors.
    pub async fn oauth_token(&self, form: &Form, address: Option<IpAddr>) -> Result<Value, Refusal> {
        let client_id = required(form, "client_id")?;
        match required(form, "grant_type")? {
            "authorization_code" => self.by_code(form, client_id, address).await,
            DEVICE_CODE => self.by_device_code(form, client_id, address).await,
            "refresh_token" => {
                let shown = required(form, "refresh_token")?;
                let refreshed = match self.refresh_as(shown, Some(client_id), address).await {
                    Ok(refreshed) => refreshed,
                    Err(Error::Matrix { kind: ruma::api::error::ErrorKind::UnknownToken(_), message, .. }) => {
                        return Err(Refusal::new("invalid_grant", message));
                    }
                    Err(other) => return Err(other.into()),
                };
                Ok(json!({
                    "access_token": refreshed.access_token,
                    "refresh_token": refreshed.refresh_token,
                    "token_type": "Bearer",
                    "expires_in": refreshed.expires_in.as_secs(),
                }))
            }
            other => Err(Refusal::new("unsupported_grant_type", format!("there is no grant type {other}"))),
        }
    }

    async fn by_code(&self, form: &Form, client_id: &str, address: Option<IpAddr>) -> Result<Value, Refusal> {
        let attempt = self.0.limits.attempt(None, address)?;
        let code = token::hash(required(form, "code")?);
        let verifier = required(form, "code_verifier")?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let redirect_uri = required(form, "redirect_uri")?.to_owned();
        let client = client_id.to_owned();
        let check = move |row: &rows::OAuthCode| {
            row.client_id == client
                && row.challenge.as_deref() == Some(&challenge)
                && row.redirect_uri.as_deref() == Some(&redirect_uri)
        };
        let answer = self.exchange(code, client_id, check, address).await?;
        attempt.succeeded();
        Ok(answer)
    }

    async fn by_device_code(&self, form: &Form, client_id: &str, address: Option<IpAddr>) -> Result<Value, Refusal> {
        let code = token::hash(required(form, "device_code")?);
        if self.is_hasty(code) {
            return Err(Refusal::new("slow_down", "ask every five seconds"));
        }
        let row = self.0.core.snapshot()?.view().get(tables::OAUTH_CODES, code)?;
        let row = row.filter(|row| row.client_id == client_id && row.user_code.is_some());
        let now_ms = self.0.core.clock().now_ms();
        match row {
            None => Err(Refusal::new("invalid_grant", "this device code is not known")),
            Some(row) if row.stage == rows::OAuthStage::Denied => {
                Err(Refusal::new("access_denied", "the user refused"))
            }
            Some(row) if row.expires_at_ms <= now_ms => Err(Refusal::new("expired_token", "this device code is over")),
            Some(row) if row.stage == rows::OAuthStage::Asked => {
                Err(Refusal::new("authorization_pending", "the user has not decided"))
            }
            Some(_) => self.exchange(code, client_id, |row| row.user_code.is_some(), address).await,
        }
    }

    /// A code to tokens, in one commit.
    async fn exchange(
        &self,
        code: [u8; 32],
        client_id: &str,
        check: impl Fn(&rows::OAuthCode) -> bool + Send + 'static,
        address: Option<IpAddr>,
    ) -> Result<Value, Refusal> {
        let now_ms = self.0.core.clock().now_ms();
        let row = self.0.core.snapshot()?.view().get(tables::OAUTH_CODES, code)?.ok_or_else(unknown_code)?;
        let client = super::clients::client(self.0.core.snapshot()?.view(), client_id)?;
        let opening = Opening::new(
            NewDevice {
                device_id: Some(row.device_id.clone()),
                display_name: client.name,
                address,
                refreshed: true,
                client: Some(client_id.to_owned()),
            },
            now_ms,
        )?;
        let (write, cache) = (opening.clone(), self.0.tokens.clone());
        let exchange = job(
            move |view| shown(view, code, now_ms, &check),
            move |shown: Shown, txn: &mut WriteTxn<'_>| match shown {
                Shown::Again(user_id, device_id) => {
                    device::remove_devices(txn, &cache, &user_id, &[device_id])?;
                    Ok(None)
                }
                Shown::Good(row) => {
                    let Some(user_id) = row.user_id.clone() else { return Ok(None) };
                    write.write(txn, &cache, &user_id)?;
                    let used = rows::OAuthCode { stage: rows::OAuthStage::Used, ..row };
                    txn.put(tables::OAUTH_CODES, code, &used)?;
                    Ok(Some(user_id))
                }
            },
        );
        let (user_id, _) = self.0.core.store().write(exchange).await?;
        let user_id = user_id.ok_or_else(|| {
            Refusal::new("invalid_grant", "this code was used before: the session that it made has been ended")
        })?;
        let session = opening.into_session(user_id);
        Ok(json!({
            "access_token": session.access_token,
            "refresh_token": session.refresh_token,
            "token_type": "Bearer",
            "expires_in": ACCESS_TOKEN_LIFETIME.as_secs(),
            "scope": row.scope,
        }))
    }

    /// Ends the session that a token belongs to; an unknown one counts as ended. Dropping the future does not take it back.
    ///
    /// # Errors
    /// `invalid_request`, `invalid_client` for another client's token; storage errors.
    pub async fn revoke(&self, form: &Form) -> Result<(), Refusal> {
        let hash = token::hash(required(form, "token")?);
        let client_id = form.get("client_id");
        let owner = {
            let snapshot = self.0.core.snapshot()?;
            let view = snapshot.view();
            let owner = match view.get(tables::TOKENS, hash)? {
                Some(owner) => Some(owner),
                None => view.get(tables::REFRESH_TOKENS, hash)?,
            };
            let Some(owner) = owner else { return Ok(()) };
            let device = view.get(tables::DEVICES, (&owner.user_id, &owner.device_id))?;
            let client = device.and_then(|device| device.client);
            if client_id.is_some_and(|id| client.as_ref() != Some(id)) {
                return Err(Refusal::new("invalid_client", "this token was given to another client"));
            }
            owner
        };
        Ok(self.delete_devices(&owner.user_id, vec![owner.device_id]).await?)
    }
}

fn shown(
    view: View<'_>,
    code: [u8; 32],
    now_ms: u64,
    check: &impl Fn(&rows::OAuthCode) -> bool,
) -> Result<Shown, Refusal> {
    let row = view.get(tables::OAUTH_CODES, code)?.ok_or_else(unknown_code)?;
    if !check(&row) {
        return Err(unknown_code());
    }
    match (row.stage, &row.user_id) {
        (rows::OAuthStage::Used, Some(user_id)) => Ok(Shown::Again(user_id.clone(), row.device_id.clone())),
        (rows::OAuthStage::Allowed, Some(user_id)) if row.expires_at_ms > now_ms => {
            account::active(view, user_id)?;
            Ok(Shown::Good(row))
        }
        _ => Err(unknown_code()),
    }
}

fn unknown_code() -> Refusal {
    let message = "this code is not known, is over, or belongs to another client, redirect_uri or code_verifier";
    Refusal::new("invalid_grant", message)
}
