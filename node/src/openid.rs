//! OpenID tokens (client-server API, "OpenID"): with one a third party asks the user's homeserver whom it talks to, and can
//! do nothing else.

use std::time::Duration;

use http::StatusCode;
use millpond_store::{job, rows::OpenIdToken, tables};
use ruma::{
    OwnedUserId, UserId,
    api::error::{ErrorKind, UnknownTokenErrorData},
};
use sha2::{Digest, Sha256};

use crate::{Core, Error, accounts::Accounts};

/// The tokens. Cloning is cheap.
#[derive(Clone)]
pub struct OpenId {
    core: Core,
}

/// How long a token lives.
pub const LIFETIME: Duration = Duration::from_secs(3600);

impl OpenId {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// A token for a user; those that have ended are forgotten. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` when too many of the user's live; storage errors.
    pub async fn issue(&self, user: &UserId) -> Result<String, Error> {
        let (token, now_ms) = (Accounts::secret(), self.core.clock().now_ms());
        let lifetime_ms = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let row = OpenIdToken { user_id: user.to_owned(), expires_at_ms: now_ms.saturating_add(lifetime_ms) };
        let (user, key) = (user.to_owned(), hash(&token));
        let issue = job(
            move |view| {
                let (mut ended, mut live) = (Vec::new(), 0);
                for known in view.scan(tables::OPENID_TOKENS, ())? {
                    let (key, known) = known?;
                    match known.expires_at_ms <= now_ms {
                        true => ended.push(key),
                        false => live += usize::from(known.user_id == user),
                    }
                }
                if live < LIVE_MAX {
                    return Ok(ended);
                }
                Err(Error::limit_exceeded(LIFETIME, format!("there are {LIVE_MAX} OpenID tokens of yours: wait")))
            },
            move |ended: Vec<[u8; 32]>, txn| {
                for key in ended {
                    txn.remove(tables::OPENID_TOKENS, key)?;
                }
                txn.put(tables::OPENID_TOKENS, key, &row)
            },
        );
        self.core.write(issue).await?;
        Ok(token)
    }

    /// Whom a token stands for.
    ///
    /// # Errors
    /// 401 `M_UNKNOWN_TOKEN`; storage errors.
    pub fn user(&self, token: &str) -> Result<OwnedUserId, Error> {
        let row = self.core.snapshot()?.view().get(tables::OPENID_TOKENS, hash(token))?;
        let now_ms = self.core.clock().now_ms();
        row.filter(|row| row.expires_at_ms > now_ms).map(|row| row.user_id).ok_or_else(|| {
            let kind = ErrorKind::UnknownToken(UnknownTokenErrorData::new());
            Error::matrix(StatusCode::UNAUTHORIZED, kind, "The OpenID token is not known here, or has ended")
        })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Tokens of one user at a time: widgets ask for one each.
const LIVE_MAX: usize = 200;
