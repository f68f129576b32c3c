//! Logins: by password, or by a short-lived token that another device of the user got for it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, UserId};

use super::{Accounts, NewDevice, Session, account, name, token, uiaa::wrong_password};
use crate::{Error, config::Registration};

/// What a client shows to log in.
pub enum Credential {
    /// `m.login.password`.
    Password {
        /// The user name or the whole user id.
        user: String,
        /// The password.
        password: String,
    },
    /// `m.login.token`.
    Token(String),
}

/// How long a login token lives: as long as it takes to show a QR code to another device.
pub const LOGIN_TOKEN_LIFETIME: Duration = Duration::from_secs(120);
/// That of a single sign-on: as long as a browser needs to hand it to the client ("Handling the callback").
const SSO_TOKEN_LIFETIME: Duration = Duration::from_secs(10);
/// Login tokens at once.
const CAPACITY: usize = 1024;

/// Login tokens that were handed out: by their hash, for whom and until when.
#[derive(Default)]
pub(super) struct LoginTokens(Mutex<HashMap<[u8; 32], (OwnedUserId, u64)>>);

impl Accounts {
    /// Logs a device in. Dropping the future does not take the login back.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN` for a wrong credential, 403 `M_USER_DEACTIVATED`, 429 `M_LIMIT_EXCEEDED`; storage errors.
    pub async fn log_in(&self, credential: Credential, device: NewDevice) -> Result<Session, Error> {
        let user_id = match credential {
            Credential::Password { user, password } => self.password_login(&user, password, device.address).await?,
            Credential::Token(token) => self.token_login(&token, device.address)?,
        };
        self.open_session(&user_id, device).await
    }

    /// A login token for another device of a user; it works once.
    pub fn login_token(&self, user_id: &UserId) -> String {
        self.login_token_for(user_id, LOGIN_TOKEN_LIFETIME)
    }

    /// A login token for a client that waits for it after a single sign-on; it works once.
    pub fn sso_token(&self, user_id: &UserId) -> String {
        self.login_token_for(user_id, SSO_TOKEN_LIFETIME)
    }

    fn login_token_for(&self, user_id: &UserId, lifetime: Duration) -> String {
        let token = token::random_token();
        let now_ms = self.0.core.clock().now_ms();
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut tokens = self.0.login_tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, expires_ms)| *expires_ms > now_ms);
        if tokens.len() >= CAPACITY {
            tokens.clear();
        }
        tokens.insert(token::hash(&token), (user_id.to_owned(), now_ms.saturating_add(lifetime_ms)));
        token
    }

    /// Whether a token would let a stranger register.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN` where nobody registers by a token; 429 `M_LIMIT_EXCEEDED`.
    pub fn registration_token_validity(&self, shown: &str, address: Option<IpAddr>) -> Result<bool, Error> {
        if self.0.core.config().registration == Registration::Closed {
            return Err(Error::forbidden("Registration is closed on this homeserver: no token opens it"));
        }
        let attempt = self.0.limits.attempt(None, address)?;
        let valid = self.is_registration_token(shown);
        if valid {
            attempt.succeeded();
        }
        Ok(valid)
    }

    /// Whose a name and a password are.
    pub(super) async fn password_login(
        &self,
        user: &str,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<OwnedUserId, Error> {
        let identity = self.0.core.identity();
        let user_id = name::meant_user_id(user, identity.server_name()).map_err(|_| wrong_password())?;
        if self.check_password(&user_id, password, address).await? {
            return Ok(user_id);
        }
        // A deactivated account has no password any more; its user should know why.
        let account = self.0.core.snapshot()?.view().get(millpond_store::tables::ACCOUNTS, &user_id)?;
        if account.is_some_and(|account| account.deactivated) {
            account::active(self.0.core.snapshot()?.view(), &user_id)?;
        }
        Err(wrong_password())
    }

    fn token_login(&self, shown: &str, address: Option<IpAddr>) -> Result<OwnedUserId, Error> {
        let attempt = self.0.limits.attempt(None, address)?;
        let now_ms = self.0.core.clock().now_ms();
        let mut tokens = self.0.login_tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.remove(&token::hash(shown)) {
            Some((user_id, expires_ms)) if expires_ms > now_ms => {
                attempt.succeeded();
                Ok(user_id)
            }
            _ => Err(Error::forbidden("This login token is not valid: it works once and for a short time")),
        }
    }

    /// Whether a password is a user's, within the rate limits.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`; storage errors.
    pub(super) async fn check_password(
        &self,
        user_id: &UserId,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<bool, Error> {
        let attempt = self.0.limits.attempt(Some(user_id), address)?;
        let account = self.0.core.snapshot()?.view().get(millpond_store::tables::ACCOUNTS, user_id)?;
        let phc = account.filter(|account| !account.deactivated).and_then(|account| account.password_hash);
        let right = self.0.passwords.verify(password, phc).await?;
        if right {
            attempt.succeeded();
        }
        Ok(right)
    }
}
