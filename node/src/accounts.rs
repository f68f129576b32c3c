//! Accounts, devices, access tokens, logins, and the stages of user-interactive authentication.

mod account;
mod dehydrated;
mod device;
mod limits;
mod login;
mod moderation;
mod name;
pub mod oauth;
mod password;
mod refresh;
mod removal;
mod shared_secret;
mod threepids;
mod token;
mod uiaa;

use std::sync::Arc;

pub use self::{
    account::{AccountInfo, LogOut, NewAccount},
    dehydrated::Dehydrate,
    device::{NewDevice, Session},
    login::{Credential, LOGIN_TOKEN_LIFETIME},
    moderation::Mark,
    refresh::{ACCESS_TOKEN_LIFETIME, Refreshed},
    shared_secret::SharedSecretRegistration,
    threepids::{Address, Purpose, Sent, TokenRequest, Validated},
    token::Sender,
    uiaa::{Asked, ToConfirm},
};
use self::{
    limits::Limits, login::LoginTokens, password::Passwords, shared_secret::Nonces, threepids::Validations,
    token::TokenCache, uiaa::Sessions,
};
use crate::{Core, rooms::Rooms};

/// The accounts of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    core: Core,
    rooms: Rooms,
    tokens: Arc<TokenCache>,
    passwords: Passwords,
    limits: Limits,
    uiaa: Sessions,
    login_tokens: LoginTokens,
    validations: Validations,
    nonces: Nonces,
    polls: oauth::Polls,
}

impl Accounts {
    /// The service over `core`.
    pub fn new(core: Core, rooms: Rooms) -> Self {
        let limits = Limits::new(core.clock().clone(), core.config().rate_limits);
        Self(Arc::new(Inner {
            core,
            rooms,
            tokens: Arc::default(),
            passwords: Passwords::default(),
            limits,
            uiaa: Sessions::default(),
            login_tokens: LoginTokens::default(),
            validations: Validations::default(),
            nonces: Nonces::default(),
            polls: oauth::Polls::default(),
        }))
    }
}
