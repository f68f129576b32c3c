use std::{net::SocketAddr, sync::Mutex};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(5), body: 100, redirects: 2, https_only: false };

/// A server on loopback that answers each request by its path, and the paths that it was asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(head);
                let answer = answer(&path);
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {to}\r\n\r\n")
}

fn open_to_loopback() -> Egress {
    Egress::new(Settings { allow: vec!["127.0.0.1".parse().unwrap()], roots: Vec::new() })
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn addresses_inside_are_not_connected_to_in_any_spelling() {
    let server = Server::new(|_| ok("secret")).await;
    let egress = Egress::new(Settings::default());
    let port = server.address.port();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let error = egress.send(get(&format!("http://{host}:{port}/")), LIMITS).await.unwrap_err();
        assert!(matches!(error, EgressError::Inside), "{host}: {error:?}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_listed_network_is_connected_to() {
    let server = Server::new(|_| ok("here")).await;
    let answer = open_to_loopback().send(get(&server.url("/")), LIMITS).await.unwrap();
    assert_eq!(answer.body(), "here");
    assert_eq!(answer.extensions().get::<Uri>().unwrap().to_string(), server.url("/"));
}

/// Answers every name with one address, and counts.
struct Fixed(SocketAddr);

impl Names for Fixed {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::ready(Ok(vec![self.0])))
    }
}

#[tokio::test]
async fn a_name_or_a_redirect_that_leads_inside_is_not_followed() {
    let inside = Server::new(|_| ok("secret")).await;
    let egress = Egress::new(Settings::default()).with_names(Arc::new(Fixed(inside.address)));
    let error = egress.send(get("http://public.example/"), LIMITS).await.unwrap_err();
    assert!(matches!(error, EgressError::Inside), "{error:?}");
    let target = inside.url("/admin").replace("127.0.0.1", "127.0.0.2");
    let outside = Server::new(move |_| redirect(&target)).await;
    let error = open_to_loopback().send(get(&outside.url("/")), LIMITS).await.unwrap_err();
    assert!(matches!(error, EgressError::Inside), "{error:?}");
    assert!(inside.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_resolver_may_name_the_port_that_the_url_does_not() {
    let server = Server::new(|_| ok("srv")).await;
    let egress = open_to_loopback().with_names(Arc::new(Fixed(server.address))).http1_only();
    let request = Request::get("http://matrix.example/").header("host", "example.org").body(Bytes::new()).unwrap();
    assert_eq!(egress.send(request, LIMITS).await.unwrap().body(), "srv");
    assert!(server.asked.lock().unwrap()[0].contains("host: example.org\r\n"));
}

#[tokio::test]
async fn redirects_are_counted_and_take_no_secrets_to_another_host() {
    let last = Server::new(|_| ok("end")).await;
    let end = last.url("/end");
    let server = Server::new(move |path| match path {
        "/once" => redirect("/twice"),
        "/twice" => redirect(&end),
        _ => redirect("/again"),
    })
    .await;
    let request = Request::get(server.url("/once")).header("authorization", "Bearer s").body(Bytes::new()).unwrap();
    assert_eq!(open_to_loopback().send(request, LIMITS).await.unwrap().body(), "end");
    assert!(server.asked.lock().unwrap()[1].contains("authorization: Bearer s"));
    assert!(!last.asked.lock().unwrap()[0].contains("authorization"));
    let error = open_to_loopback().send(get(&server.url("/loop")), LIMITS).await.unwrap_err();
    assert!(matches!(error, EgressError::Refused(_)), "{error:?}");
    let post = Request::post(server.url("/once")).body(Bytes::new()).unwrap();
    assert_eq!(open_to_loopback().send(post, LIMITS).await.unwrap().status(), StatusCode::FOUND);
}

#[tokio::test]
async fn a_body_ends_at_its_limit_whether_it_is_announced_or_not() {
    let server = Server::new(|path| match path {
        "/announced" => ok(&"x".repeat(101)),
        "/fits" => ok(&"x".repeat(100)),
        _ => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(101)),
    })
    .await;
    let egress = open_to_loopback();
    assert_eq!(egress.send(get(&server.url("/fits")), LIMITS).await.unwrap().body().len(), 100);
    for path in ["/announced", "/unannounced"] {
        let error = egress.send(get(&server.url(path)), LIMITS).await.unwrap_err();
        assert!(matches!(error, EgressError::TooLarge(100)), "{path}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_and_other_schemes_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/", listener.local_addr().unwrap());
    let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
    let error = open_to_loopback().send(get(&silent), limits).await.unwrap_err();
    assert!(matches!(error, EgressError::TimedOut), "{error:?}");
    for url in ["ftp://example.org/", "/path", "http://name.onion/"] {
        open_to_loopback().send(get(url), LIMITS).await.unwrap_err();
    }
    let limits = Limits { https_only: true, ..LIMITS };
    let error = open_to_loopback().send(get("http://example.org/"), limits).await.unwrap_err();
    assert!(matches!(error, EgressError::Refused(_)), "{error:?}");
}

/// A SOCKS5 proxy, as a system's tor is one, which connects everything to one server: what it was asked for, under which user name.
async fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 3];
                socket.read_exact(&mut bytes).await.unwrap();
                socket.write_all(&[5, 2]).await.unwrap();
                socket.read_u8().await.unwrap();
                let mut user = vec![0; usize::from(socket.read_u8().await.unwrap())];
                socket.read_exact(&mut user).await.unwrap();
                let mut password = vec![0; usize::from(socket.read_u8().await.unwrap())];
                socket.read_exact(&mut password).await.unwrap();
                socket.write_all(&[1, 0]).await.unwrap();
                let mut head = [0; 4];
                socket.read_exact(&mut head).await.unwrap();
                assert_eq!(head[3], 3, "names go to the proxy as names");
                let mut name = vec![0; usize::from(socket.read_u8().await.unwrap())];
                socket.read_exact(&mut name).await.unwrap();
                let port = socket.read_u16().await.unwrap();
                let name = format!("{}:{port}", String::from_utf8(name).unwrap());
                seen.lock().unwrap().push((name, String::from_utf8(user).unwrap()));
                socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
            });
        }
    });
    (address, asked)
}

