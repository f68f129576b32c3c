//! Passwords: Argon2id, on blocking threads, few at a time.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::Error;

/// Hashes at once: each takes 19 MiB and a core for tens of milliseconds.
const AT_ONCE: usize = 2;
/// Longer passwords cost memory and add nothing.
const MAX_PASSWORD: usize = 4096;

/// The hasher.
#[derive(Clone)]
pub(super) struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Passwords {
    /// The PHC string of a password.
    ///
    /// # Errors
    /// 400 `M_WEAK_PASSWORD` for an empty one, 400 `M_INVALID_PARAM` for one that is too long.
    pub(super) async fn hash(&self, password: String) -> Result<String, Error> {
        check(&password)?;
        let hashed = self.off_thread(move || {
            let hash: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
        });
        hashed.await?.map_err(|e| Error::internal(format!("the password could not be hashed: {e}")))
    }

    /// Whether a password fits a PHC string. With none it takes as long and says no: who has an account stays unknown.
    pub(super) async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, Error> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        self.off_thread(move || {
            let phc_or_dummy = phc.as_deref().unwrap_or(NOBODYS);
            let Ok(hash) = PasswordHash::new(phc_or_dummy) else { return false };
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && phc.is_some()
        })
        .await
    }

    async fn off_thread<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let slot = self.0.clone().acquire_owned().await.map_err(|_| Error::internal("the hasher is closed"))?;
        let ran = tokio::task::spawn_blocking(move || {
            let done = run();
            drop(slot);
            done
        });
        ran.await.map_err(|e| Error::internal(format!("hashing a password failed: {e}")))
    }
}

/// A hash with the default parameters that no password fits.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn check(password: &str) -> Result<(), Error> {
    if password.is_empty() {
        let kind = ruma::api::error::ErrorKind::WeakPassword;
        return Err(Error::matrix(http::StatusCode::BAD_REQUEST, kind, "A password cannot be empty"));
    }
    if password.len() > MAX_PASSWORD {
        return Err(Error::invalid_param(format!("A password has at most {MAX_PASSWORD} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_password_fits_its_hash_only() {
        let passwords = Passwords::default();
        let phc = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(passwords.verify("correct horse".to_owned(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned(), Some(phc)).await.unwrap());
        assert!(!passwords.verify(String::new(), None).await.unwrap());
        assert!(PasswordHash::new(NOBODYS).is_ok(), "the dummy must cost a real verification");
    }
}
