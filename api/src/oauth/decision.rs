//! What somebody does on a page that asks whether a client may use his account, for both ways that lead there.

use axum::response::Response;
use http::StatusCode;
use millpond_node::{NodeHandle, config::Registration};
use ruma::OwnedUserId;

use super::{
    browser::Visit,
    page::{self, Page, credentials, new_credentials, told},
};

/// What comes of a form.
pub(super) enum Decision {
    /// This user allows it.
    Allow(OwnedUserId),
    /// It is refused.
    Refuse,
    /// The page is shown again, with what was wrong.
    Show(Option<String>, StatusCode),
    /// Another page is shown.
    Page(Response),
}

impl Visit {
    /// Does what the form says: makes an account, signs in or out.
    pub(super) async fn decide(&mut self, node: &NodeHandle) -> Decision {
        let again = |refusal| Decision::Show(Some(told(&refusal)), StatusCode::FORBIDDEN);
        match self.form.get("do").map(String::as_str) {
            Some("allow") => {}
            Some("create") => {
                if let Err(refusal) = self.register(node).await {
                    return again(refusal);
                }
            }
            Some("sign-out") => {
                return match self.sign_out(node).await {
                    Ok(()) => Decision::Show(None, StatusCode::OK),
                    Err(refusal) => Decision::Page(page::of_refusal(&refusal)),
                };
            }
            _ => return Decision::Refuse,
        }
        self.sign_in(node).await.map_or_else(again, Decision::Allow)
    }

    /// Whether the client's user has no account yet ("Initiating User Registration via OpenID Connect") and may make one.
    pub(super) fn creates(&self, node: &NodeHandle) -> bool {
        self.form.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "create"))
            && self.user.is_none()
            && node.core.config().registration != Registration::Closed
    }
}

/// The form that asks who the user is, if that is not known, and whether he allows it.
pub(super) fn sign_in_form(page: Page, path: &str, visit: &Visit, node: &NodeHandle) -> Page {
    if let Some(user) = &visit.user {
        let buttons = [("allow", "Allow"), ("refuse", "Refuse"), ("sign-out", "I am somebody else")];
        return page.fact("You are signed in as", user.as_str()).form(path, visit, &visit.form, &[], &buttons);
    }
    let user = visit.form.get("user").cloned().unwrap_or_default();
    if visit.creates(node) {
        let token = node.core.config().registration == Registration::Token;
        let buttons = [("create", "Create the account and allow"), ("refuse", "Refuse")];
        let terms = &node.core.config().registration_terms;
        let page = terms.iter().fold(page, |page, policy| page.link(&policy.name, &policy.url));
        return page.form(path, visit, &visit.form, &new_credentials(&user, token, !terms.is_empty()), &buttons);
    }
    let buttons = [("allow", "Sign in and allow"), ("refuse", "Refuse")];
    page.form(path, visit, &visit.form, &credentials(&user), &buttons)
}
