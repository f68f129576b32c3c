//! What a browser sends: forms, cookies, and the signs that a form is our own.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use millpond_node::{
    NodeHandle,
    accounts::{
        Asked, NewAccount,
        oauth::{Form, Refusal},
    },
    config::Registration,
};
use ruma::{
    OwnedUserId,
    api::client::uiaa::{AuthData, Dummy, RegistrationToken},
};

use super::page;
use crate::glue::ClientAddr;

/// Bytes of a form at most.
pub(super) const BODY_MAX: usize = 64 << 10;
/// The cookie of a browser that is signed in.
const SESSION: &str = "millpond_session";
/// The cookie that a form's token must equal.
const CSRF: &str = "millpond_csrf";

/// The field of who accepts the terms.
pub(super) const TERMS: &str = "terms";

/// A form or a query; none if a parameter comes twice.
pub(super) fn form(bytes: &[u8]) -> Option<Form> {
    let mut form = Form::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(form)
}

/// A request of a browser for one of our pages.
pub(super) struct Visit {
    pub(super) form: Form,
    pub(super) address: Option<std::net::IpAddr>,
    /// Who is signed in, and the cookie that says so.
    pub(super) user: Option<OwnedUserId>,
    pub(super) session: Option<String>,
    /// The token of the forms on the page.
    pub(super) csrf: String,
    /// Cookies to set.
    pub(super) set: Vec<String>,
    /// Cookies only go over TLS.
    pub(super) secure: bool,
}

#[allow(clippy::result_large_err, reason = "the refusal is the page that is shown")]
impl Visit {
    /// Reads a `GET`.
    ///
    /// # Errors
    /// A page that says what is wrong.
    pub(super) fn get(node: &NodeHandle, request: &Request<Body>) -> Result<Self, axum::response::Response> {
        let query = request.uri().query().unwrap_or_default().as_bytes().to_vec();
        Self::read(node, request, &query)
    }

    /// Reads a `POST` of one of our own forms.
    ///
    /// # Errors
    /// A page that says what is wrong.
    pub(super) async fn post(node: &NodeHandle, request: Request<Body>) -> Result<Self, axum::response::Response> {
        let (parts, body) = request.into_parts();
        let bytes = to_bytes(body, BODY_MAX).await.unwrap_or_default();
        let request = Request::from_parts(parts, Body::empty());
        let visit = Self::read(node, &request, &bytes)?;
        let sent = cookie(request.headers(), CSRF);
        let ours = sent.is_some_and(|sent| !sent.is_empty() && visit.form.get("csrf") == Some(&sent));
        if !ours || !is_same_origin(request.headers()) {
            let message = "This form is not one of ours, or the page was open for too long: go back and load it again.";
            return Err(page::refusal("Not done", message));
        }
        Ok(visit)
    }

    fn read(node: &NodeHandle, request: &Request<Body>, form_bytes: &[u8]) -> Result<Self, axum::response::Response> {
        let Some(form) = form(form_bytes) else {
            return Err(page::refusal("Not done", "The address names a parameter twice."));
        };
        let secure = node.core.config().client_base_url.starts_with("https:");
        let session = cookie(request.headers(), SESSION);
        let user = match session.as_deref().map(|session| node.accounts.browser(session)).transpose() {
            Ok(user) => user.flatten(),
            Err(refusal) => return Err(page::of_refusal(&refusal)),
        };
        let address = request.extensions().get::<ClientAddr>().map(|address| address.0);
        let mut visit = Self { form, address, user, session, csrf: String::new(), set: Vec::new(), secure };
        visit.csrf = cookie(request.headers(), CSRF).filter(|token| token.len() >= 32).unwrap_or_else(|| {
            let token = millpond_node::accounts::Accounts::secret();
            let cookie = visit.cookie(CSRF, &token, "Strict", None);
            visit.set.push(cookie);
            token
        });
        Ok(visit)
    }

    /// Signs the user in if the form says who he is, else takes who is signed in.
    ///
    /// # Errors
    /// What to tell him.
    pub(super) async fn sign_in(&mut self, node: &NodeHandle) -> Result<OwnedUserId, Refusal> {
        if let (Some(user), None) = (&self.user, self.form.get("user")) {
            return Ok(user.clone());
        }
        let user = self.form.get("user").cloned().unwrap_or_default();
        let password = self.form.remove("password").unwrap_or_default();
        let (user_id, session) = node.accounts.sign_in(&user, password, self.address).await?;
        let age = millpond_node::accounts::oauth::SIGNED_IN_FOR.as_secs();
        // Lax: a client that leads here finds the user signed in; forms have their own token.
        let cookie = self.cookie(SESSION, &session, "Lax", Some(age));
        self.set.push(cookie);
        self.user = Some(user_id.clone());
        Ok(user_id)
    }

    /// Makes the account that the form asks for; who may is checked as for `/register`.
    ///
    /// # Errors
    /// What to tell the user.
    pub(super) async fn register(&mut self, node: &NodeHandle) -> Result<(), Refusal> {
        let field = |name: &str| self.form.get(name).cloned().unwrap_or_default();
        let (name, password, token) = (field("user"), field("password"), field("registration_token"));
        let accepted = self.form.contains_key(TERMS);
        node.accounts.available(&name)?;
        let auth = match node.core.config().registration {
            Registration::Token => AuthData::RegistrationToken(RegistrationToken::new(token)),
            _ => AuthData::Dummy(Dummy::new()),
        };
        let path = "/oauth2/authorize".to_owned();
        let asked = Asked { method: Method::POST, path, body: Bytes::new(), address: self.address };
        node.accounts.confirm_registration_in_browser(auth, accepted, asked).await?;
        let account = NewAccount { name, password: Some(password), admin: false };
        node.accounts.create(account, None).await?;
        Ok(())
    }

    /// Ends the browser's session.
    pub(super) async fn sign_out(&mut self, node: &NodeHandle) -> Result<(), Refusal> {
        if let Some(session) = self.session.take() {
            node.accounts.sign_out(&session).await?;
        }
        self.user = None;
        let cookie = self.cookie(SESSION, "", "Lax", Some(0));
        self.set.push(cookie);
        Ok(())
    }

    fn cookie(&self, name: &str, value: &str, same_site: &str, max_age: Option<u64>) -> String {
        let age = max_age.map(|age| format!("; Max-Age={age}")).unwrap_or_default();
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}{age}{secure}")
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then(|| value.to_owned()))
}

/// Whether the browser says that a form comes from the page's own origin, as far as it says anything.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fetched = text("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let host = text("host").unwrap_or_default();
    let origin = text("origin").is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest == host));
    fetched && origin
}
