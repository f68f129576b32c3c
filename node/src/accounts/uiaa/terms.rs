//! The terms that strangers accept before they register (client-server API, "Terms of service at registration").

use ruma::api::client::uiaa::{AuthData, AuthType, LoginTermsParams, PolicyDefinition, PolicyTranslation, Terms};
use serde_json::value::{RawValue, to_raw_value};

use super::{Asked, Goal};
use crate::{Error, accounts::Accounts};

impl Accounts {
    /// What clients must know of the stages of a goal.
    pub(super) fn params(&self, goal: &Goal<'_>) -> Option<Box<RawValue>> {
        let terms = &self.0.core.config().registration_terms;
        if !matches!(goal, Goal::Registration) || terms.is_empty() {
            return RawValue::from_string("{}".to_owned()).ok();
        }
        let policies = terms.iter().map(|policy| {
            let text = PolicyTranslation::new(policy.name.clone(), policy.url.clone());
            let definition = PolicyDefinition::new(policy.version.clone(), [("en".to_owned(), text)].into());
            (policy.id(), definition)
        });
        let params = LoginTermsParams::new(policies.collect());
        to_raw_value(&std::collections::BTreeMap::from([(AuthType::Terms.as_str(), params)])).ok()
    }

    /// Whether a session waits for its user to accept the terms.
    pub fn waits_for_consent(&self, session: &str) -> bool {
        let now_ms = self.0.core.clock().now_ms();
        self.0.uiaa.lock().get(session).is_some_and(|session| session.has_terms && session.expires_ms > now_ms)
    }

    /// Notes that the user of a session accepts the terms.
    ///
    /// # Errors
    /// 404 for a session that does not wait for it.
    pub fn consent_in_browser(&self, session: &str) -> Result<(), Error> {
        let over = || Error::not_found("This registration is not known any more: start again in your client.");
        if !self.waits_for_consent(session) {
            return Err(over());
        }
        let mut sessions = self.0.uiaa.lock();
        let session = sessions.get_mut(session).ok_or_else(over)?;
        if !session.completed.contains(&AuthType::Terms) {
            session.completed.push(AuthType::Terms);
        }
        Ok(())
    }

    /// As [`Accounts::confirm_registration`], for somebody who fills in one form: he shows what lets him register, and says
    /// whether he accepts the terms.
    ///
    /// # Errors
    /// 403 when he does not, and when what he shows is wrong; 429; storage errors.
    pub async fn confirm_registration_in_browser(
        &self,
        shown: AuthData,
        accepts: bool,
        asked: Asked,
    ) -> Result<(), Error> {
        let again = Asked { method: asked.method.clone(), path: asked.path.clone(), body: asked.body.clone(), ..asked };
        let info = match self.confirm_registration(Some(&shown), asked).await {
            Err(Error::Uiaa(info)) => info,
            other => return other.map(drop),
        };
        if let Some(wrong) = &info.auth_error {
            return Err(Error::forbidden(wrong.message.clone()));
        }
        if !accepts {
            return Err(Error::forbidden("An account needs your consent to the terms"));
        }
        let mut terms = Terms::new();
        terms.session = info.session;
        self.confirm_registration(Some(&AuthData::Terms(terms)), again).await.map(drop)
    }
}
