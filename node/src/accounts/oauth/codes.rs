//! Authorisation codes (RFC 6749, section 4.1, with PKCE, RFC 7636): what a client asks in the browser, and the code that
//! stands for the user's yes. Codes are kept as their hash.

use millpond_store::{View, WriteTxn, job, rows, tables};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use super::{Form, Refusal, clients, redirect, required, scope};
use crate::accounts::{Accounts, account, token};

/// A request to authorise a client that is well-formed.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// The client.
    pub client: rows::OAuthClient,
    /// The device that it asks for.
    pub device_id: OwnedDeviceId,
    /// Where it is answered.
    pub redirect_uri: String,
    client_id: String,
    scope: String,
    challenge: String,
    state: Option<String>,
    in_fragment: bool,
}

/// Why a client is not authorised.
pub enum Denial {
    /// To be shown to the user: nobody knows where to send it.
    Page(Refusal),
    /// To be sent to the client at this address.
    Redirect(String),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Page(refusal)
    }
}

impl Accounts {
    /// Reads a request to authorise a client.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn authorization(&self, form: &Form) -> Result<Authorization, Denial> {
        let client_id = required(form, "client_id")?;
        let snapshot = self.0.core.snapshot().map_err(Refusal::from)?;
        let client = clients::client(snapshot.view(), client_id)?;
        let redirect_uri = required(form, "redirect_uri")?;
        if !client.redirect_uris.iter().any(|registered| redirect::matches(redirect_uri, registered)) {
            return Err(Refusal::new("invalid_request", "`redirect_uri` is not one that the client registered").into());
        }
        let (state, in_fragment) =
            (form.get("state"), form.get("response_mode").is_some_and(|mode| mode == "fragment"));
        let denied = |refusal| denial(redirect_uri, in_fragment, state, refusal);
        let (device_id, challenge) = asked(form).map_err(denied)?;
        Ok(Authorization {
            client,
            device_id,
            redirect_uri: redirect_uri.to_owned(),
            client_id: client_id.to_owned(),
            scope: form.get("scope").cloned().unwrap_or_default(),
            challenge,
            state: state.cloned(),
            in_fragment,
        })
    }

    /// The user allows it: gives the address that takes the code to the client. Dropping the future does not take it back.
    ///
    /// # Errors
    /// For an account that is not active, and when too many codes are under way; storage errors.
    pub async fn allow(&self, user_id: &UserId, asked: &Authorization) -> Result<String, Refusal> {
        let code = token::Secret::random();
        let now_ms = self.0.core.clock().now_ms();
        let row = rows::OAuthCode {
            client_id: asked.client_id.clone(),
            device_id: asked.device_id.clone(),
            scope: asked.scope.clone(),
            user_id: Some(user_id.to_owned()),
            stage: rows::OAuthStage::Allowed,
            expires_at_ms: now_ms + CODE_LIFETIME_MS,
            redirect_uri: Some(asked.redirect_uri.clone()),
            challenge: Some(asked.challenge.clone()),
            user_code: None,
        };
        self.keep_code(code.hash, row, Some(user_id.to_owned())).await?;
        let mut parameters = vec![("code", code.text.as_str())];
        parameters.extend(asked.state.as_deref().map(|state| ("state", state)));
        Ok(redirect::with(&asked.redirect_uri, asked.in_fragment, &parameters))
    }

    /// The user refuses it: gives the address that tells the client.
    pub fn refuse(&self, asked: &Authorization) -> String {
        let refusal = Refusal::new("access_denied", "the user refused");
        match denial(&asked.redirect_uri, asked.in_fragment, asked.state.as_ref(), refusal) {
            Denial::Redirect(to) => to,
            Denial::Page(_) => asked.redirect_uri.clone(),
        }
    }

    pub(super) async fn keep_code(
        &self,
        hash: [u8; 32],
        row: rows::OAuthCode,
        user_id: Option<OwnedUserId>,
    ) -> Result<(), Refusal> {
        let now_ms = self.0.core.clock().now_ms();
        let keep = job(
            move |view| {
                if let Some(user_id) = &user_id {
                    account::active(view, user_id)?;
                }
                let known = codes(view)?;
                let (over, under_way): (Vec<_>, Vec<_>) =
                    known.into_iter().partition(|(_, row)| row.expires_at_ms + KEPT_MS < now_ms);
                if under_way.len() >= CODES_MAX {
                    return Err(Refusal::new(
                        "temporarily_unavailable",
                        "too many logins are under way: try again later",
                    ));
                }
                Ok::<_, Refusal>(over.into_iter().map(|(hash, _)| hash).collect::<Vec<_>>())
            },
            move |over: Vec<[u8; 32]>, txn: &mut WriteTxn<'_>| {
                for old in over {
                    txn.remove(tables::OAUTH_CODES, old)?;
                }
                txn.put(tables::OAUTH_CODES, hash, &row)
            },
        );
        self.0.core.store().write(keep).await?;
        Ok(())
    }
}

/// Every code under way, and those used lately.
pub(super) fn codes(view: View<'_>) -> Result<Vec<([u8; 32], rows::OAuthCode)>, millpond_store::Error> {
    view.scan(tables::OAUTH_CODES, ())?.collect()
}

/// What must be right before the user is asked.
fn asked(form: &Form) -> Result<(OwnedDeviceId, String), Refusal> {
    if required(form, "response_type")? != "code" {
        return Err(Refusal::new("unsupported_response_type", "`response_type` is code"));
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query" && mode != "fragment") {
        return Err(Refusal::new("invalid_request", "`response_mode` is query or fragment"));
    }
    if form.get("code_challenge_method").is_none_or(|method| method != "S256") {
        return Err(Refusal::new("invalid_request", "`code_challenge_method` is S256"));
    }
    let challenge = required(form, "code_challenge")?;
    // The base64 of a SHA-256.
    if challenge.len() != 43 || !challenge.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(Refusal::new("invalid_request", "`code_challenge` is the base64url of a SHA-256"));
    }
    if form.get("state").is_some_and(|state| state.len() > STATE_MAX) {
        return Err(Refusal::new("invalid_request", format!("`state` has at most {STATE_MAX} bytes")));
    }
    Ok((scope::device(required(form, "scope")?)?, challenge.to_owned()))
}

fn denial(redirect_uri: &str, in_fragment: bool, state: Option<&String>, refusal: Refusal) -> Denial {
    let Refusal::OAuth { code, description } = refusal else { return Denial::Page(refusal) };
    let mut parameters = vec![("error", code), ("error_description", description.as_str())];
    parameters.extend(state.map(|state| ("state", state.as_str())));
    Denial::Redirect(redirect::with(redirect_uri, in_fragment, &parameters))
}

/// A client exchanges its code at once; the RFC recommends at most ten minutes.
const CODE_LIFETIME_MS: u64 = 60 * 1000;
/// How long a code is remembered after its end, so that one that is shown twice gives itself away.
const KEPT_MS: u64 = 60 * 60 * 1000;
/// Codes at once.
pub(super) const CODES_MAX: usize = 1000;
const STATE_MAX: usize = 4096;
