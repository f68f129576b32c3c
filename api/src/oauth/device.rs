//! `/oauth2/device`: the user types in the code that a client without a browser shows, and allows or refuses it.

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::NodeHandle;

use super::{
    browser::Visit,
    page::{self, Input, Page, credentials, told},
};

pub(super) async fn ask(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    match Visit::get(&node, &request) {
        Ok(visit) => show(&node, &visit, None, StatusCode::OK),
        Err(refusal) => refusal,
    }
}

pub(super) async fn decide(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mut visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let allow = match visit.form.get("do").map(String::as_str) {
        Some("allow") => true,
        Some("refuse") => false,
        Some("sign-out") => {
            return match visit.sign_out(&node).await {
                Ok(()) => show(&node, &visit, None, StatusCode::OK),
                Err(refusal) => page::of_refusal(&refusal),
            };
        }
        _ => return show(&node, &visit, None, StatusCode::OK),
    };
    let code = visit.form.get("user_code").cloned().unwrap_or_default();
    let decided = match visit.sign_in(&node).await {
        Ok(user) => node.accounts.decide_device(&code, &user, allow).await,
        Err(refusal) => Err(refusal),
    };
    match decided {
        Ok(()) => {
            let message = if allow { "Go back to your client: it is signed in." } else { "The client was refused." };
            Page::new("Done").say(message).answer(StatusCode::OK, Some(&visit))
        }
        Err(refusal) => show(&node, &visit, Some(&told(&refusal)), StatusCode::FORBIDDEN),
    }
}

/// The code is asked for first; once it is right, who is behind it is shown.
fn show(node: &NodeHandle, visit: &Visit, wrong: Option<&str>, status: StatusCode) -> Response {
    const PATH: &str = "/oauth2/device";
    let page = Page::new("Sign in another device").warn(wrong);
    let code = visit.form.get("user_code").map(|code| code.trim()).filter(|code| !code.is_empty());
    let input = |value| [Input { name: "user_code", label: "The code that it shows", kind: "text", value }];
    let Some(code) = code else {
        let none = Default::default();
        return page.form(PATH, visit, &none, &input(""), &[("look", "Go on")]).answer(status, Some(visit));
    };
    let asked = match node.accounts.device_request(code, visit.address) {
        Ok(asked) => asked,
        Err(refusal) => {
            let page = page.warn(Some(&told(&refusal)));
            let page = page.form(PATH, visit, &Default::default(), &input(code), &[("look", "Go on")]);
            return page.answer(StatusCode::BAD_REQUEST, Some(visit));
        }
    };
    let page = page
        .fact("This client wants to use your account", asked.client.name.as_deref().unwrap_or(&asked.client.uri))
        .fact("It will be your device", asked.device_id.as_str())
        .fact("The code that it shows", code)
        .say("Allow it only if that device is yours and shows this code.");
    let page = match &visit.user {
        Some(user) => page.fact("You are signed in as", user.as_str()).form(
            PATH,
            visit,
            &visit.form,
            &[],
            &[("allow", "Allow"), ("refuse", "Refuse"), ("sign-out", "I am somebody else")],
        ),
        None => page.form(PATH, visit, &visit.form, &credentials(""), &[("allow", "Sign in and allow")]),
    };
    page.answer(status, Some(visit))
}
