//! `/oauth2/sso`: single sign-on for clients that know no OAuth (client-server API, "SSO client login"): the same sign-in as
//! there, then back to the client with a login token. The user sees where he is led.

use axum::{body::Body, extract::State, response::Response};
use http::{Request, StatusCode};
use millpond_node::NodeHandle;
use url::Url;

use super::{
    browser::Visit,
    decision::{Decision, sign_in_form},
    page::{self, Page},
};

/// Where a client is, if a browser may be sent there.
pub(crate) fn target(redirect_url: &str) -> Option<Url> {
    // These are not places but things to do in the page that one is on.
    const NO_PLACES: [&str; 7] = ["javascript", "data", "vbscript", "blob", "file", "about", "view-source"];
    Url::parse(redirect_url).ok().filter(|url| !NO_PLACES.contains(&url.scheme()))
}

/// The address of the page. `creates`: the user has no account yet.
pub(crate) fn page_url(base: &str, redirect_url: &str, creates: bool) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair(REDIRECT, redirect_url);
    if creates {
        query.append_pair("prompt", "create");
    }
    format!("{}{PATH}?{}", base.trim_end_matches('/'), query.finish())
}

pub(super) async fn ask(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let visit = match Visit::get(&node, &request) {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    match asked(&node, &visit) {
        Some(to) => show(&node, &visit, &to, None, StatusCode::OK),
        None => none(),
    }
}

pub(super) async fn decide(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let mut visit = match Visit::post(&node, request).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let Some(to) = asked(&node, &visit) else { return none() };
    match visit.decide(&node).await {
        Decision::Allow(user) => page::redirect(&with_token(to, &node.accounts.sso_token(&user)), &visit),
        Decision::Show(wrong, status) => show(&node, &visit, &to, wrong.as_deref(), status),
        Decision::Page(page) => page,
        Decision::Refuse => page::refusal("Not signed in", "You can close this page."),
    }
}

fn asked(node: &NodeHandle, visit: &Visit) -> Option<Url> {
    let on = node.core.config().single_sign_on;
    visit.form.get(REDIRECT).filter(|_| on).and_then(|url| target(url))
}

fn none() -> Response {
    page::refusal("Not done", "This homeserver has no single sign-on, or the client did not say where it is.")
}

fn show(node: &NodeHandle, visit: &Visit, to: &Url, wrong: Option<&str>, status: StatusCode) -> Response {
    let creates = visit.creates(node);
    let place = to.host_str().map_or_else(|| format!("{}:", to.scheme()), str::to_owned);
    let page = Page::new(if creates { "Create an account" } else { "Sign in" })
        .warn(wrong)
        .fact("The client that gets access to your account is at", &place)
        .say("Allow it only if you have just started it yourself.");
    sign_in_form(page, PATH, visit, node).leads_to(to.as_str()).answer(status, Some(visit))
}

/// The client's address with the login token, and no other one.
fn with_token(mut to: Url, token: &str) -> String {
    let kept: Vec<_> =
        to.query_pairs().filter(|(name, _)| name != TOKEN).map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    if to.query_pairs().count() > kept.len() {
        to.query_pairs_mut().clear().extend_pairs(kept);
    }
    to.query_pairs_mut().append_pair(TOKEN, token);
    to.into()
}

/// Where the page is.
pub(super) const PATH: &str = "/oauth2/sso";
/// Parameters, as the specification names them.
const REDIRECT: &str = "redirectUrl";
const TOKEN: &str = "loginToken";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_only_one_and_what_else_is_in_the_address_stays() {
        let with = |url: &str| with_token(target(url).unwrap(), "t");
        assert_eq!(with("https://a.b/c?d=e%20f#g"), "https://a.b/c?d=e%20f&loginToken=t#g");
        assert_eq!(with("https://a.b/?loginToken=x&y=1&loginToken=z"), "https://a.b/?y=1&loginToken=t");
        assert_eq!(with("element:/connect"), "element:/connect?loginToken=t");
        for bad in ["javascript:alert(1)", "data:text/html,x", "no url", "", "JavaScript:x"] {
            assert!(target(bad).is_none(), "{bad}");
        }
    }
}