fn tor_only(proxy: SocketAddr) -> Arc<Routes> {
    use crate::config::{TorMode, TorSettings};
    let settings = TorSettings { mode: TorMode::Only, socks: Some(proxy), ..TorSettings::default() };
    Arc::new(crate::tor::routes(&settings, std::path::Path::new("/nowhere")).unwrap())
}

/// A resolver that nobody may ask.
struct NotToBeAsked;

impl Names for NotToBeAsked {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        panic!("{host} was looked up here");
    }
}

#[tokio::test]
async fn with_tor_requests_and_names_go_to_it_and_hosts_are_kept_apart() {
    let server =
        Server::new(|path| if path == "/moved" { redirect("http://other.example/there") } else { ok("there") }).await;
    let (proxy, asked) = proxy(server.address).await;
    let egress = Egress::over(Settings::default(), tor_only(proxy)).with_names(Arc::new(NotToBeAsked));
    let request = |url: &str| Request::get(url).body(Bytes::new()).unwrap();
    let answer = egress.send(request("http://some.example/moved"), LIMITS).await.unwrap();
    assert_eq!(answer.body(), "there");
    assert_eq!(answer.extensions().get::<Uri>().unwrap(), "http://other.example/there");
    egress.send(request("http://some.example:81/again"), LIMITS).await.unwrap();
    let asked = asked.lock().unwrap();
    let names: Vec<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["some.example:80", "other.example:80", "some.example:81"]);
    assert_eq!(asked[0].1, asked[2].1, "one host, one circuit");
    assert_ne!(asked[0].1, asked[1].1, "two hosts, two circuits");
    let head = &server.asked.lock().unwrap()[0];
    assert!(
        head.starts_with("GET /moved HTTP/1.1\r\n") && head.to_lowercase().contains("host: some.example\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn if_tor_is_not_there_a_request_fails_and_nothing_else_is_tried() {
    let server = Server::new(|_| ok("there")).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings { allow: vec!["127.0.0.1".parse().unwrap()], roots: Vec::new() };
    let egress = Egress::over(settings, tor_only(gone)).with_names(Arc::new(NotToBeAsked));
    for url in [server.url("/"), "http://some.example/".to_owned()] {
        let refused = egress.send(Request::get(&url).body(Bytes::new()).unwrap(), LIMITS).await;
        assert!(matches!(refused, Err(EgressError::Tor(_))), "{url}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn with_tor_addresses_inside_are_not_asked_of_an_exit_either() {
    let server = Server::new(|_| ok("there")).await;
    let (proxy, asked) = proxy(server.address).await;
    let egress = Egress::over(Settings::default(), tor_only(proxy));
    for url in ["http://127.0.0.1/", "http://[::1]/", "http://10.0.0.1/", "http://0x7f000001/"] {
        let refused = egress.send(Request::get(url).body(Bytes::new()).unwrap(), LIMITS).await;
        assert!(matches!(refused, Err(EgressError::Inside)), "{url}");
    }
    assert!(asked.lock().unwrap().is_empty());
}
