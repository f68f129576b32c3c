//! A node on a port, a client, and a browser that keeps cookies and reads forms as people's browsers do.

use std::collections::BTreeMap;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ruma::serde::{Base64, base64::UrlSafe};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::harness::TestNode;

pub const REDIRECT: &str = "example.frog:/cb";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const DEVICE: &str = "ABCDEFGHIJ";
pub const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

/// A node that serves on a port of this machine, with Alice's account and a client that is registered.
pub struct World {
    pub node: TestNode,
    pub client_id: String,
    authority: String,
    _stop: tokio_util::sync::DropGuard,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.body))
    }

    /// Where it leads.
    pub fn location(&self) -> &str {
        self.headers.get("location").unwrap_or_else(|| panic!("{} {}", self.status, self.body)).to_str().unwrap()
    }

    pub fn policy(&self) -> &str {
        self.headers.get("content-security-policy").unwrap().to_str().unwrap()
    }
}

/// The parameters behind a separator of an address.
pub fn parameters(uri: &str, separator: char) -> BTreeMap<String, String> {
    let (_, query) = uri.split_once(separator).unwrap_or_else(|| panic!("{uri}"));
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

pub fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub fn scope(device: &str) -> String {
    format!("urn:matrix:client:api:* urn:matrix:client:device:{device}")
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(configure: impl FnOnce(&mut millpond_node::config::Config)) -> Self {
        let node = TestNode::with(configure);
        node.user_with_password("alice", "secret").await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let serve =
            millpond_api::serve(node.node.clone(), vec![millpond_api::Listener::Client(listener)], stop.clone());
        tokio::spawn(serve);
        let mut world = Self { node, client_id: String::new(), authority, _stop: stop.drop_guard() };
        let metadata = json!({
            "client_name": "Frog <b>", "client_uri": "https://frog.example/", "application_type": "native",
            "redirect_uris": [REDIRECT, "http://127.0.0.1/cb"],
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        });
        let request = world.request("POST", "/oauth2/clients/register", &[("content-type", "application/json")]);
        let answer = world.send(request.body(metadata.to_string().into()).unwrap()).await;
        world.client_id = answer.json()["client_id"].as_str().unwrap().to_owned();
        world
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let builder = Request::builder().method(method).uri(path).header("host", &self.authority);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value))
    }

    async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Answer {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A form to an endpoint for clients.
    pub async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let request = self.request("POST", path, &headers).body(form(pairs).into()).unwrap();
        self.send(request).await
    }

    /// Asks for tokens.
    pub async fn token(&self, pairs: &[(&str, &str)]) -> Answer {
        let mut all = vec![("client_id", self.client_id.as_str())];
        all.extend(pairs);
        self.post("/oauth2/token", &all).await
    }

    /// Asks who a token is.
    pub async fn whoami(&self, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let request = self.request("GET", WHOAMI, &[("authorization", &bearer)]);
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// The path of a request to authorise the client, with some parameters changed.
    pub fn authorize(&self, changes: &[(&str, &str)]) -> String {
        let challenge = Base64::<UrlSafe, _>::new(Sha256::digest(VERIFIER).to_vec()).encode();
        let mut parameters = BTreeMap::from([
            ("response_type", "code".to_owned()),
            ("client_id", self.client_id.clone()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("scope", scope(DEVICE)),
            ("state", "st&te".to_owned()),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256".to_owned()),
        ]);
        for (name, value) in changes {
            match *value {
                "" => drop(parameters.remove(name)),
                value => drop(parameters.insert(name, value.to_owned())),
            }
        }
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        format!("/oauth2/authorize?{}", form(&pairs))
    }

    /// A code, as a browser brings it.
    pub async fn code(&self, changes: &[(&str, &str)]) -> String {
        let mut browser = Browser::new(self);
        let page = browser.get(&self.authorize(changes)).await;
        let answer = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "allow")]).await;
        parameters(answer.location(), '?')["code"].clone()
    }

    /// Tokens for a code.
    pub async fn exchange(&self, code: &str, verifier: &str) -> Answer {
        let grant = ("grant_type", "authorization_code");
        self.token(&[grant, ("code", code), ("code_verifier", verifier), ("redirect_uri", REDIRECT)]).await
    }
}

/// A browser.
pub struct Browser<'w> {
    world: &'w World,
    pub cookies: BTreeMap<String, String>,
}

impl<'w> Browser<'w> {
    pub fn new(world: &'w World) -> Self {
        Self { world, cookies: BTreeMap::new() }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let cookie = self.cookie();
        let request = self.world.request("GET", path, &[("cookie", &cookie)]).body(Full::default()).unwrap();
        self.take(self.world.send(request).await)
    }

    /// Sends the first form of a page with these fields filled in.
    pub async fn submit(&mut self, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        self.submit_from(page, fields, &[]).await
    }

    /// The same with other headers.
    pub async fn submit_from(&mut self, page: &Answer, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let (_, rest) = page.body.split_once("action=\"").unwrap_or_else(|| panic!("no form: {}", page.body));
        let (path, rest) = rest.split_once('"').unwrap();
        let (inputs, _) = rest.split_once("</form>").unwrap();
        let hidden = inputs.split("<input type=\"hidden\" name=\"").skip(1).map(|input| {
            let (name, rest) = input.split_once("\" value=\"").unwrap();
            (name.to_owned(), unescape(rest.split_once('"').unwrap().0))
        });
        let mut all: Vec<(String, String)> = hidden.collect();
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let pairs: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let cookie = self.cookie();
        let mut sent = vec![("content-type", "application/x-www-form-urlencoded"), ("cookie", &cookie)];
        sent.extend(headers);
        let request = self.world.request("POST", path, &sent).body(form(&pairs).into()).unwrap();
        self.take(self.world.send(request).await)
    }

    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, answer: Answer) -> Answer {
        for value in answer.headers.get_all("set-cookie") {
            let value = value.to_str().unwrap();
            assert!(value.contains("HttpOnly") && value.contains("SameSite="), "{value}");
            let (name, rest) = value.split_once('=').unwrap();
            match rest.split_once(';').unwrap().0 {
                "" => drop(self.cookies.remove(name)),
                value => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        answer
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}
