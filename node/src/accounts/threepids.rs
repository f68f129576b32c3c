//! E-mail addresses and phone numbers of accounts (client-server API, "Adding Account Administrative Contact Information"): who
//! has shown to a configured identity server that one is his may be found by it, log in with it, and come back by it when he
//! has forgotten his password. Without a configured identity server there are none.

mod binding;
mod validation;

use http::StatusCode;
use millpond_store::{View, WriteTxn, job, rows::Threepid, tables};
use ruma::{OwnedUserId, UserId, api::error::ErrorKind, thirdparty::Medium};

pub(super) use self::validation::Validations;
pub use self::validation::{Purpose, Sent, TokenRequest, Validated};
use super::{Accounts, account};
use crate::{Error, identity_service::IdentityServer};

/// An address in the one form in which it is kept and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `email` or `msisdn`.
    pub(super) medium: String,
    pub(super) address: String,
}

impl Address {
    /// Reads an address: e-mail addresses in lower case, phone numbers as their digits with the country's code.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for what is none, `M_THREEPID_MEDIUM_NOT_SUPPORTED` for another medium.
    pub fn parse(medium: &Medium, address: &str) -> Result<Self, Error> {
        let address = match medium {
            Medium::Email => email(address)?,
            Medium::Msisdn => digits(address)?,
            other => {
                let message = format!("addresses of the kind {} are not kept here", other.as_str());
                let kind = ErrorKind::ThreepidMediumNotSupported;
                return Err(Error::matrix(StatusCode::BAD_REQUEST, kind, message));
            }
        };
        Ok(Self { medium: medium.as_str().to_owned(), address })
    }

    /// Whether it is an e-mail address.
    pub fn is_email(&self) -> bool {
        self.medium == "email"
    }

    /// Its kind.
    pub fn medium(&self) -> Medium {
        Medium::from(self.medium.as_str())
    }

    /// The address itself.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    fn key(&self) -> (&str, &str) {
        (&self.medium, &self.address)
    }
}

impl Accounts {
    /// That accounts here may have addresses at all.
    ///
    /// # Errors
    /// 403 `M_THREEPID_DENIED` without a configured identity server.
    pub fn may_have_threepids(&self) -> Result<(), Error> {
        IdentityServer::configured(&self.0.core).map(drop)
    }

    /// The addresses of an account.
    ///
    /// # Errors
    /// Storage errors.
    pub fn threepids(&self, user: &UserId) -> Result<Vec<(Address, Threepid)>, Error> {
        let snapshot = self.0.core.snapshot()?;
        let mut added = of_user(snapshot.view(), user)?;
        added.retain(|(_, row)| row.added_at_ms.is_some());
        Ok(added)
    }

    /// Whose an address is, among those that were added to accounts here.
    ///
    /// # Errors
    /// Storage errors.
    pub fn threepid_owner(&self, address: &Address) -> Result<Option<OwnedUserId>, Error> {
        Ok(self.0.core.snapshot()?.view().get(tables::THREEPID_OWNERS, address.key())?)
    }

    /// Adds a validated address to an account. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_THREEPID_IN_USE` for one of another account, 400 for too many; storage errors.
    pub async fn add_threepid(&self, user: &UserId, validated: Validated) -> Result<(), Error> {
        let (user, read, now_ms) = (user.to_owned(), user.to_owned(), self.0.core.clock().now_ms());
        let Validated { address, at_ms } = validated;
        let wanted = address.clone();
        let add = job(
            move |view| {
                account::active(view, &read)?;
                admit(view, &read, &wanted)
            },
            move |(), txn| put(txn, &user, &address, at_ms, now_ms),
        );
        self.0.core.write(add).await?;
        Ok(())
    }

    /// Takes an address from an account. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn remove_threepid(&self, user: &UserId, address: &Address) -> Result<(), Error> {
        let (user, address) = (user.to_owned(), address.clone());
        let remove = job(|_| Ok::<_, Error>(()), move |(), txn| forget(txn, &user, &address));
        self.0.core.write(remove).await?;
        Ok(())
    }
}

