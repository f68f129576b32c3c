//! The signing keys of classic servers: from our row while they are good, else from the server itself, else, if the settings
//! name notaries, from one of those. What does not answer is left alone for a while.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, StatusCode, header};
use millpond_mailbox::{key_document::prove_named, name::NodeName};
use millpond_matrix::signing::PublicKeySet;
use millpond_store::{job, rows::ServerKeys, tables};
use ruma::{OwnedServerName, ServerName, serde::Base64};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::sync::Semaphore;

use super::{Classic, KeyRing, published};
use crate::{Error, egress::Limits, peers::note_proof};

/// For a document, from which a peer or a join waits.
const PATIENCE: Duration = Duration::from_secs(6);
/// Documents fetched at once, for all that need some.
const MAX_FETCHING: usize = 24;
/// Between two questions to a server whose answer did not help, doubled each time up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(30);
const BACK_OFF_MAX: Duration = Duration::from_secs(3600);
/// Servers whose failures are remembered.
const MAX_ATTEMPTS: usize = 10_000;
/// Servers that are asked at the same time, at most one of each such number.
const TURNS: usize = 64;
/// Names that a node without classic federation asks for within an hour.
const MAX_NAMES: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);
/// Documents of one notary answer that are looked at.
const MAX_DOCUMENTS: usize = 8;

/// Which keys of a server are needed, and for what time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// The ids, as they stand in signatures.
    pub(crate) ids: Vec<String>,
    /// The latest time at which they must have been good.
    pub(crate) at_ms: u64,
}

/// What was asked lately.
pub(super) struct Fetching {
    slots: Semaphore,
    attempts: Mutex<HashMap<OwnedServerName, Attempt>>,
    /// When names were asked for without classic federation.
    names: Mutex<VecDeque<Instant>>,
    /// Who asks a server, by the hash of its name: others wait for what he gets.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

struct Attempt {
    failures: u32,
    not_before: Instant,
}

impl Default for Fetching {
    fn default() -> Self {
        Self {
            slots: Semaphore::new(MAX_FETCHING),
            attempts: Mutex::default(),
            names: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        }
    }
}

impl Fetching {
    /// Waits until nobody else asks a server.
    async fn turn(&self, server: &ServerName) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(server.as_str());
        self.turns[(hash % TURNS as u64) as usize].lock().await
    }

    /// Whether one more name may be asked for within the hour.
    fn takes_a_name(&self) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|asked| asked.elapsed() < HOUR);
        let free = names.len() < MAX_NAMES;
        if free {
            names.push_back(Instant::now());
        }
        free
    }

    fn may_ask(&self, server: &ServerName) -> bool {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(server).is_none_or(|attempt| attempt.not_before <= Instant::now())
    }

    /// Remembers how a question ended; whether its answer helped is known later, so each counts as one that did not.
    fn asked(&self, server: &ServerName, answered: bool) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if attempts.len() >= MAX_ATTEMPTS {
            attempts.retain(|_, attempt| attempt.not_before > now);
        }
        if attempts.len() >= MAX_ATTEMPTS {
            return;
        }
        let attempt = attempts.entry(server.to_owned()).or_insert(Attempt { failures: 0, not_before: now });
        let wait = if answered { BACK_OFF } else { BACK_OFF.saturating_mul(1 << attempt.failures.min(10)) };
        attempt.failures = if answered { 0 } else { attempt.failures.saturating_add(1) };
        attempt.not_before = now + wait.min(BACK_OFF_MAX);
    }
}

