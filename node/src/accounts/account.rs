//! Accounts: made, listed, given another password, deactivated.

use http::StatusCode;
use millpond_store::{View, job, rows, tables};
use ruma::{OwnedDeviceId, OwnedUserId, UserId, api::error::ErrorKind};

use super::{
    Accounts, NewDevice, Session, Validated,
    device::{self, Opening},
    name,
    removal::user_deactivated,
    threepids,
};
use crate::{Error, rooms::Action};

/// An account to make.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The localpart of its user id.
    pub name: String,
    /// Its password; none: it logs in with tokens that the node's owner hands out.
    pub password: Option<String>,
    /// May use the admin endpoints; the first account of a node always may.
    pub admin: bool,
}

/// Who is logged out when a password changes.
#[derive(Clone, Debug)]
pub enum LogOut {
    /// Nobody.
    Nobody,
    /// Every device, except perhaps the one that changed it.
    AllBut(Option<OwnedDeviceId>),
}

/// What the owner of the node sees of an account.
#[derive(Clone, Debug)]
pub struct AccountInfo {
    /// The user.
    pub user_id: OwnedUserId,
    /// Milliseconds since the epoch.
    pub created_at_ms: u64,
    /// May use the admin endpoints.
    pub admin: bool,
    /// Deactivated for good.
    pub deactivated: bool,
    /// The number of its devices.
    pub devices: usize,
    /// What administrators did to it.
    pub marks: rows::AccountMarks,
}

impl Accounts {
    /// Makes an account, and logs a device in if asked. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_WEAK_PASSWORD`; storage errors.
    pub async fn create(
        &self,
        account: NewAccount,
        device: Option<NewDevice>,
    ) -> Result<(OwnedUserId, Option<Session>), Error> {
        self.create_with(account, device, None).await
    }

    /// As [`Accounts::create`], with an address that the user has shown to be his.
    ///
    /// # Errors
    /// As [`Accounts::create`]; 400 `M_THREEPID_IN_USE`.
    pub async fn create_with(
        &self,
        account: NewAccount,
        device: Option<NewDevice>,
        address: Option<Validated>,
    ) -> Result<(OwnedUserId, Option<Session>), Error> {
        let user_id = name::new_user_id(&account.name, self.0.core.identity().server_name())?;
        free(self.0.core.snapshot()?.view(), &user_id)?;
        let now_ms = self.0.core.clock().now_ms();
        let opening = device.map(|device| Opening::new(device, now_ms)).transpose()?;
        let password_hash = match account.password {
            Some(password) => Some(self.0.passwords.hash(password).await?),
            None => None,
        };
        let row = rows::Account { password_hash, created_at_ms: now_ms, admin: account.admin, deactivated: false };
        let (user, open, cache) = (user_id.clone(), opening.clone(), self.0.tokens.clone());
        let (read, wanted) = (user.clone(), address.clone());
        let create = job(
            move |view| {
                free(view, &read)?;
                wanted.iter().try_for_each(|wanted| threepids::admit(view, &read, &wanted.address))?;
                let first = !view.any(tables::ACCOUNTS, ())?;
                Ok::<_, Error>(rows::Account { admin: row.admin || first, ..row.clone() })
            },
            move |row: rows::Account, txn| {
                txn.put(tables::ACCOUNTS, &user, &row)?;
                if let Some(Validated { address, at_ms }) = &address {
                    threepids::put(txn, &user, address, *at_ms, now_ms)?;
                }
                open.as_ref().map_or(Ok(()), |open| open.write(txn, &cache, &user))
            },
        );
        self.0.core.write(create).await?;
        Ok((user_id.clone(), opening.map(|opening| opening.into_session(user_id))))
    }

    /// A name for a user who did not choose one.
    pub fn random_name() -> String {
        let mut name = String::from("u");
        name.extend(rand::random::<[u8; 10]>().map(|byte| char::from(b'a' + byte % 26)));
        name
    }

    /// The id that a new account of this name would have.
    ///
    /// # Errors
    /// 400 `M_INVALID_USERNAME`, `M_USER_IN_USE`; storage errors.
    pub fn available(&self, name: &str) -> Result<OwnedUserId, Error> {
        let user_id = name::new_user_id(name, self.0.core.identity().server_name())?;
        free(self.0.core.snapshot()?.view(), &user_id)?;
        Ok(user_id)
    }

