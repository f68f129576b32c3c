//! Tor behind a SOCKS5 proxy of the user's (RFC 1928, RFC 1929): Orbot, Tor Browser, a system's tor. Names go to the proxy as they are, never to a
//! resolver; each isolation has a user name of its own, which Tor takes as a wish for other circuits.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::super::{BoxIo, Incoming, TransportError};
use super::address::OnionAddress;
use super::isolation::Isolation;
use super::status::{TorState, TorStatus};
use super::{Carrier, PATIENCE};

/// The proxy, and why the last stream was not opened by it.
pub(super) struct Socks {
    proxy: SocketAddr,
    trouble: Mutex<Option<String>>,
    back: Notify,
}

impl Socks {
    pub(super) fn new(proxy: SocketAddr) -> Self {
        Self { proxy, trouble: Mutex::new(None), back: Notify::new() }
    }

    async fn dial(&self, host: &str, port: u16, on: &Isolation) -> Result<BoxIo, TransportError> {
        let opened = timeout(PATIENCE, open(self.proxy, host, port, &on.user())).await;
        let opened = opened.unwrap_or_else(|_| Err(Failed::proxy("no answer in time")));
        match opened {
            Ok(stream) => {
                if self.trouble.lock().take().is_some() {
                    self.back.notify_one();
                }
                Ok(Box::new(stream))
            }
            Err(Failed { why, proxy }) => {
                // What one service does says nothing of the proxy.
                *self.trouble.lock() = proxy.then(|| why.clone());
                Err(TransportError::Unreachable { why })
            }
        }
    }
}

impl Carrier for Socks {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        on: &'a Isolation,
        // A proxy takes none; a service that asks for one is told so in words.
        _: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        self.dial(host, port, on).boxed()
    }

    fn open(
        &self,
        _: &'static str,
        _: Option<Vec<DiscoveryKey>>,
        _: mpsc::Sender<Incoming>,
    ) -> BoxFuture<'_, Result<OnionAddress, TransportError>> {
        let why = "a SOCKS proxy opens no services".to_owned();
        ready(Err(TransportError::Listen { on: "an onion service".to_owned(), why })).boxed()
    }

    fn admit(&self, _: &'static str, _: Vec<DiscoveryKey>) {}

    fn close(&self, _: &'static str) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn status(&self) -> TorStatus {
        let why = self.trouble.lock().clone();
        TorStatus { state: TorState::Proxy, percent: if why.is_some() { 0 } else { 100 }, why }
    }

    fn came_back(&self) -> BoxFuture<'_, ()> {
        self.back.notified().boxed()
    }

    fn set_dormant(&self, _: bool) {}

    fn stop(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

struct Failed {
    why: String,
    /// The proxy itself is at fault.
    proxy: bool,
}

impl Failed {
    fn proxy(why: impl Into<String>) -> Self {
        Self { why: format!("the SOCKS proxy: {}", why.into()), proxy: true }
    }
}

async fn open(proxy: SocketAddr, host: &str, port: u16, user: &str) -> Result<TcpStream, Failed> {
    let broken = |error: std::io::Error| Failed::proxy(error.kind().to_string());
    let connected = timeout(CONNECT, TcpStream::connect(proxy)).await;
    let mut stream = connected.map_err(|_| Failed::proxy("no connection in time"))?.map_err(broken)?;
    // Version 5, one method: user name and password.
    stream.write_all(&[5, 1, 2]).await.map_err(broken)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(broken)?;
    if chosen != [5, 2] {
        return Err(Failed::proxy("it does not take user names, so that circuits could not be kept apart"));
    }
    let mut credentials = vec![1, length(user.len())?];
    credentials.extend_from_slice(user.as_bytes());
    credentials.extend_from_slice(&[1, b'-']);
    stream.write_all(&credentials).await.map_err(broken)?;
    let mut accepted = [0; 2];
    stream.read_exact(&mut accepted).await.map_err(broken)?;
    if accepted[1] != 0 {
        return Err(Failed::proxy("it refused the user name"));
    }
    // CONNECT to a name.
    let mut request = vec![5, 1, 0, 3, length(host.len())?];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await.map_err(broken)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(broken)?;
    if head[0] != 5 {
        return Err(Failed::proxy("it does not speak SOCKS5"));
    }
    if head[1] != 0 {
        return Err(Failed { why: refusal(head[1]), proxy: false });
    }
    // The address that it is bound to is of no use.
    let rest = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(broken)?),
        _ => return Err(Failed::proxy("it answered with an unknown kind of address")),
    };
    let mut bound = [0; 257];
    stream.read_exact(&mut bound[..rest + 2]).await.map_err(broken)?;
    Ok(stream)
}

