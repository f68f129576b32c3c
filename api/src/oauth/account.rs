//! `/account`: what a user does about his account in the browser (client-server spec, "OAuth 2.0 account management").

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::{
    Error, NodeHandle,
    accounts::oauth::{Form, Refusal},
};
use ruma::{OwnedDeviceId, UserId};

use super::{
    browser::Visit,
    page::{self, Page, credentials, told},
};

pub(super) async fn show(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    match Visit::get(&node, &request) {
        Ok(visit) => page(&node, &visit, None, StatusCode::OK),
        Err(refusal) => refusal,
    }
}

pub(super) async fn act(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mut visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    match done(&node, &mut visit).await {
        Ok(Some(message)) => Page::new("Done").say(message).answer(StatusCode::OK, Some(&visit)),
        Ok(None) => page(&node, &visit, None, StatusCode::OK),
        Err(refusal) => page(&node, &visit, Some(&told(&refusal)), StatusCode::FORBIDDEN),
    }
}

/// Does what a button says; gives what to say then.
async fn done(node: &NodeHandle, visit: &mut Visit) -> Result<Option<&'static str>, Refusal> {
    let button = visit.form.get("do").cloned().unwrap_or_default();
    if button == "sign-out" {
        visit.sign_out(node).await?;
        return Ok(None);
    }
    if button == "sign-in" {
        visit.sign_in(node).await?;
        return Ok(None);
    }
    let Some(user) = visit.user.clone() else { return Ok(None) };
    match button.as_str() {
        "end" => {
            let device = visit.form.remove("device_id").unwrap_or_default();
            node.accounts.delete_devices(&user, vec![OwnedDeviceId::from(device)]).await?;
            Ok(Some("The device is signed out."))
        }
        "reset" => {
            node.accounts.approve_reset(&user).await?;
            Ok(Some("Go back to your client: for ten minutes it may reset your digital identity."))
        }
        _ => Ok(None),
    }
}

fn page(node: &NodeHandle, visit: &Visit, wrong: Option<&str>, status: StatusCode) -> Response {
    let Some(user) = &visit.user else {
        let page = Page::new("Your account").warn(wrong).say("Sign in to look after your account.");
        let page = page.form("/account", visit, &visit.form, &credentials(""), &[("sign-in", "Sign in")]);
        return page.answer(status, Some(visit));
    };
    let action = visit.form.get("action").map(String::as_str).unwrap_or_default();
    let page = match action {
        "org.matrix.cross_signing_reset" => Ok(reset(visit, user, wrong)),
        "org.matrix.device_delete"
        | "org.matrix.session_end"
        | "org.matrix.device_view"
        | "org.matrix.session_view" => device(node, visit, user, wrong),
        _ => devices(node, visit, user, wrong),
    };
    match page {
        Ok(page) => page.answer(status, Some(visit)),
        Err(error) => page::of_refusal(&Refusal::Node(error)),
    }
}

fn reset(visit: &Visit, user: &UserId, wrong: Option<&str>) -> Page {
    Page::new("Reset your digital identity")
        .warn(wrong)
        .fact("You are signed in as", user.as_str())
        .say("Your client wants to replace the keys that others know you by. They will be told to verify you again.")
        .say("Do this only if you have just asked for it, and have no other device and no recovery key.")
        .form("/account", visit, &visit.form, &[], &[("reset", "Allow it for ten minutes"), ("sign-out", "Sign out")])
}

fn device(node: &NodeHandle, visit: &Visit, user: &UserId, wrong: Option<&str>) -> Result<Page, Error> {
    let id = visit.form.get("device_id").map(String::as_str).unwrap_or_default();
    let row = node.accounts.device(user, id.into())?;
    let page = Page::new("A device of yours").warn(wrong).fact("Name", row.display_name.as_deref().unwrap_or("-"));
    let page = page.fact("Id", id).fact("Last seen from", row.last_seen_ip.as_deref().unwrap_or("-"));
    Ok(page.form("/account", visit, &visit.form, &[], &[("end", "Sign this device out")]))
}

fn devices(node: &NodeHandle, visit: &Visit, user: &UserId, wrong: Option<&str>) -> Result<Page, Error> {
    let mut page = Page::new("Your devices").warn(wrong).fact("You are signed in as", user.as_str());
    for (id, row) in node.accounts.devices(user)? {
        let name = row.display_name.as_deref().unwrap_or("A device without a name");
        let hidden = Form::from([("device_id".to_owned(), id.to_string())]);
        page = page.fact(name, id.as_str()).form("/account", visit, &hidden, &[], &[("end", "Sign out")]);
    }
    Ok(page.form("/account", visit, &Form::new(), &[], &[("sign-out", "Sign out of this page")]))
}
