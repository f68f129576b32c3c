//! Opening a stream to a peer: try his addresses, prove the link, begin HTTP. The peer's addresses come from the peer, so nothing here trusts them:
//! whoever answers without the link's secret is an address that failed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millpond_mailbox::discovery::DiscoverySecret;
use tokio::time::{sleep, timeout};

use crate::error::RouteError;
use crate::limits::Limits;
use crate::secure::{self, HandshakeError, Knock, SecureStream};
use crate::transport::{Address, Transport};

/// One address to try, and what carries it.
pub(super) struct Candidate {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) address: Address,
    /// What finds it there.
    pub(super) keys: Arc<[DiscoverySecret]>,
}

/// A stream that has proven the link.
pub(super) struct Reached {
    pub(super) stream: SecureStream,
    pub(super) route: &'static str,
    pub(super) address: Address,
}

/// Tries the candidates in order, a new one whenever one fails or takes long; the first that proves the link wins. Dropping the future drops all dials.
pub(super) async fn reach(
    candidates: Vec<Candidate>,
    knock: Knock,
    limits: Arc<Limits>,
) -> Result<Reached, RouteError> {
    let mut waiting: VecDeque<Candidate> = candidates.into();
    let mut running = FuturesUnordered::new();
    let mut refused = false;
    loop {
        if running.is_empty() {
            match waiting.pop_front() {
                Some(candidate) => running.push(attempt(candidate, &knock, &limits)),
                None if refused => return Err(RouteError::Refused),
                None => return Err(RouteError::Unreachable),
            }
        }
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(reached) => return Ok(reached),
                Err(error) => {
                    refused |= error == HandshakeError::Refused;
                    if let Some(candidate) = waiting.pop_front() {
                        running.push(attempt(candidate, &knock, &limits));
                    }
                }
            },
            () = sleep(STAGGER), if !waiting.is_empty() => {
                if let Some(candidate) = waiting.pop_front() {
                    running.push(attempt(candidate, &knock, &limits));
                }
            }
        }
    }
}

async fn attempt(candidate: Candidate, knock: &Knock, limits: &Limits) -> Result<Reached, HandshakeError> {
    let Candidate { transport, address, keys } = candidate;
    let within = transport.patience().unwrap_or(limits.dial);
    let io = timeout(within, transport.dial_with(&address, &keys)).await.map_err(|_| HandshakeError::Timeout)?;
    let io = io.map_err(|error| {
        tracing::debug!(%error, route = transport.route(), "a dial failed");
        // Nobody there, or somebody who is not one of us: either way not a word from the peer.
        HandshakeError::Timeout
    })?;
    let stream = secure::dial(io, knock, limits.handshake).await?;
    Ok(Reached { stream, route: transport.route(), address })
}

/// What one address has for itself before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