fn length(bytes: usize) -> Result<u8, Failed> {
    u8::try_from(bytes).map_err(|_| Failed { why: "the name is too long for SOCKS".to_owned(), proxy: false })
}

/// The codes of RFC 1928, and those that Tor adds for onion services.
fn refusal(code: u8) -> String {
    let text = match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "it took too long",
        0xf0 => "the onion service has no descriptor",
        0xf1 => "the onion service's descriptor is invalid",
        0xf2 => "introduction to the onion service failed",
        0xf3 => "meeting the onion service failed",
        0xf4 => "the onion service asks for a key, which only the Tor in this process can show",
        0xf5 => "the key for the onion service is wrong",
        0xf6 => "the onion address is invalid",
        0xf7 => "introduction to the onion service took too long",
        _ => "it was refused",
    };
    format!("through the SOCKS proxy: {text}")
}

/// The proxy is on this machine.
const CONNECT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy for one stream: what it was asked, and what it then echoes.
    async fn proxy(answer: u8) -> (SocketAddr, tokio::task::JoinHandle<(Vec<u8>, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).await.unwrap();
            assert_eq!(greeting, [5, 1, 2]);
            stream.write_all(&[5, 2]).await.unwrap();
            let mut user = vec![0; 2];
            stream.read_exact(&mut user).await.unwrap();
            let mut name = vec![0; usize::from(user[1])];
            stream.read_exact(&mut name).await.unwrap();
            let mut password = [0; 2];
            stream.read_exact(&mut password).await.unwrap();
            stream.write_all(&[1, 0]).await.unwrap();
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            let mut target = vec![0; usize::from(head[4]) + 2];
            stream.read_exact(&mut target).await.unwrap();
            stream.write_all(&[5, answer, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            let mut byte = [0; 1];
            if stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
            (name, target)
        });
        (address, served)
    }

    #[tokio::test]
    async fn a_name_goes_to_the_proxy_as_it_is_under_the_users_name() {
        let (address, served) = proxy(0).await;
        let (socks, isolation) = (Socks::new(address), Isolation::fresh());
        let mut stream = socks.connect("somewhere.onion", 7448, &isolation, &[]).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        let (user, target) = served.await.unwrap();
        assert_eq!(user, isolation.user().as_bytes());
        assert_eq!(target, [b"somewhere.onion".as_slice(), &7448_u16.to_be_bytes()].concat());
        assert_ne!(Isolation::fresh().user(), isolation.user());
        assert_eq!(socks.status(), TorStatus { state: TorState::Proxy, percent: 100, why: None });
    }

    #[tokio::test]
    async fn what_the_proxy_refuses_is_said_in_words() {
        let (address, _served) = proxy(0xf0).await;
        let socks = Socks::new(address);
        let refused = socks.connect("gone.onion", 1, &Isolation::fresh(), &[]).await.err().unwrap();
        assert!(refused.to_string().contains("no descriptor"), "{refused}");
        assert_eq!(socks.status().why, None);
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_shows_in_the_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let socks = Socks::new(address);
        assert!(socks.connect("somewhere.onion", 1, &Isolation::fresh(), &[]).await.is_err());
        assert!(socks.status().why.unwrap().contains("proxy"));
    }
}
