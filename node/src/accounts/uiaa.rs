//! User-interactive authentication (client-server API, "User-Interactive Authentication API"): a request is refused with
//! flows of stages until all stages of one flow are completed, in any order. A session is bound to the method, the path,
//! the sender and the body of the request that began it, so that what was authenticated is what is done.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use ruma::{
    OwnedUserId, UserId,
    api::{
        client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo, UserIdentifier},
        error::{ErrorKind, StandardErrorBody},
    },
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Accounts, Sender, token};
use crate::{Error, config::Registration};

/// The request that asks for authentication.
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its body.
    pub body: Bytes,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// What the stages must prove.
enum Goal<'a> {
    /// That the request is of this user.
    User(&'a UserId),
    /// Of which user it is.
    AnyUser,
    /// That the stranger may register.
    Registration,
}

/// How long a session waits for its next stage.
const SESSION_MS: u64 = 15 * 60 * 1000;
/// Sessions at once; each is some hundred bytes.
const CAPACITY: usize = 4096;

/// The sessions under way.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Clone)]
struct Session {
    bound_to: [u8; 32],
    completed: Vec<AuthType>,
    user_id: Option<OwnedUserId>,
    expires_ms: u64,
}

impl Accounts {
    /// Confirms that a request is of its sender, by the password.
    ///
    /// # Errors
    /// [`Error::Uiaa`] until it is; 403 for a session of another request, 429 `M_LIMIT_EXCEEDED`; storage errors.
    /// Dropping the future leaves the session as it was.
    pub async fn confirm(&self, sender: &Sender, auth: Option<&AuthData>, asked: Asked) -> Result<(), Error> {
        self.interact(&Goal::User(&sender.user_id), auth, asked).await.map(drop)
    }

    /// Finds out whose a request without a token is, by the password.
    ///
    /// # Errors
    /// As [`Accounts::confirm`].
    pub async fn identify(&self, auth: Option<&AuthData>, asked: Asked) -> Result<OwnedUserId, Error> {
        let proven = self.interact(&Goal::AnyUser, auth, asked).await?;
        proven.ok_or_else(|| Error::internal("a completed password stage names its user"))
    }

    /// Confirms that a stranger may register.
    ///
    /// # Errors
    /// As [`Accounts::confirm`]; 403 `M_FORBIDDEN` when registration is closed.
    pub async fn confirm_registration(&self, auth: Option<&AuthData>, asked: Asked) -> Result<(), Error> {
        self.interact(&Goal::Registration, auth, asked).await.map(drop)
    }

    async fn interact(
        &self,
        goal: &Goal<'_>,
        auth: Option<&AuthData>,
        asked: Asked,
    ) -> Result<Option<OwnedUserId>, Error> {
        let flow = self.flow(goal)?;
        let bound_to = digest(goal, &asked);
        let (id, mut session) = match auth.and_then(AuthData::session) {
            Some(id) => (id.to_owned(), self.session(id, &bound_to)?),
            None => (token::random_token(), self.fresh(bound_to)),
        };
        let refusal = match auth {
            Some(auth) => self.stage(goal, &flow, auth, &mut session, asked.address).await?,
            None => None,
        };
        if flow.iter().all(|stage| session.completed.contains(stage)) {
            self.0.uiaa.lock().remove(&id);
            return Ok(session.user_id);
        }
        let mut info = UiaaInfo::new(vec![AuthFlow::new(flow)]);
        info.completed.clone_from(&session.completed);
        info.params = RawValue::from_string("{}".to_owned()).ok();
        info.session = Some(id.clone());
        info.auth_error = refusal.map(Box::new);
        self.0.uiaa.keep(id, session, self.0.core.clock().now_ms());
        Err(Error::Uiaa(Box::new(info)))
    }

    /// The stages of our only flow for a goal.
    fn flow(&self, goal: &Goal<'_>) -> Result<Vec<AuthType>, Error> {
        match (goal, self.0.core.config().registration) {
            (Goal::User(_) | Goal::AnyUser, _) => Ok(vec![AuthType::Password]),
            (Goal::Registration, Registration::Token) => Ok(vec![AuthType::RegistrationToken]),
            (Goal::Registration, Registration::Open) => Ok(vec![AuthType::Dummy]),
            (Goal::Registration, Registration::Closed) => Err(Error::forbidden(
                "Registration is closed on this homeserver; its owner makes accounts with `millpond account create`",
            )),
        }
    }

    fn fresh(&self, bound_to: [u8; 32]) -> Session {
        let expires_ms = self.0.core.clock().now_ms() + SESSION_MS;
        Session { bound_to, completed: Vec::new(), user_id: None, expires_ms }
    }

