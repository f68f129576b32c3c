//! Passwords: Argon2id, on a thread of its own.

use argon2::password_hash::phc::PasswordHash;

use crate::Error;

mod hasher;

use self::hasher::Hasher;

/// Longer passwords cost memory and add nothing.
const MAX_PASSWORD: usize = 4096;

/// Hashes and verifies.
#[derive(Clone, Default)]
pub(super) struct Passwords(Hasher);

impl Passwords {
    /// The PHC string of a password.
    ///
    /// # Errors
    /// 400 `M_WEAK_PASSWORD` for an empty one, 400 `M_INVALID_PARAM` for one that is too long, 429 `M_LIMIT_EXCEEDED`
    /// while too many wait.
    pub(super) async fn hash(&self, password: String) -> Result<String, Error> {
        check(&password)?;
        let hashed = self.0.run(move |memory| memory.hash(password.as_bytes())).await?;
        hashed.map_err(|e| Error::internal(format!("the password could not be hashed: {e}")))
    }

    /// Whether a password fits a PHC string. With none it takes as long and says no: who has an account stays unknown.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` while too many wait.
    pub(super) async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, Error> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        self.0
            .run(move |memory| {
                let phc_or_dummy = phc.as_deref().unwrap_or(NOBODYS);
                let Ok(hash) = PasswordHash::new(phc_or_dummy) else { return false };
                memory.fits(password.as_bytes(), &hash) && phc.is_some()
            })
            .await
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
