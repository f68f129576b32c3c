//! Pages: HTML by hand, every text escaped, a policy that allows our own style and nothing else.

use std::fmt::Write;

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use millpond_node::accounts::oauth::{Form, Refusal};

use super::browser::{TERMS, Visit};

/// A page under construction.
pub(super) struct Page {
    title: &'static str,
    body: String,
    /// Where its forms may lead beside our own origin.
    leads_to: Option<String>,
    /// The script of ours that it runs.
    script: Option<&'static str>,
}

impl Page {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, body: format!("<h1>{title}</h1>"), leads_to: None, script: None }
    }

    /// A paragraph.
    pub(super) fn say(mut self, text: &str) -> Self {
        let _ = write!(self.body, "<p>{}</p>", escape(text));
        self
    }

    /// Something that went wrong.
    pub(super) fn warn(mut self, text: Option<&str>) -> Self {
        if let Some(text) = text {
            let _ = write!(self.body, "<p class=\"wrong\" role=\"alert\">{}</p>", escape(text));
        }
        self
    }

    /// A line with a value that the user should look at.
    pub(super) fn fact(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.body, "<p>{}: <strong>{}</strong></p>", escape(name), escape(value));
        self
    }

    /// A document somewhere else.
    pub(super) fn link(mut self, name: &str, url: &str) -> Self {
        let (name, url) = (escape(name), escape(url));
        let _ = write!(self.body, "<p><a href=\"{url}\" target=\"_blank\" rel=\"noreferrer\">{name}</a></p>");
        self
    }

    /// A form that comes back to `path` with hidden values, what `inputs` says, and buttons for the field `do`.
    pub(super) fn form(
        mut self,
        path: &str,
        visit: &Visit,
        hidden: &Form,
        inputs: &[Input<'_>],
        buttons: &[(&str, &str)],
    ) -> Self {
        let _ = write!(self.body, "<form method=\"post\" action=\"{}\">", escape(path));
        // What the user fills in is asked again, and the token is this page's.
        let given = hidden.iter().filter(|(name, _)| {
            !matches!(name.as_str(), "do" | "user" | "password" | "registration_token" | "terms" | "csrf")
        });
        for (name, value) in given.map(|(name, value)| (name.as_str(), value.as_str())).chain([("csrf", &*visit.csrf)])
        {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(self.body, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
        }
        for input in inputs {
            let Input { name, label, kind, value } = input;
            let _ = write!(
                self.body,
                "<label>{}<input name=\"{name}\" type=\"{kind}\" value=\"{}\" autocomplete=\"{}\" required></label>",
                escape(label),
                escape(value),
                match *name {
                    "user" => "username",
                    "password" => "current-password",
                    _ => "off",
                }
            );
        }
        for (value, label) in buttons {
            // What refuses needs no password.
            let skip = if *value == "refuse" || *value == "sign-out" { " formnovalidate" } else { "" };
            let _ = write!(self.body, "<button name=\"do\" value=\"{value}\"{skip}>{}</button>", escape(label));
        }
        self.body.push_str("</form>");
        self
    }

    /// Its forms may lead on to a client.
    pub(super) fn leads_to(mut self, uri: &str) -> Self {
        self.leads_to = source(uri);
        self
    }

    /// It runs a script of ours.
    pub(super) fn runs(mut self, path: &'static str) -> Self {
        self.script = Some(path);
        self
    }

    /// The response.
    pub(super) fn answer(self, status: StatusCode, visit: Option<&Visit>) -> Response {
        let script = self.script.map(|path| format!("<script src=\"{path}\"></script>")).unwrap_or_default();
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{0} - Millpond</title><link rel=\"stylesheet\" href=\"/oauth2/style.css\"></head>\
             <body><main>{1}</main>{script}</body></html>",
            self.title, self.body
        );
        let mut response = Response::new(Body::from(html));
        *response.status_mut() = status;
        let policy = format!(
            "default-src 'none'; style-src 'self';{} form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
            self.script.map(|_| " script-src 'self';").unwrap_or_default(),
            self.leads_to.map(|source| format!(" {source}")).unwrap_or_default()
        );
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, policy.as_str()),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if let Some(visit) = visit {
            set_cookies(&mut response, visit);
        }
        response
    }
}

/// A field of a form.
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    pub(super) kind: &'a str,
    pub(super) value: &'a str,
}

impl Input<'_> {
    fn only_if(self, wanted: bool) -> Option<Self> {
        wanted.then_some(self)
    }
}

/// The fields of somebody who is not signed in.
pub(super) fn credentials<'a>(user: &'a str) -> [Input<'a>; 2] {
    [
        Input { name: "user", label: "User name", kind: "text", value: user },
        Input { name: "password", label: "Password", kind: "password", value: "" },
    ]
}

/// The fields of somebody who has no account yet; `token`: who may make one shows a token; `terms`: he must accept them.
pub(super) fn new_credentials(user: &str, token: bool, terms: bool) -> Vec<Input<'_>> {
    let token =
        Input { name: "registration_token", label: "Registration token", kind: "text", value: "" }.only_if(token);
    let terms = Input { name: TERMS, label: "I accept these terms", kind: "checkbox", value: "yes" }.only_if(terms);
    credentials(user).into_iter().chain(token).chain(terms).collect()
}

/// Leads the browser on.
pub(super) fn redirect(to: &str, visit: &Visit) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::from_str(to) {
        Ok(to) => drop(response.headers_mut().insert(header::LOCATION, to)),
        Err(_) => return refusal("Not done", "The client gave an address that does not go into a header."),
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_cookies(&mut response, visit);
    response
}

/// A page that says what is wrong.
pub(super) fn refusal(title: &'static str, message: &str) -> Response {
    Page::new(title).warn(Some(message)).answer(StatusCode::BAD_REQUEST, None)
}

/// The same, of a refusal.
pub(super) fn of_refusal(refused: &Refusal) -> Response {
    refusal("Not done", &told(refused))
}

/// What the user is told of a refusal.
pub(super) fn told(refused: &Refusal) -> String {
    match refused {
        Refusal::OAuth { description, .. } => description.clone(),
        Refusal::Node(error @ millpond_node::Error::Matrix { .. }) => error.to_string(),
        Refusal::Node(_) => "The homeserver could not do this; its log says why.".to_owned(),
    }
}

/// `GET /oauth2/style.css`
pub(super) async fn style() -> Response {
    let mut response = Response::new(Body::from(STYLE));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

fn set_cookies(response: &mut Response, visit: &Visit) {
    for cookie in &visit.set {
        if let Ok(value) = HeaderValue::from_str(cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The origin of an address as a policy names it, or its scheme if it has no host.
fn source(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    let origin = url.origin();
    Some(if origin.is_tuple() { origin.ascii_serialization() } else { format!("{}:", url.scheme()) })
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#eef3f2;color:#12312b}\
main{max-width:30rem;margin:10vh auto;padding:2rem;background:#fff;border-radius:.75rem}\
h1{font-size:1.4rem;margin:0 0 1rem}label{display:block;margin:.75rem 0}\
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #8aa;border-radius:.4rem}\
button{font:inherit;margin:1rem .5rem 0 0;padding:.5rem 1rem;border:0;border-radius:.4rem;background:#1d6b5a;color:#fff}\
button[value=refuse],button[value=sign-out]{background:#667}.wrong{color:#a11}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_policies_name_an_origin() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert_eq!(source("https://a.b:8443/c?d").as_deref(), Some("https://a.b:8443"));
        assert_eq!(source("com.example.app:/cb").as_deref(), Some("com.example.app:"));
    }
}