    fn session(&self, id: &str, bound_to: &[u8; 32]) -> Result<Session, Error> {
        let now_ms = self.0.core.clock().now_ms();
        let known = self.0.uiaa.lock().get(id).filter(|session| session.expires_ms > now_ms).cloned();
        let session = known.ok_or_else(|| {
            Error::unknown("This authentication session is not known or has expired: start again without `auth`")
        })?;
        if session.bound_to != *bound_to {
            return Err(Error::forbidden(
                "This authentication session belongs to another request: method, path and body must stay the same",
            ));
        }
        Ok(session)
    }

    /// Tries a stage; gives the reason when the credential is wrong.
    async fn stage(
        &self,
        goal: &Goal<'_>,
        flow: &[AuthType],
        auth: &AuthData,
        session: &mut Session,
        address: Option<IpAddr>,
    ) -> Result<Option<StandardErrorBody>, Error> {
        // Without a type the client asks whether stages that it did elsewhere are done: we have none of that kind.
        let Some(kind) = auth.auth_type() else { return Ok(None) };
        if !flow.contains(&kind) {
            let message = format!("{} is not a stage of this request", kind.as_str());
            return Ok(Some(StandardErrorBody::new(ErrorKind::Unrecognized, message)));
        }
        let wrong = match auth {
            AuthData::Password(stage) => {
                match self.password_stage(goal, &stage.identifier, &stage.password, address).await? {
                    Some(user_id) => {
                        session.user_id = Some(user_id);
                        None
                    }
                    None => Some("The user name or the password is wrong"),
                }
            }
            AuthData::RegistrationToken(stage) => {
                let attempt = self.0.limits.attempt(None, address)?;
                let right = self.is_registration_token(&stage.token);
                if right {
                    attempt.succeeded();
                }
                (!right).then_some("This registration token is not valid")
            }
            AuthData::Dummy(_) => None,
            _ => Some("This stage is not one that the homeserver can check"),
        };
        match wrong {
            Some(message) => Ok(Some(StandardErrorBody::new(ErrorKind::Forbidden, message.to_owned()))),
            None => {
                session.completed.push(kind);
                Ok(None)
            }
        }
    }

    async fn password_stage(
        &self,
        goal: &Goal<'_>,
        identifier: &UserIdentifier,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<Option<OwnedUserId>, Error> {
        let UserIdentifier::Matrix(named) = identifier else { return Ok(None) };
        let Ok(user_id) = super::name::meant_user_id(&named.user, self.0.core.identity().server_name()) else {
            return Ok(None);
        };
        if let Goal::User(expected) = goal
            && user_id != **expected
        {
            return Ok(None);
        }
        let right = self.check_password(&user_id, password.to_owned(), address).await?;
        Ok(right.then_some(user_id))
    }

    /// Whether this is the token that lets strangers register.
    pub(super) fn is_registration_token(&self, shown: &str) -> bool {
        let config = self.0.core.config();
        // Hashes are compared, so that the time taken says nothing about the token.
        config.registration == Registration::Token
            && !config.registration_token.is_empty()
            && token::hash(shown) == token::hash(&config.registration_token)
    }
}

impl Sessions {
    fn keep(&self, id: String, session: Session, now_ms: u64) {
        let mut sessions = self.lock();
        if sessions.len() >= CAPACITY {
            sessions.retain(|_, session| session.expires_ms > now_ms);
        }
        if sessions.len() >= CAPACITY {
            sessions.clear();
        }
        sessions.insert(id, session);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session is bound to. The body counts without `auth`, and however it is spaced and ordered.
fn digest(goal: &Goal<'_>, asked: &Asked) -> [u8; 32] {
    let user = match goal {
        Goal::User(user_id) => user_id.as_str(),
        Goal::AnyUser | Goal::Registration => "",
    };
    let body = match serde_json::from_slice::<std::collections::BTreeMap<String, serde_json::Value>>(&asked.body) {
        Ok(mut fields) => {
            fields.remove("auth");
            serde_json::to_vec(&fields).unwrap_or_default()
        }
        Err(_) => asked.body.to_vec(),
    };
    let mut digest = Sha256::new();
    for part in [asked.method.as_str().as_bytes(), asked.path.as_bytes(), user.as_bytes(), &body] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Wrong credentials of a login: 403, and not a word about which part was wrong.
pub(super) fn wrong_password() -> Error {
    Error::matrix(StatusCode::FORBIDDEN, ErrorKind::Forbidden, "The user name or the password is wrong")
}