impl Classic {
    /// The keys of these servers, as far as they can be had. Dropping the future gives the questions up.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn keys(&self, servers: Vec<(OwnedServerName, Needed)>) -> Result<KeyRing, Error> {
        let fetched: Vec<_> = stream::iter(servers)
            .map(|(server, needed)| async move {
                let row = self.keys_of(&server, &needed).await;
                (server, row)
            })
            .buffer_unordered(MAX_FETCHING)
            .collect()
            .await;
        let mut ring = KeyRing::default();
        for (server, row) in fetched {
            add(&mut ring, &server, row?);
        }
        Ok(ring)
    }

    /// The keys of one server for a time.
    async fn keys_of(&self, server: &ServerName, needed: &Needed) -> Result<Option<ServerKeys>, Error> {
        let held = self.held_keys(server)?;
        if held.as_ref().is_some_and(|row| suffices(row, needed)) || self.0.core.identity().is_ours(server) {
            return Ok(held);
        }
        // A node without classic federation asks for the names of members of its rooms, and for few: a peer that invents
        // names must not make it call on all of them.
        let asks = self.is_on() || (self.0.keys.may_ask(server) && self.0.keys.takes_a_name());
        if !asks {
            return Ok(held);
        }
        self.refreshed_keys(server).await
    }

    /// Our row of a server's keys after it was asked again, unless it was asked lately.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn refreshed_keys(&self, server: &ServerName) -> Result<Option<ServerKeys>, Error> {
        // Who comes while it is asked waits for the answer: without it he would hold the server for one that gave none.
        let _turn = self.0.keys.turn(server).await;
        if self.0.keys.may_ask(server) {
            self.fetch_keys(server).await?;
        }
        self.held_keys(server)
    }

    /// Our row of a server's keys.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn held_keys(&self, server: &ServerName) -> Result<Option<ServerKeys>, Error> {
        let snapshot = self.0.core.snapshot()?;
        Ok(snapshot.view().get(tables::SERVER_KEYS, server)?)
    }

    /// Fetches a server's document, from itself or a notary, and keeps it; says whether there was one.
    async fn fetch_keys(&self, server: &ServerName) -> Result<bool, Error> {
        let slot = self.0.keys.slots.acquire().await;
        let _slot = slot.map_err(|_| Error::internal("the queue of key fetches is closed"))?;
        let own =
            self.fetch_document(server).await.and_then(|document| checked(server, &document).map(|it| (it, document)));
        let document = match own {
            Some((published, document)) => Some((published, prove_named(server.as_str(), document.as_bytes()).ok())),
            None => self.ask_notaries(server).await?.map(|published| (published, None)),
        };
        self.0.keys.asked(server, document.is_some());
        let Some((document, node)) = document else { return Ok(false) };
        self.keep_keys(server, document, node).await?;
        Ok(true)
    }

    /// Keeps the keys of a document that came from the server itself.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn keep_document(&self, server: &ServerName, document: &str) -> Result<(), Error> {
        match checked(server, document) {
            Some(published) => self.keep_keys(server, published, None).await,
            None => Ok(()),
        }
    }

    /// Whether this is a server's key document, by its own keys.
    pub(crate) fn is_document_of(&self, server: &ServerName, document: &str) -> bool {
        checked(server, document).is_some()
    }

    async fn ask_itself(&self, server: &ServerName) -> Option<published::Published> {
        checked(server, &self.fetch_document(server).await?)
    }

    /// A server's own document as it sends it, unchecked.
    pub(crate) async fn fetch_document(&self, server: &ServerName) -> Option<String> {
        let request = Request::get("/_matrix/key/v2/server").body(Bytes::new()).ok()?;
        self.unsigned(server, request, published::MAX_LEN).await
    }

    async fn ask_notaries(&self, server: &ServerName) -> Result<Option<published::Published>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }
        let Some(settings) = &self.0.core.config().classic else { return Ok(None) };
        let asked = json!({ "server_keys": { server.as_str(): {} } }).to_string();
        for notary in settings.notaries.iter().filter(|notary| *notary != server) {
            let Some(keys) = self.notary_keys(notary).await? else { continue };
            let request = Request::builder()
                .method(Method::POST)
                .uri("/_matrix/key/v2/query")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Bytes::from(asked.clone()));
            let Ok(request) = request else { continue };
            let Some(body) = self.unsigned(notary, request, MAX_DOCUMENTS * published::MAX_LEN).await else { continue };
            let Ok(answer) = serde_json::from_str::<Answer>(&body) else { continue };
            let documents = answer.server_keys.iter().take(MAX_DOCUMENTS);
            let mut checked = documents.filter_map(|json| published::Published::verify(server, json.get()).ok());
            if let Some(document) = checked.find(|document| document.is_signed_by(notary, &keys)) {
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// The keys of a notary, which must answer for itself.
    async fn notary_keys(&self, notary: &ServerName) -> Result<Option<PublicKeySet>, Error> {
        let now_ms = self.0.core.clock().now_ms();
        let mut row = self.held_keys(notary)?;
        if row.as_ref().is_none_or(|row| row.valid_until_ms < now_ms) {
            if let Some(document) = self.ask_itself(notary).await {
                self.keep_keys(notary, document, None).await?;
            }
            row = self.held_keys(notary)?;
        }
        let good = row.into_iter().flat_map(|row| row.keys).filter(|(_, key)| key.until_ms >= now_ms);
        let keys: PublicKeySet = good.filter_map(|(id, key)| Some((id, Base64::parse(key.key).ok()?))).collect();
        Ok((!keys.is_empty()).then_some(keys))
    }

    async fn unsigned(&self, server: &ServerName, request: Request<Bytes>, most: usize) -> Option<String> {
        let (egress, request) = self.address(server, request, PATIENCE).await.ok()?;
        let limits = Limits { time: PATIENCE, body: most as u64, redirects: 0, https_only: true };
        let answer = egress.send(request, limits).await;
        let answer =
            answer.inspect_err(|error| tracing::debug!(%error, "a server's keys could not be fetched")).ok()?;
        (answer.status() == StatusCode::OK).then(|| String::from_utf8(answer.into_body().into()).ok()).flatten()
    }

    /// Keeps the keys of a server, and which node it is if its document shows that.
    async fn keep_keys(
        &self,
        server: &ServerName,
        document: published::Published,
        node: Option<NodeName>,
    ) -> Result<(), Error> {
        let (key, now_ms) = (server.to_owned(), self.0.core.clock().now_ms());
        let view_key = key.clone();
        let write = job(
            move |view| Ok::<_, Error>(view.get(tables::SERVER_KEYS, &*view_key)?),
            move |before: Option<ServerKeys>, txn| {
                txn.put(tables::SERVER_KEYS, &*key, &document.clone().into_row(before, now_ms))?;
                match &node {
                    Some(node) => note_proof(txn, node, &key, now_ms).map(drop),
                    None => Ok(()),
                }
            },
        );
        self.0.core.write(write).await?;
        Ok(())
    }
}

