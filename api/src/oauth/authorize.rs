//! `/oauth2/authorize`: the user signs in, sees who asks for what, and allows or refuses it.

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::{
    NodeHandle,
    accounts::oauth::{Authorization, Denial},
};

use super::{
    browser::Visit,
    decision::{Decision, sign_in_form},
    page::{self, Page, told},
};

pub(super) async fn ask(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let visit = match Visit::get(&node, &request) {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    match node.accounts.authorization(&visit.form) {
        Ok(asked) => show(&node, &visit, &asked, None, StatusCode::OK),
        Err(denial) => denied(&visit, denial),
    }
}

pub(super) async fn decide(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mut visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let asked = match node.accounts.authorization(&visit.form) {
        Ok(asked) => asked,
        Err(denial) => return denied(&visit, denial),
    };
    match visit.decide(&node).await {
        Decision::Allow(user) => match node.accounts.allow(&user, &asked).await {
            Ok(to) => page::redirect(&to, &visit),
            Err(refusal) => show(&node, &visit, &asked, Some(&told(&refusal)), StatusCode::FORBIDDEN),
        },
        Decision::Refuse => page::redirect(&node.accounts.refuse(&asked), &visit),
        Decision::Show(wrong, status) => show(&node, &visit, &asked, wrong.as_deref(), status),
        Decision::Page(page) => page,
    }
}

fn show(node: &NodeHandle, visit: &Visit, asked: &Authorization, wrong: Option<&str>, status: StatusCode) -> Response {
    let creates = visit.creates(node);
    let name = asked.client.name.as_deref().unwrap_or(&asked.client.uri);
    let page = Page::new(if creates { "Create an account" } else { "Sign in" })
        .warn(wrong)
        .fact("This client wants to use your account", name)
        .fact("Its home page", &asked.client.uri)
        .fact("It will be your device", asked.device_id.as_str())
        .say("Allow it only if you have just started it yourself.");
    sign_in_form(page, "/oauth2/authorize", visit, node).leads_to(&asked.redirect_uri).answer(status, Some(visit))
}

fn denied(visit: &Visit, denial: Denial) -> Response {
    match denial {
        Denial::Page(refusal) => page::of_refusal(&refusal),
        Denial::Redirect(to) => page::redirect(&to, visit),
    }
}
