//! Classic federation: HTTPS with homeservers that are found by the DNS (server-server spec). Only a node with a DNS name
//! has it, and only classic rooms use it: what goes out is an [`Outgoing`], and no event of an overlay room can become a
//! part of one (overlay.md section 6).
//!
//! ```text
//! Peers -> Outgoing -> [discovery: where] -> sign (X-Matrix) -> egress -> answer
//! TLS listener -> inbound: X-Matrix, keys -> Origin -> the one federation router
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use ruma::{
    ServerName,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
};

use crate::{
    Core,
    egress::{Body, Egress, EgressError, Limits},
};

mod discovery;
mod dns;
mod down;
mod inbound;
mod keys;
mod outgoing;
mod published;
mod ring;
mod sendable;
mod server_name;
mod well_known;

pub use self::{
    inbound::{Caller, Claim},
    outgoing::{About, Outgoing, Question},
    ring::KeyRing,
    sendable::{AnyPdu, ClassicRoom, OverlayRoom, Sendable},
};
pub(crate) use self::{
    keys::{Needed, needed},
    outgoing::{http_request, transaction_request},
    server_name::is_of_the_dns,
};
use discovery::{Discovery, Target};

/// Why a classic server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClassicError {
    /// This node has no classic federation.
    #[error("this node is named by its key and has no classic federation: it reaches nodes by links only")]
    Off,
    /// The name is of a form that the DNS does not know.
    #[error("{0} is not a name of the DNS")]
    NotOfTheDns(ruma::OwnedServerName),
    /// It did not answer lately.
    #[error("the server did not answer lately and is left alone for a while")]
    Down,
    /// It could not be asked, or what it sent is over the limits.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Our request cannot be signed: a bug.
    #[error("the request cannot be signed: {0}")]
    Signing(String),
}

/// Classic federation as a client. Cloning is cheap.
#[derive(Clone)]
pub struct Classic(Arc<Inner>);

struct Inner {
    core: Core,
    on: bool,
    discovery: Discovery,
    keys: keys::Fetching,
    callers: inbound::Callers,
    down: down::Down,
}

impl Classic {
    /// The service; it sends nothing unless the node has a DNS name and classic federation is set up.
    pub fn new(core: Core) -> Self {
        let on = core.identity().is_dns_named() && core.config().classic.is_some();
        let discovery = Discovery::new(core.egress().clone());
        Self(Arc::new(Inner {
            core,
            on,
            discovery,
            keys: keys::Fetching::default(),
            callers: inbound::Callers::default(),
            down: down::Down::default(),
        }))
    }

    /// Whether this node has classic federation.
    pub fn is_on(&self) -> bool {
        self.0.on
    }

    /// Whether a server is reached, if at all, by the classic route.
    pub fn reaches(&self, server: &ServerName) -> bool {
        self.is_on() && server_name::is_of_the_dns(server) && !self.0.core.identity().is_ours(server)
    }

    /// Whether a server did not answer lately: what can wait is not asked of it now.
    pub(crate) fn is_down(&self, server: &ServerName) -> bool {
        self.0.down.contains(server)
    }

    /// A server has asked us something, so it is there.
    pub(crate) fn is_up(&self, server: &ServerName) {
        self.0.down.note(server, true);
    }

    /// Sends a signed request and reads the whole answer of at most `most` bytes, whatever its status. Dropping the future gives the request up.
    ///
    /// # Errors
    /// [`ClassicError`]; a status is none.
    pub async fn send(
        &self,
        to: &ServerName,
        outgoing: Outgoing,
        patience: Duration,
        most: u64,
    ) -> Result<Response<Bytes>, ClassicError> {
        let (egress, request) = self.prepare(to, outgoing.into_request(), patience).await?;
        let limits = Limits { time: patience, body: most, redirects: 0, https_only: true };
        let answer = egress.send(request, limits).await;
        self.0.down.note(to, answer.is_ok());
        Ok(answer?)
    }

    /// As [`Classic::send`], with the body as it arrives, at most `most` bytes.
    ///
    /// # Errors
    /// As [`Classic::send`].
    pub async fn open(
        &self,
        to: &ServerName,
        outgoing: Outgoing,
        patience: Duration,
        most: u64,
    ) -> Result<Response<Body>, ClassicError> {
        let (egress, request) = self.prepare(to, outgoing.into_request(), patience).await?;
        let limits = Limits { time: patience, body: most, redirects: 0, https_only: true };
        Ok(egress.open(request, limits).await?)
    }

    /// Signs a request and addresses it.
    async fn prepare(
        &self,
        to: &ServerName,
        mut request: Request<Bytes>,
        patience: Duration,
    ) -> Result<(Egress, Request<Bytes>), ClassicError> {
        if !self.is_on() {
            return Err(ClassicError::Off);
        }
        let identity = self.0.core.identity();
        let input = XMatrixSigningInput::new(identity.server_name().to_owned(), to.to_owned(), identity.signing_key());
        let signed = XMatrix::sign_http_request(&request, input).map_err(|e| ClassicError::Signing(e.to_string()))?;
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from(&signed));
        self.address(to, request, patience).await
    }

    /// Finds out where a server is and puts that into the request. Nodes without classic federation come here for one thing:
    /// the key documents of nodes with a name in the DNS that are in overlay rooms with them.
    async fn address(
        &self,
        to: &ServerName,
        mut request: Request<Bytes>,
        patience: Duration,
    ) -> Result<(Egress, Request<Bytes>), ClassicError> {
        let target = tokio::time::timeout(patience, self.0.discovery.find(to));
        let target = target.await.map_err(|_| EgressError::TimedOut)??;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let url = format!("https://{}{path}", target.authority);
        *request.uri_mut() = url.parse().map_err(|_| EgressError::Refused("the server name makes no URL"))?;
        let Target { egress, .. } = target;
        Ok((egress, request))
    }
}