/// That an address may be added to an account.
///
/// # Errors
/// 400 `M_THREEPID_IN_USE`, 400 for too many; storage errors.
pub(super) fn admit(view: View<'_>, user: &UserId, address: &Address) -> Result<(), Error> {
    let owner = view.get(tables::THREEPID_OWNERS, address.key())?;
    if owner.is_some_and(|owner| owner != user) {
        return Err(in_use());
    }
    if of_user(view, user)?.len() >= PER_USER {
        return Err(Error::unknown(format!("an account has at most {PER_USER} addresses: delete one first")));
    }
    Ok(())
}

/// Writes a validated address of an account.
pub(super) fn put(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    address: &Address,
    validated_at_ms: u64,
    now_ms: u64,
) -> Result<(), millpond_store::Error> {
    let (medium, text) = address.key();
    let before = txn.view().get(tables::THREEPIDS, (user, medium, text))?.unwrap_or_default();
    let row = Threepid { validated_at_ms, added_at_ms: Some(now_ms), ..before };
    txn.put(tables::THREEPIDS, (user, medium, text), &row)?;
    txn.put(tables::THREEPID_OWNERS, (medium, text), &user.to_owned())
}

/// Forgets an address of an account.
fn forget(txn: &mut WriteTxn<'_>, user: &UserId, address: &Address) -> Result<(), millpond_store::Error> {
    let (medium, text) = address.key();
    txn.remove(tables::THREEPIDS, (user, medium, text))?;
    // It may be published by this user and be the way into another account.
    if txn.view().get(tables::THREEPID_OWNERS, (medium, text))?.is_some_and(|owner| owner == user) {
        txn.remove(tables::THREEPID_OWNERS, (medium, text))?;
    }
    Ok(())
}

/// Forgets all addresses of an account that is deactivated.
pub(super) fn user_deactivated(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), millpond_store::Error> {
    for (address, _) in of_user(txn.view(), user)? {
        forget(txn, user, &address)?;
    }
    Ok(())
}

fn of_user(view: View<'_>, user: &UserId) -> Result<Vec<(Address, Threepid)>, millpond_store::Error> {
    let rows = view.scan(tables::THREEPIDS, (user,))?;
    rows.map(|row| {
        let ((_, medium, address), row) = row?;
        Ok((Address { medium, address }, row))
    })
    .collect()
}

fn in_use() -> Error {
    let message = "the address is known here already: log in with its account, or use another address";
    Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::ThreepidInUse, message)
}

fn email(text: &str) -> Result<String, Error> {
    let fits = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    let text = text.trim();
    match text.rsplit_once('@') {
        Some((local, domain)) if text.len() <= EMAIL_MAX && fits(local) && fits(domain) && !local.contains('@') => {
            Ok(text.to_lowercase())
        }
        _ => Err(Error::invalid_param("this is no e-mail address")),
    }
}

/// The digits of a phone number, which may be written with a plus, spaces and brackets.
fn digits(text: &str) -> Result<String, Error> {
    let is_sign = |c: char| matches!(c, '+' | ' ' | '-' | '(' | ')' | '.' | '/');
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let fits = text.chars().all(|c| c.is_ascii_digit() || is_sign(c)) && (5..=15).contains(&digits.len());
    fits.then_some(digits).ok_or_else(|| Error::invalid_param("this is no phone number"))
}

/// Addresses of an account: people have a few.
const PER_USER: usize = 50;
/// Bytes of an e-mail address (RFC 5321, 4.5.3.1).
const EMAIL_MAX: usize = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form_and_others_are_refused() {
        let of = |medium: Medium, text: &str| Address::parse(&medium, text).map(|address| address.address);
        assert_eq!(of(Medium::Email, " Bob@Example.ORG ").unwrap(), "bob@example.org");
        assert_eq!(of(Medium::Msisdn, "+44 (20) 7946-0958").unwrap(), "442079460958");
        for bad in ["", "bob", "@example.org", "bob@", "a b@c.d", "a@b@c", "bob@exa\nmple.org"] {
            assert!(of(Medium::Email, bad).is_err(), "{bad:?}");
        }
        for bad in ["", "+", "12", "call me", "+4420794609580000000"] {
            assert!(of(Medium::Msisdn, bad).is_err(), "{bad:?}");
        }
        assert!(of(Medium::from("pigeon"), "bob@example.org").is_err());
    }
}
