//! `/oauth2/terms`: a stranger accepts the terms, for clients that cannot show them (client-server API, "Terms of service at
//! registration").

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::NodeHandle;

use super::{
    browser::Visit,
    confirm::{SESSION, finished},
    page::{self, Page},
};

pub(super) async fn ask(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let visit = match Visit::get(&node, &request) {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    if !node.accounts.waits_for_consent(session(&visit)) {
        return none();
    }
    let page = Page::new("Terms").say("An account here needs your consent to these terms:");
    let terms = &node.core.config().registration_terms;
    let page = terms.iter().fold(page, |page, policy| page.link(&policy.name, &policy.url));
    let buttons = [("accept", "I accept these terms"), ("refuse", "Refuse")];
    page.form(PATH, &visit, &visit.form, &[], &buttons).answer(StatusCode::OK, Some(&visit))
}

pub(super) async fn decide(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    if visit.form.get("do").map(String::as_str) != Some("accept") {
        return page::refusal("Not accepted", "No account was made. You can close this page.");
    }
    match node.accounts.consent_in_browser(session(&visit)) {
        Ok(()) => finished("Accepted", &visit),
        Err(_) => none(),
    }
}

fn session(visit: &Visit) -> &str {
    visit.form.get(SESSION).map(String::as_str).unwrap_or_default()
}

fn none() -> Response {
    page::refusal(
        "Not done",
        "There is no registration that waits for this, or it took too long: start again in your client.",
    )
}

/// Where the page is.
pub(crate) const PATH: &str = "/oauth2/terms";
