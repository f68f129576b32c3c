//! Accounts made by whoever shows that he knows a secret of the node's owner, as many tools do it with Synapse: a nonce,
//! and an HMAC-SHA1 over it and what is asked (Synapse, "Shared-Secret Registration").

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use ruma::api::error::ErrorKind;
use sha1::Sha1;

use super::{Accounts, NewAccount, NewDevice, Session, token};
use crate::Error;

/// Nonces that were handed out, and until when they are good.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<String, u64>>);

/// How long a nonce waits.
const NONCE_MS: u64 = 60_000;
/// Nonces at once; with more the oldest are forgotten.
const CAPACITY: usize = 1024;

/// What is asked for.
pub struct SharedSecretRegistration {
    /// The nonce.
    pub nonce: String,
    /// The user's name.
    pub name: String,
    /// His password.
    pub password: String,
    /// May use the admin endpoints.
    pub admin: bool,
    /// Synapse's kinds of users; part of what is proven, without a meaning here.
    pub user_type: Option<String>,
    /// The HMAC in hexadecimal digits.
    pub mac: String,
}

impl Accounts {
    /// A nonce for [`Accounts::register_with_shared_secret`].
    ///
    /// # Errors
    /// 400 `M_UNKNOWN` if no secret is configured.
    pub fn registration_nonce(&self) -> Result<String, Error> {
        self.shared_secret()?;
        let (nonce, now_ms) = (token::random_token(), self.0.core.clock().now_ms());
        let mut nonces = self.0.nonces.0.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.retain(|_, until_ms| *until_ms > now_ms);
        if nonces.len() >= CAPACITY {
            let oldest = nonces.iter().min_by_key(|(_, until_ms)| **until_ms).map(|(nonce, _)| nonce.clone());
            oldest.and_then(|oldest| nonces.remove(&oldest));
        }
        nonces.insert(nonce.clone(), now_ms.saturating_add(NONCE_MS));
        Ok(nonce)
    }

    /// Makes an account and logs a device in. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN` if no secret is configured, or for a nonce that is not known; 403 for a wrong HMAC; as
    /// [`Accounts::create`].
    pub async fn register_with_shared_secret(
        &self,
        asked: SharedSecretRegistration,
        device: NewDevice,
        address: Option<IpAddr>,
    ) -> Result<Session, Error> {
        let secret = self.shared_secret()?;
        let now_ms = self.0.core.clock().now_ms();
        let known = self.0.nonces.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&asked.nonce);
        if known.is_none_or(|until_ms| until_ms <= now_ms) {
            return Err(Error::unknown("This nonce is not known: ask for one, it is good once and for a minute"));
        }
        let attempt = self.0.limits.attempt(None, address)?;
        if !proves(secret, &asked) {
            return Err(Error::forbidden("The HMAC does not fit: it is made with another secret or of other values"));
        }
        attempt.succeeded();
        let account = NewAccount { name: asked.name, password: Some(asked.password), admin: asked.admin };
        let (_, session) = self.create(account, Some(device)).await?;
        session.ok_or_else(|| Error::internal("an account without the device that was asked for"))
    }

    fn shared_secret(&self) -> Result<&str, Error> {
        let secret = self.0.core.config().registration_shared_secret.as_deref().filter(|secret| !secret.is_empty());
        secret.ok_or_else(|| {
            let message = "This homeserver has no shared secret for registrations (`registration-shared-secret`)";
            Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::Unknown, message)
        })
    }
}

fn proves(secret: &str, asked: &SharedSecretRegistration) -> bool {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    let admin = if asked.admin { "admin" } else { "notadmin" };
    for (at, part) in [&*asked.nonce, &*asked.name, &*asked.password, admin].into_iter().enumerate() {
        if at > 0 {
            mac.update(b"\0");
        }
        mac.update(part.as_bytes());
    }
    if let Some(user_type) = &asked.user_type {
        mac.update(b"\0");
        mac.update(user_type.as_bytes());
    }
    let shown = data_encoding::HEXLOWER_PERMISSIVE.decode(asked.mac.as_bytes());
    // Compares in constant time.
    shown.is_ok_and(|shown| mac.verify_slice(&shown).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hmac module as Synapse's documentation shows.
    #[test]
    fn the_proof_is_that_of_synapses_documentation() {
        let mut asked = SharedSecretRegistration {
            nonce: "thisisanonce".to_owned(),
            name: "pepper_roni".to_owned(),
            password: "pizza".to_owned(),
            admin: true,
            user_type: None,
            mac: MAC.to_owned(),
        };
        assert!(proves("shared_secret", &asked));
        assert!(!proves("other_secret", &asked));
        asked.admin = false;
        assert!(!proves("shared_secret", &asked));
        asked.mac = "zz".to_owned();
        assert!(!proves("shared_secret", &asked));
    }

    const MAC: &str = "48715842ad67d5dc9a9ee938a3bda4fcfae8d7c7";
}
