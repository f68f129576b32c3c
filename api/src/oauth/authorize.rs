//! `/oauth2/authorize`: the user signs in, sees who asks for what, and allows or refuses it.

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::{
    NodeHandle,
    accounts::oauth::{Authorization, Denial},
    config::Registration,
};

use super::{
    browser::Visit,
    page::{self, Page, credentials, new_credentials, told},
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
    match visit.form.get("do").map(String::as_str) {
        Some("allow") => {}
        Some("create") => {
            if let Err(refusal) = visit.register(&node).await {
                return show(&node, &visit, &asked, Some(&told(&refusal)), StatusCode::FORBIDDEN);
            }
        }
        Some("sign-out") => {
            return match visit.sign_out(&node).await {
                Ok(()) => show(&node, &visit, &asked, None, StatusCode::OK),
                Err(refusal) => page::of_refusal(&refusal),
            };
        }
        _ => return page::redirect(&node.accounts.refuse(&asked), &visit),
    }
    let allowed = match visit.sign_in(&node).await {
        Ok(user) => node.accounts.allow(&user, &asked).await,
        Err(refusal) => Err(refusal),
    };
    match allowed {
        Ok(to) => page::redirect(&to, &visit),
        Err(refusal) => show(&node, &visit, &asked, Some(&told(&refusal)), StatusCode::FORBIDDEN),
    }
}

fn show(node: &NodeHandle, visit: &Visit, asked: &Authorization, wrong: Option<&str>, status: StatusCode) -> Response {
    // "Initiating User Registration via OpenID Connect": the client's user has no account yet.
    let registration = node.core.config().registration;
    let creates = visit.form.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|word| word == "create"))
        && visit.user.is_none()
        && registration != Registration::Closed;
    let name = asked.client.name.as_deref().unwrap_or(&asked.client.uri);
    let page = Page::new(if creates { "Create an account" } else { "Sign in" })
        .warn(wrong)
        .fact("This client wants to use your account", name)
        .fact("Its home page", &asked.client.uri)
        .fact("It will be your device", asked.device_id.as_str())
        .say("Allow it only if you have just started it yourself.");
    let page = match &visit.user {
        Some(user) => page.fact("You are signed in as", user.as_str()).form(
            "/oauth2/authorize",
            visit,
            &visit.form,
            &[],
            &[("allow", "Allow"), ("refuse", "Refuse"), ("sign-out", "I am somebody else")],
        ),
        None if creates => {
            let user = visit.form.get("user").cloned().unwrap_or_default();
            let token = registration == Registration::Token;
            let buttons = [("create", "Create the account and allow"), ("refuse", "Refuse")];
            page.form("/oauth2/authorize", visit, &visit.form, &new_credentials(&user, token), &buttons)
        }
        None => {
            let user = visit.form.get("user").cloned().unwrap_or_default();
            let buttons = [("allow", "Sign in and allow"), ("refuse", "Refuse")];
            page.form("/oauth2/authorize", visit, &visit.form, &credentials(&user), &buttons)
        }
    };
    page.leads_to(&asked.redirect_uri).answer(status, Some(visit))
}

fn denied(visit: &Visit, denial: Denial) -> Response {
    match denial {
        Denial::Page(refusal) => page::of_refusal(&refusal),
        Denial::Redirect(to) => page::redirect(&to, visit),
    }
}
