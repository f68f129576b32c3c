//! Push rules: which events a user wants to be told about (client-server API, "Push rules"). Kept as the account data
//! `m.push_rules`; a user who never changed one has the server's defaults, which are merged in on each read so that rules
//! of a newer specification appear by themselves.

use http::StatusCode;
use millpond_store::{View, job};
use ruma::{
    UserId,
    api::{client::push::PushRule, error::ErrorKind},
    events::push_rules::PushRulesEventContent,
    push::{Action, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind, Ruleset},
};

use crate::{
    Core, Error,
    account_data::{self, PUSH_RULES},
};

/// The push rules of local users.
#[derive(Clone)]
pub struct PushRules {
    core: Core,
}

impl PushRules {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// All rules of a user.
    ///
    /// # Errors
    /// Storage errors.
    pub fn all(&self, user: &UserId) -> Result<Ruleset, Error> {
        ruleset(self.core.snapshot()?.view(), user)
    }

    /// One rule.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub fn rule(&self, user: &UserId, kind: RuleKind, rule_id: &str) -> Result<PushRule, Error> {
        let rules = self.all(user)?;
        rules.get(kind.clone(), rule_id).map(Into::into).ok_or_else(|| no_such(&kind, rule_id))
    }

    /// Adds or replaces a rule, right after or before another one if asked. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 for an id that is not allowed or an action list without sense; 404 if the rule to stand beside is not there.
    pub async fn insert(
        &self,
        user: &UserId,
        rule: NewPushRule,
        after: Option<String>,
        before: Option<String>,
    ) -> Result<(), Error> {
        self.change(user, move |rules| {
            rules.insert(rule.clone(), after.as_deref(), before.as_deref()).map_err(refused_insert)
        })
        .await
    }

    /// Removes a rule of the user's own. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; 400 `M_INVALID_PARAM` for one of the server's.
    pub async fn remove(&self, user: &UserId, kind: RuleKind, rule_id: String) -> Result<(), Error> {
        self.change(user, move |rules| {
            rules.remove(kind.clone(), &rule_id).map_err(|e| match e {
                RemovePushRuleError::ServerDefault => {
                    Error::invalid_param(format!("{rule_id} is a default rule: disable it instead of deleting it"))
                }
                _ => no_such(&kind, &rule_id),
            })
        })
        .await
    }

    /// Turns a rule on or off. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub async fn set_enabled(&self, user: &UserId, kind: RuleKind, rule_id: String, on: bool) -> Result<(), Error> {
        self.change(user, move |rules| {
            rules.set_enabled(kind.clone(), &rule_id, on).map_err(|_| no_such(&kind, &rule_id))
        })
        .await
    }

    /// Replaces the actions of a rule. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub async fn set_actions(
        &self,
        user: &UserId,
        kind: RuleKind,
        rule_id: String,
        actions: Vec<Action>,
    ) -> Result<(), Error> {
        self.change(user, move |rules| {
            rules.set_actions(kind.clone(), &rule_id, actions.clone()).map_err(|_| no_such(&kind, &rule_id))
        })
        .await
    }

    async fn change(
        &self,
        user: &UserId,
        change: impl Fn(&mut Ruleset) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (user, reader) = (user.to_owned(), user.to_owned());
        let write = job(
            move |view| {
                let mut rules = ruleset(view, &reader)?;
                change(&mut rules)?;
                bounded(content(&rules))
            },
            move |content: String, txn| account_data::put(txn, &user, None, PUSH_RULES, &content).map(drop),
        );
        self.core.write(write).await?;
        Ok(())
    }
}

/// The rules of a user, the server's defaults included.
///
/// # Errors
/// Storage errors.
pub fn ruleset(view: View<'_>, user: &UserId) -> Result<Ruleset, Error> {
    let defaults = Ruleset::server_default(user);
    let Some(row) = account_data::row(view, user, None, PUSH_RULES)? else { return Ok(defaults) };
    let content: PushRulesEventContent = serde_json::from_str(&row.content).map_err(|e| {
        let why = format!("{PUSH_RULES}: {e}");
        Error::Store(millpond_store::Error::Corrupt { table: "ACCOUNT_DATA", why })
    })?;
    let mut rules = content.global;
    rules.update_with_server_default(defaults);
    Ok(rules)
}

/// The content of `m.push_rules` for a set of rules.
pub fn content(rules: &Ruleset) -> String {
    serde_json::to_string(&PushRulesEventContent::new(rules.clone())).expect("rules have string keys only")
}

/// Rules are evaluated for every event, so they cannot grow without bound.
fn bounded(content: String) -> Result<String, Error> {
    if content.len() <= RULES_MAX_BYTES {
        return Ok(content);
    }
    Err(Error::too_large(format!("the push rules of a user may have {RULES_MAX_BYTES} bytes: delete some first")))
}

fn no_such(kind: &RuleKind, rule_id: &str) -> Error {
    Error::not_found(format!("there is no {kind} push rule {rule_id:?}"))
}

fn refused_insert(error: InsertPushRuleError) -> Error {
    match error {
        InsertPushRuleError::UnknownRuleId => {
            Error::matrix(StatusCode::NOT_FOUND, ErrorKind::NotFound, "the rule named by before or after is not there")
        }
        InsertPushRuleError::BeforeHigherThanAfter => {
            Error::unknown("the rule named by before stands above the one named by after")
        }
        other => Error::invalid_param(other.to_string()),
    }
}

/// Bytes of a user's rules: about a thousand rules.
const RULES_MAX_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests;
