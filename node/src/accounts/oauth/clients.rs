//! Dynamic client registration (RFC 7591). A client's id is the hash of what it says of itself: who registers again gets the
//! same id, and a thousand registrations of one client are one row.

use std::{collections::HashSet, net::IpAddr};

use data_encoding::BASE32_NOPAD;
use millpond_store::{View, WriteTxn, job, rows::OAuthClient, tables};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{DEVICE_CODE, Refusal, redirect};
use crate::accounts::Accounts;

/// What a client says of itself, as far as we look at it.
#[derive(Deserialize)]
struct Metadata {
    client_uri: Option<String>,
    client_name: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    response_types: Option<Vec<String>>,
    grant_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    application_type: Option<String>,
}

impl Accounts {
    /// Registers a client; the answer repeats what was understood. Dropping the future does not take it back.
    ///
    /// # Errors
    /// `invalid_client_metadata`, `invalid_redirect_uri`; 429; storage errors.
    pub async fn register_client(&self, body: &[u8], address: Option<IpAddr>) -> Result<Value, Refusal> {
        // Registering costs a row, so it counts as an attempt even when it succeeds.
        let _attempt = self.0.limits.attempt(None, address)?;
        let metadata: Metadata =
            serde_json::from_slice(body).map_err(|e| invalid(format!("not client metadata: {e}")))?;
        let now_ms = self.0.core.clock().now_ms();
        let (client, grant_types) = metadata.check(now_ms)?;
        let id = client_id(&client);
        let answer = json!({
            "client_id": id,
            "client_id_issued_at": now_ms / 1000,
            "client_name": client.name,
            "client_uri": client.uri,
            "redirect_uris": client.redirect_uris,
            "application_type": if client.native { "native" } else { "web" },
            "response_types": ["code"],
            "grant_types": grant_types,
            "token_endpoint_auth_method": "none",
        });
        let keep = job(
            |_| Ok::<_, Refusal>(()),
            move |(), txn| {
                make_room(txn)?;
                txn.put(tables::OAUTH_CLIENTS, id.as_str(), &client)
            },
        );
        self.0.core.store().write(keep).await?;
        Ok(answer)
    }
}

impl Metadata {
    fn check(self, now_ms: u64) -> Result<(OAuthClient, Vec<String>), Refusal> {
        let uri = self.client_uri.ok_or_else(|| invalid("`client_uri` is missing"))?;
        let home = Url::parse(&uri).map_err(|_| invalid("`client_uri` is no URL"))?;
        if home.scheme() != "https" || home.host_str().is_none() || !home.username().is_empty() {
            return Err(invalid("`client_uri` is an https URL without user or password"));
        }
        let native = match self.application_type.as_deref() {
            None | Some("web") => false,
            Some("native") => true,
            Some(_) => return Err(invalid("`application_type` is web or native")),
        };
        if !matches!(self.token_endpoint_auth_method.as_deref(), None | Some("none")) {
            return Err(invalid("clients of this server are public: `token_endpoint_auth_method` is none"));
        }
        let mut grants = self.grant_types.unwrap_or_else(|| vec!["authorization_code".to_owned()]);
        grants.retain(|grant| matches!(grant.as_str(), "authorization_code" | "refresh_token" | DEVICE_CODE));
        let by_redirect = grants.iter().any(|grant| grant == "authorization_code");
        let answers = self.response_types.is_none_or(|types| types.iter().any(|kind| kind == "code"));
        if by_redirect && (self.redirect_uris.is_empty() || !answers) {
            return Err(invalid("the grant authorization_code needs `redirect_uris` and the response type code"));
        }
        if let Some(bad) = self.redirect_uris.iter().find(|uri| !redirect::may_register(uri, &home, native)) {
            let message = format!("{bad} is neither on the host of `client_uri` nor, for a native client, its own");
            return Err(Refusal::new("invalid_redirect_uri", message));
        }
        let long = [Some(&uri), self.client_name.as_ref()].into_iter().flatten().chain(&self.redirect_uris);
        if long.into_iter().any(|text| text.len() > TEXT_MAX) || self.redirect_uris.len() > REDIRECTS_MAX {
            return Err(invalid(format!("at most {REDIRECTS_MAX} redirect URIs, and {TEXT_MAX} bytes each")));
        }
        let client = OAuthClient {
            name: self.client_name.filter(|name| !name.is_empty()),
            uri,
            redirect_uris: self.redirect_uris,
            native,
            registered_at_ms: now_ms,
        };
        Ok((client, grants))
    }
}

/// A registered client.
///
/// # Errors
/// `invalid_client`; storage errors.
pub(super) fn client(view: View<'_>, id: &str) -> Result<OAuthClient, Refusal> {
    let client = view.get(tables::OAUTH_CLIENTS, id)?;
    client.ok_or_else(|| Refusal::new("invalid_client", "this client is not registered here: register it again"))
}

fn client_id(client: &OAuthClient) -> String {
    let mut digest = Sha256::new();
    let texts = [client.name.as_deref().unwrap_or_default(), &client.uri, if client.native { "native" } else { "web" }];
    for text in texts.into_iter().chain(client.redirect_uris.iter().map(String::as_str)) {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    BASE32_NOPAD.encode(&digest.finalize()[..20]).to_lowercase()
}

/// Strangers can register clients: when there are too many, those go that have no device.
fn make_room(txn: &mut WriteTxn<'_>) -> Result<(), millpond_store::Error> {
    let known: Vec<_> = txn.view().scan(tables::OAUTH_CLIENTS, ())?.collect::<Result<_, _>>()?;
    if known.len() < CLIENTS_MAX {
        return Ok(());
    }
    let mut used = HashSet::new();
    for row in txn.view().scan(tables::DEVICES, ())? {
        used.extend(row?.1.client);
    }
    for row in txn.view().scan(tables::OAUTH_CODES, ())? {
        used.insert(row?.1.client_id);
    }
    for (id, _) in known.into_iter().filter(|(id, _)| !used.contains(id)) {
        txn.remove(tables::OAUTH_CLIENTS, id)?;
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("invalid_client_metadata", message)
}

/// A node's people use a handful of clients, each in a few versions.
const CLIENTS_MAX: usize = 500;
const REDIRECTS_MAX: usize = 20;
const TEXT_MAX: usize = 2000;
