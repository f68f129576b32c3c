//! Accounts, devices, access tokens, logins, and the stages of user-interactive authentication.

mod account;
mod device;
mod limits;
mod name;
mod password;
mod removal;
mod token;

use std::sync::Arc;

pub use self::{
    account::{AccountInfo, NewAccount},
    device::{NewDevice, Session},
    token::Sender,
};
use self::{limits::Limits, password::Passwords, token::TokenCache};
use crate::Core;

/// The accounts of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    core: Core,
    tokens: Arc<TokenCache>,
    passwords: Passwords,
    limits: Limits,
}

impl Accounts {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        let limits = Limits::new(core.clock().clone(), core.config().rate_limits);
        Self(Arc::new(Inner { core, tokens: Arc::default(), passwords: Passwords::default(), limits }))
    }
}