    /// The user of this node whom a name or a user id means.
    ///
    /// # Errors
    /// 400 `M_INVALID_USERNAME`; 404 `M_NOT_FOUND` for no such account; storage errors.
    pub fn find(&self, name_or_id: &str) -> Result<OwnedUserId, Error> {
        let user_id = name::meant_user_id(name_or_id, self.0.core.identity().server_name())?;
        existing(self.0.core.snapshot()?.view(), &user_id)?;
        Ok(user_id)
    }

    /// All accounts.
    ///
    /// # Errors
    /// Storage errors.
    pub fn list(&self) -> Result<Vec<AccountInfo>, Error> {
        let snapshot = self.0.core.snapshot()?;
        let view = snapshot.view();
        let rows = view.scan(tables::ACCOUNTS, ())?;
        rows.map(|row| {
            let (user_id, account) = row?;
            let devices = device::of_user(view, &user_id)?.len();
            let rows::Account { created_at_ms, admin, deactivated, .. } = account;
            let marks = view.get(tables::ACCOUNT_MARKS, &user_id)?.unwrap_or_default();
            Ok(AccountInfo { user_id, created_at_ms, admin, deactivated, devices, marks })
        })
        .collect()
    }

    /// Gives an account another password. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`, 403 `M_USER_DEACTIVATED`, 400 `M_WEAK_PASSWORD`; storage errors.
    pub async fn set_password(&self, user_id: &UserId, password: String, log_out: LogOut) -> Result<(), Error> {
        active(self.0.core.snapshot()?.view(), user_id)?;
        let password_hash = self.0.passwords.hash(password).await?;
        let (user, cache) = (user_id.to_owned(), self.0.tokens.clone());
        let read = user.clone();
        let set = job(
            move |view| {
                let mut account = active(view, &read)?;
                account.password_hash = Some(password_hash.clone());
                let mut devices = device::of_user(view, &read)?;
                devices.retain(|id| matches!(&log_out, LogOut::AllBut(keep) if keep.as_ref() != Some(id)));
                Ok::<_, Error>((account, devices))
            },
            move |(account, devices): (rows::Account, Vec<_>), txn| {
                txn.put(tables::ACCOUNTS, &user, &account)?;
                device::remove_devices(txn, &cache, &user, &devices)
            },
        );
        self.0.core.write(set).await?;
        Ok(())
    }

    /// Deactivates an account for good: it leaves its rooms, has no login and no devices; the name stays taken. Dropping
    /// the future may leave it active and out of some rooms: it can be asked for again.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub async fn deactivate(&self, user_id: &UserId, erase: bool) -> Result<(), Error> {
        existing(self.0.core.snapshot()?.view(), user_id)?;
        self.leave_rooms(user_id).await?;
        let (user, cache) = (user_id.to_owned(), self.0.tokens.clone());
        let read = user.clone();
        let deactivate = job(
            move |view| {
                let account = existing(view, &read)?;
                Ok::<_, Error>((account, device::of_user(view, &read)?))
            },
            move |(account, devices): (rows::Account, Vec<_>), txn| {
                let row = rows::Account { password_hash: None, deactivated: true, ..account };
                txn.put(tables::ACCOUNTS, &user, &row)?;
                device::remove_devices(txn, &cache, &user, &devices)?;
                user_deactivated(txn, &user, erase)
            },
        );
        self.0.core.write(deactivate).await?;
        Ok(())
    }

    async fn leave_rooms(&self, user_id: &UserId) -> Result<(), Error> {
        for room_id in self.0.rooms.entered(user_id)? {
            let left = self.0.rooms.change_membership(user_id, &room_id, user_id, Action::Leave, Default::default());
            match left.await {
                // A room that does not let its member go must not keep the account alive.
                Ok(()) | Err(Error::Matrix { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The account of a user.
pub(super) fn existing(view: View<'_>, user_id: &UserId) -> Result<rows::Account, Error> {
    let account = view.get(tables::ACCOUNTS, user_id)?;
    account.ok_or_else(|| Error::not_found("There is no such account on this homeserver"))
}

/// The account of a user who is not deactivated.
pub(super) fn active(view: View<'_>, user_id: &UserId) -> Result<rows::Account, Error> {
    let account = existing(view, user_id)?;
    if account.deactivated {
        let message = "This account has been deactivated";
        return Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::UserDeactivated, message));
    }
    Ok(account)
}

fn free(view: View<'_>, user_id: &UserId) -> Result<(), Error> {
    if view.contains(tables::ACCOUNTS, user_id)? {
        return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::UserInUse, "This user name is taken"));
    }
    Ok(())
}