/// A document, if it is of that server and holds.
fn checked(server: &ServerName, document: &str) -> Option<published::Published> {
    published::Published::verify(server, document)
        .inspect_err(|why| tracing::debug!(why, "a server's key document was refused"))
        .ok()
}

/// Whether a row has all that is needed, good at that time.
fn suffices(row: &ServerKeys, needed: &Needed) -> bool {
    let good = |id: &String| row.keys.get(id).is_some_and(|key| key.expired || key.until_ms >= needed.at_ms);
    !needed.ids.is_empty() && needed.ids.iter().any(good)
}

fn add(ring: &mut KeyRing, server: &ServerName, row: Option<ServerKeys>) {
    for (id, key) in row.into_iter().flat_map(|row| row.keys) {
        if let Ok(public) = Base64::parse(key.key) {
            ring.add(server, &id, public, key.until_ms);
        }
    }
}

/// What is needed of each server for a number of events.
pub(crate) fn needed(
    needs: impl IntoIterator<Item = (BTreeMap<OwnedServerName, Vec<String>>, u64)>,
) -> BTreeMap<OwnedServerName, Needed> {
    let mut all: BTreeMap<OwnedServerName, Needed> = BTreeMap::new();
    for (servers, at_ms) in needs {
        for (server, ids) in servers {
            let needed = all.entry(server).or_default();
            needed.at_ms = needed.at_ms.max(at_ms);
            for id in ids {
                if !needed.ids.contains(&id) {
                    needed.ids.push(id);
                }
            }
        }
    }
    all
}
