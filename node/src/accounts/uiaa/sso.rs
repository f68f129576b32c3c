//! Single sign-on as a stage (client-server API, "SSO during User-Interactive Authentication"): the user confirms on our page what
//! a client wants to do, with his password, and the client asks again. Where the sign-on is our own login page every account has a
//! password; what is gained is that the client need not see it.

use ruma::{OwnedUserId, UserId, api::client::uiaa::AuthType};

use super::{Asked, Goal};
use crate::{Error, accounts::Accounts};

/// What a client wants to do, and must be confirmed by its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToConfirm {
    /// Whose client it is; none before that is known.
    pub user_id: Option<OwnedUserId>,
    /// What it wants: what follows "a client wants to".
    pub what: &'static str,
}

impl Accounts {
    pub(super) fn to_confirm(&self, goal: &Goal<'_>, asked: &Asked) -> Option<ToConfirm> {
        let user_id = match goal {
            Goal::User(user_id) => Some((*user_id).to_owned()),
            Goal::AnyUser => None,
            Goal::Forgetful | Goal::Registration => return None,
        };
        let found = WHAT.iter().find(|(part, _)| asked.path.contains(part));
        let what = found.map_or("do something that needs your consent", |(_, what)| what);
        self.0.core.config().single_sign_on.then_some(ToConfirm { user_id, what })
    }

    /// What a session waits for that may be confirmed on our page; none for sessions that are not known or over.
    pub fn waits_for(&self, session: &str) -> Option<ToConfirm> {
        let now_ms = self.0.core.clock().now_ms();
        self.0.uiaa.lock().get(session).filter(|session| session.expires_ms > now_ms)?.to_confirm.clone()
    }

    /// Notes that a user has confirmed what a session waits for. He must have signed in for it.
    ///
    /// # Errors
    /// 404 for a session that is not known or over, 403 for one of another user.
    pub fn confirm_in_browser(&self, session: &str, user_id: &UserId) -> Result<(), Error> {
        let over = || Error::not_found("What was to be confirmed is not known any more: start again in your client.");
        let wanted = self.waits_for(session).ok_or_else(over)?;
        if wanted.user_id.as_deref().is_some_and(|wanted| wanted != user_id) {
            return Err(Error::forbidden("The client is of another account than the one that you have signed in to."));
        }
        let mut sessions = self.0.uiaa.lock();
        let session = sessions.get_mut(session).ok_or_else(over)?;
        if !session.completed.contains(&AuthType::Sso) {
            session.completed.push(AuthType::Sso);
            session.user_id = Some(user_id.to_owned());
        }
        Ok(())
    }
}

/// Parts of paths, and what is done there.
const WHAT: [(&str, &str); 8] = [
    ("/account/deactivate", "deactivate your account, for ever"),
    ("/account/password", "change your password"),
    ("/account/3pid", "change the addresses of your account"),
    ("/delete_devices", "sign devices of yours out"),
    ("/devices/", "sign a device of yours out"),
    ("/device_signing/upload", "set the keys that others know you by"),
    ("/login/get_token", "let another device log in to your account"),
    ("/dehydrated_device", "keep a device that sleeps on the server"),
];
