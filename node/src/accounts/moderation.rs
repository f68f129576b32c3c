//! What administrators may do to accounts of this node: lock, suspend, look (client-server API, "Server Administration").

use millpond_store::{
    View, job,
    rows::{Account, AccountMarks},
    tables,
};
use ruma::UserId;

use super::{Accounts, Sender, account};
use crate::Error;

/// A mark that administrators set and take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The account cannot be used.
    Locked,
    /// The account can read and not take part.
    Suspended,
}

impl Mark {
    fn of(self, marks: AccountMarks) -> bool {
        match self {
            Self::Locked => marks.locked,
            Self::Suspended => marks.suspended,
        }
    }
}

impl Accounts {
    /// Whether an account has a mark.
    ///
    /// # Errors
    /// 403 for who is no administrator and about other administrators, 400 for users of other servers, 404 for who has no
    /// account here or had one; storage errors.
    pub fn mark(&self, sender: &Sender, target: &UserId, mark: Mark) -> Result<bool, Error> {
        self.check_administrator(sender, target)?;
        let snapshot = self.0.core.snapshot()?;
        moderated(snapshot.view(), target).map(|marks| mark.of(marks))
    }

    /// Gives an account a mark or takes it away. Its devices hear of it with their next request. Dropping the future does
    /// not undo it.
    ///
    /// # Errors
    /// As [`Accounts::mark`]; 403 for one's own account.
    pub async fn set_mark(&self, sender: &Sender, target: &UserId, mark: Mark, on: bool) -> Result<(), Error> {
        self.check_administrator(sender, target)?;
        if sender.user_id == *target {
            return Err(Error::forbidden("Nobody locks or suspends his own account"));
        }
        self.mark_as_owner(target, mark, on).await
    }

    /// The same for the owner of the node, who needs no account. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 403 for administrators, 404 for who has no account here or had one; storage errors.
    pub async fn mark_as_owner(&self, target: &UserId, mark: Mark, on: bool) -> Result<(), Error> {
        let (user, cache) = (target.to_owned(), self.0.tokens.clone());
        let read = user.clone();
        let set = job(
            move |view| moderated(view, &read),
            move |mut marks: AccountMarks, txn| {
                match mark {
                    Mark::Locked => marks.locked = on,
                    Mark::Suspended => marks.suspended = on,
                }
                txn.put(tables::ACCOUNT_MARKS, &user, &marks)?;
                // Cached tokens still have the old marks.
                let position = txn.next_position();
                cache.revoke(position);
                Ok(())
            },
        );
        self.0.core.write(set).await?;
        Ok(())
    }

    /// Makes an account an administrator's, or an ordinary one again. A locked or suspended one must be freed first.
    /// Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 for who has no account here, 403 `M_USER_DEACTIVATED` or for a marked one; storage errors.
    pub async fn set_admin(&self, target: &UserId, admin: bool) -> Result<(), Error> {
        let (user, cache) = (target.to_owned(), self.0.tokens.clone());
        let read = user.clone();
        let set = job(
            move |view| {
                let account = account::active(view, &read)?;
                let marks = view.get(tables::ACCOUNT_MARKS, &read)?.unwrap_or_default();
                if admin && (marks.locked || marks.suspended) {
                    return Err(Error::forbidden("This account is locked or suspended: free it first"));
                }
                Ok(Account { admin, ..account })
            },
            move |account: Account, txn| {
                txn.put(tables::ACCOUNTS, &user, &account)?;
                let position = txn.next_position();
                cache.revoke(position);
                Ok(())
            },
        );
        self.0.core.write(set).await?;
        Ok(())
    }

    /// Who may look at a user's connections: himself and administrators.
    ///
    /// # Errors
    /// 403 for others, 404 for who has no account here; storage errors.
    pub fn check_whois(&self, sender: &Sender, target: &UserId) -> Result<(), Error> {
        if sender.user_id != *target && !sender.admin {
            return Err(Error::forbidden("Only administrators see the connections of others"));
        }
        account::existing(self.0.core.snapshot()?.view(), target).map(drop)
    }

    /// Before any look-up, so that nobody learns who is here.
    fn check_administrator(&self, sender: &Sender, target: &UserId) -> Result<(), Error> {
        if !sender.admin {
            return Err(Error::forbidden("Only administrators of this homeserver may do this"));
        }
        if !self.0.core.identity().is_our_user(target) {
            return Err(Error::invalid_param(format!("{target} is not a user of this homeserver")));
        }
        Ok(())
    }
}

/// The marks of an account that administrators may mark.
fn moderated(view: View<'_>, target: &UserId) -> Result<AccountMarks, Error> {
    let account = account::existing(view, target)?;
    if account.deactivated {
        return Err(Error::not_found("This account has been deactivated"));
    }
    if account.admin {
        return Err(Error::forbidden("Administrators are not locked or suspended"));
    }
    Ok(view.get(tables::ACCOUNT_MARKS, target)?.unwrap_or_default())
}
