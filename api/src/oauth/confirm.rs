//! `/oauth2/confirm`: the user confirms what a client wants to do (client-server API, "SSO during User-Interactive
//! Authentication"). He is told what it is, signs in again whether the browser knows him or not, and the last page tells the
//! client that it may go on.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode, header};
use millpond_node::{
    NodeHandle,
    accounts::{ToConfirm, oauth::Refusal},
};
use ruma::OwnedUserId;

use super::{
    browser::Visit,
    page::{self, Page, credentials, told},
};

/// The address of a page for a session.
pub(crate) fn page_url(base: &str, path: &str, session: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair(SESSION, session);
    format!("{}{path}?{}", base.trim_end_matches('/'), query.finish())
}

pub(super) async fn ask(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let visit = match Visit::get(&node, &request) {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    match asked(&node, &visit) {
        Some((_, wanted)) => show(&visit, &wanted, None, StatusCode::OK),
        None => none(),
    }
}

pub(super) async fn decide(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mut visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let Some((session, wanted)) = asked(&node, &visit) else { return none() };
    if visit.form.get("do").map(String::as_str) != Some("confirm") {
        return page::refusal("Not confirmed", "Nothing was done. You can close this page.");
    }
    let done = match signed_in_again(&mut visit, &node).await {
        Ok(user) => node.accounts.confirm_in_browser(&session, &user).map_err(Refusal::Node),
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(()) => finished("Confirmed", &visit),
        Err(refusal) => show(&visit, &wanted, Some(&told(&refusal)), StatusCode::FORBIDDEN),
    }
}

/// The page at the end of a stage.
pub(super) fn finished(title: &'static str, visit: &Visit) -> Response {
    let page = Page::new(title).say("Your client goes on now. You can close this page.");
    page.runs(SCRIPT_PATH).answer(StatusCode::OK, Some(visit))
}

/// What tells the client (client-server API, "Fallback"): an application that shows the page, or the page that opened it.
pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")], SCRIPT)
        .into_response()
}

/// The user by his password. That the browser is signed in is not enough: whoever has it in his hands may be another one.
async fn signed_in_again(visit: &mut Visit, node: &NodeHandle) -> Result<OwnedUserId, Refusal> {
    visit.form.entry("user".to_owned()).or_default();
    visit.sign_in(node).await
}

fn asked(node: &NodeHandle, visit: &Visit) -> Option<(String, ToConfirm)> {
    let session = visit.form.get(SESSION)?.clone();
    let wanted = node.accounts.waits_for(&session)?;
    Some((session, wanted))
}

fn none() -> Response {
    page::refusal("Not done", "There is nothing to confirm, or it took too long: start again in your client.")
}

fn show(visit: &Visit, wanted: &ToConfirm, wrong: Option<&str>, status: StatusCode) -> Response {
    let user = wanted.user_id.as_ref().map(ToString::to_string);
    let user = user.or_else(|| visit.form.get("user").cloned()).unwrap_or_default();
    Page::new("Confirm it")
        .warn(wrong)
        .fact("A client wants to", wanted.what)
        .say("If you have just asked for this yourself, confirm it with your password.")
        .say("If you did not expect it, refuse: somebody else may have got into your account.")
        .form(PATH, visit, &visit.form, &credentials(&user), &[("confirm", "Confirm"), ("refuse", "Refuse")])
        .answer(status, Some(visit))
}

/// Where the page is.
pub(crate) const PATH: &str = "/oauth2/confirm";
/// Where its script is.
pub(super) const SCRIPT_PATH: &str = "/oauth2/confirmed.js";
/// The parameter, as the specification names it.
pub(super) const SESSION: &str = "session";
/// As the specification has it.
const SCRIPT: &str = r#"if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
"#;
