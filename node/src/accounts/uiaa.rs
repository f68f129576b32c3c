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
        client::uiaa::{
            AuthData, AuthFlow, AuthType, EmailIdentity, Msisdn, ThirdpartyIdCredentials, UiaaInfo, UserIdentifier,
        },
        error::{ErrorKind, StandardErrorBody},
    },
    thirdparty::Medium,
};
use sha2::{Digest, Sha256};

use super::{Accounts, Address, Sender, Validated, token};
use crate::{Error, config::Registration};

mod sso;
mod terms;

pub use sso::ToConfirm;

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
    /// Of which user it is, who may have forgotten his password and shows an address of his account.
    Forgetful,
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
    /// The address that a stranger has shown to be his.
    address: Option<Validated>,
    /// What may be confirmed on our page, where single sign-on is a stage.
    to_confirm: Option<ToConfirm>,
    /// It is that of a stranger who must accept the terms.
    has_terms: bool,
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
        let proven = self.interact(&Goal::AnyUser, auth, asked).await?.user_id;
        proven.ok_or_else(|| Error::internal("a completed password stage names its user"))
    }

    /// As [`Accounts::identify`], or by an address of the account: for who has forgotten his password.
    ///
    /// # Errors
    /// As [`Accounts::confirm`].
    pub async fn identify_by_address(&self, auth: Option<&AuthData>, asked: Asked) -> Result<OwnedUserId, Error> {
        let proven = self.interact(&Goal::Forgetful, auth, asked).await?.user_id;
        proven.ok_or_else(|| Error::internal("a completed stage names its user"))
    }

    /// Confirms that a stranger may register; gives the address that he has shown to be his, if any.
    ///
    /// # Errors
    /// As [`Accounts::confirm`]; 403 `M_FORBIDDEN` when registration is closed.
    pub async fn confirm_registration(
        &self,
        auth: Option<&AuthData>,
        asked: Asked,
    ) -> Result<Option<Validated>, Error> {
        Ok(self.interact(&Goal::Registration, auth, asked).await?.address)
    }

    async fn interact(&self, goal: &Goal<'_>, auth: Option<&AuthData>, asked: Asked) -> Result<Session, Error> {
        let flows = self.flows(goal)?;
        let bound_to = digest(goal, &asked);
        let (id, mut session) = match auth.and_then(AuthData::session) {
            Some(id) => (id.to_owned(), self.session(id, &bound_to)?),
            None => {
                let has_terms = flows.iter().any(|flow| flow.contains(&AuthType::Terms));
                let fresh = self.fresh(bound_to);
                (token::random_token(), Session { to_confirm: self.to_confirm(goal, &asked), has_terms, ..fresh })
            }
        };
        let refusal = match auth {
            Some(auth) => self.stage(goal, &flows, auth, &mut session, asked.address).await?,
            None => None,
        };
        if flows.iter().any(|flow| flow.iter().all(|stage| session.completed.contains(stage))) {
            self.0.uiaa.lock().remove(&id);
            return Ok(session);
        }
        let mut info = UiaaInfo::new(flows.into_iter().map(AuthFlow::new).collect());
        info.completed.clone_from(&session.completed);
        info.params = self.params(goal);
        info.session = Some(id.clone());
        info.auth_error = refusal.map(Box::new);
        self.0.uiaa.keep(id, session, self.0.core.clock().now_ms());
        Err(Error::Uiaa(Box::new(info)))
    }

    /// The flows of stages for a goal, of which one is to be completed.
    fn flows(&self, goal: &Goal<'_>) -> Result<Vec<Vec<AuthType>>, Error> {
        let config = self.0.core.config();
        let first = match (goal, config.registration) {
            (Goal::User(_) | Goal::AnyUser | Goal::Forgetful, _) => AuthType::Password,
            (Goal::Registration, Registration::Token) => AuthType::RegistrationToken,
            (Goal::Registration, Registration::Open) => AuthType::Dummy,
            (Goal::Registration, Registration::Closed) => {
                return Err(Error::forbidden(
                    "Registration is closed on this homeserver; its owner makes accounts with `millpond account create`",
                ));
            }
        };
        let addresses =
            [AuthType::EmailIdentity, AuthType::Msisdn].into_iter().filter(|_| config.identity_server.is_some());
        let others: Vec<_> = match goal {
            Goal::User(_) | Goal::AnyUser if config.single_sign_on => vec![vec![AuthType::Sso]],
            Goal::User(_) | Goal::AnyUser => Vec::new(),
            Goal::Forgetful => addresses.map(|stage| vec![stage]).collect(),
            // An address that is shown before the rest belongs to the account then.
            Goal::Registration => addresses.map(|stage| vec![stage, first.clone()]).collect(),
        };
        let mut flows: Vec<_> = [vec![first]].into_iter().chain(others).collect();
        if matches!(goal, Goal::Registration) && !config.registration_terms.is_empty() {
            flows.iter_mut().for_each(|flow| flow.push(AuthType::Terms));
        }
        Ok(flows)
    }

    fn fresh(&self, bound_to: [u8; 32]) -> Session {
        let expires_ms = self.0.core.clock().now_ms() + SESSION_MS;
        Session {
            bound_to,
            completed: Vec::new(),
            user_id: None,
            address: None,
            to_confirm: None,
            has_terms: false,
            expires_ms,
        }
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
        flows: &[Vec<AuthType>],
        auth: &AuthData,
        session: &mut Session,
        address: Option<IpAddr>,
    ) -> Result<Option<StandardErrorBody>, Error> {
        // Without a type the client asks whether stages that it did elsewhere are done.
        let Some(kind) = auth.auth_type() else { return Ok(None) };
        if !flows.iter().any(|flow| flow.contains(&kind)) {
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
            AuthData::Dummy(_) | AuthData::Terms(_) => None,
            AuthData::EmailIdentity(EmailIdentity { thirdparty_id_creds, .. })
            | AuthData::Msisdn(Msisdn { thirdparty_id_creds, .. }) => {
                if let Err(refusal) = self.address_stage(goal, &kind, thirdparty_id_creds, session, address).await {
                    return as_stage(refusal);
                }
                None
            }
            _ if session.completed.contains(&kind) => return Ok(None),
            _ if kind == AuthType::Sso => Some("This stage is done in a browser: open its fallback page first"),
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
        let Some(user_id) = self.identified(identifier)? else { return Ok(None) };
        if let Goal::User(expected) = goal
            && user_id != **expected
        {
            return Ok(None);
        }
        let right = self.check_password(&user_id, password.to_owned(), address).await?;
        Ok(right.then_some(user_id))
    }

    /// The user whom an identifier means, if it is one of ours.
    ///
    /// # Errors
    /// Storage errors.
    pub fn identified(&self, identifier: &UserIdentifier) -> Result<Option<OwnedUserId>, Error> {
        let (medium, text) = match identifier {
            UserIdentifier::Matrix(named) => {
                return Ok(super::name::meant_user_id(&named.user, self.0.core.identity().server_name()).ok());
            }
            UserIdentifier::Email(email) => (Medium::Email, email.address.as_str()),
            UserIdentifier::Msisdn(phone) => (Medium::Msisdn, phone.number.as_str()),
            // Which code a country has is not known here: the number must have it.
            UserIdentifier::PhoneNumber(phone) if phone.phone.starts_with('+') => {
                (Medium::Msisdn, phone.phone.as_str())
            }
            _ => return Ok(None),
        };
        Address::parse(&medium, text).map_or(Ok(None), |address| self.threepid_owner(&address))
    }

    /// Checks that an address was validated, and that it is that of an account or, for strangers, of none.
    async fn address_stage(
        &self,
        goal: &Goal<'_>,
        kind: &AuthType,
        shown: &ThirdpartyIdCredentials,
        session: &mut Session,
        from: Option<IpAddr>,
    ) -> Result<(), Error> {
        let failed = |message: &str| Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::ThreepidAuthFailed, message);
        let attempt = self.0.limits.attempt(None, from)?;
        let validated = self.validated(&shown.sid, &shown.client_secret).await?;
        if validated.address.is_email() != (*kind == AuthType::EmailIdentity) {
            return Err(failed("the session is for an address of another kind"));
        }
        match (goal, self.threepid_owner(&validated.address)?) {
            (Goal::Forgetful, Some(owner)) => session.user_id = Some(owner),
            (Goal::Forgetful, None) => return Err(failed("no account here has this address")),
            (Goal::Registration, None) => session.address = Some(validated),
            _ => return Err(failed("the address belongs to an account already")),
        }
        attempt.succeeded();
        Ok(())
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
    fn keep(&self, id: String, mut session: Session, now_ms: u64) {
        let mut sessions = self.lock();
        // What was done on our pages while the request was looked at stays so.
        if let Some(known) = sessions.get(&id) {
            for stage in [AuthType::Sso, AuthType::Terms] {
                if known.completed.contains(&stage) && !session.completed.contains(&stage) {
                    session.completed.push(stage);
                }
            }
            session.user_id = session.user_id.or_else(|| known.user_id.clone());
        }
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

/// A refusal of a stage, after which the client may try again; other errors end the request.
fn as_stage(error: Error) -> Result<Option<StandardErrorBody>, Error> {
    match &error {
        Error::Matrix { .. } => match error.kind() {
            Some(kind @ ErrorKind::ThreepidAuthFailed) => {
                Ok(Some(StandardErrorBody::new(kind.clone(), error.to_string())))
            }
            _ => Err(error),
        },
        _ => Err(error),
    }
}

/// What a session is bound to. The body counts without `auth`, and however it is spaced and ordered.
fn digest(goal: &Goal<'_>, asked: &Asked) -> [u8; 32] {
    let user = match goal {
        Goal::User(user_id) => user_id.as_str(),
        Goal::AnyUser | Goal::Forgetful | Goal::Registration => "",
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
