//! `/.well-known/matrix/server`: where a name delegates to, asked over HTTPS and remembered for as long as the answer's cache
//! headers say, within bounds (server-server spec, "Resolving server names", step 3).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use ruma::OwnedServerName;
use serde::Deserialize;

use crate::egress::{Egress, Limits};

/// For the file, which has some fifty bytes.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), body: 50 << 10, redirects: 5, https_only: true };
/// How long an answer holds without a word of its own, and at most; and how long it holds at least, so that a server that
/// wants no caching is not asked before every request.
const DEFAULT: Duration = Duration::from_secs(24 * 3600);
const LONGEST: Duration = Duration::from_secs(48 * 3600);
const SHORTEST: Duration = Duration::from_secs(300);
/// How long a failure holds: a server without delegation is common, and one that is down comes back.
const FAILED: Duration = Duration::from_secs(3600);
const UNREACHABLE: Duration = Duration::from_secs(120);
/// Names that are remembered; with more, the oldest answers go.
const MAX_KNOWN: usize = 10_000;

/// Asks, and remembers.
pub(super) struct WellKnown {
    egress: Egress,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    delegate: Option<OwnedServerName>,
    until: Instant,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "m.server")]
    server: OwnedServerName,
}

impl WellKnown {
    pub(super) fn new(egress: Egress) -> Self {
        Self { egress, known: Mutex::default() }
    }

    /// Where the host delegates to, if it does. Dropping the future gives the question up.
    pub(super) async fn delegate(&self, host: &str) -> Option<OwnedServerName> {
        let now = Instant::now();
        if let Some(known) = self.lock().get(host).filter(|known| known.until > now) {
            return known.delegate.clone();
        }
        let (delegate, lifetime) = self.ask(host).await;
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| known.until > now);
        }
        if known.len() < MAX_KNOWN {
            known.insert(host.to_owned(), Known { delegate: delegate.clone(), until: now + lifetime });
        }
        delegate
    }

    async fn ask(&self, host: &str) -> (Option<OwnedServerName>, Duration) {
        let request = Request::get(format!("https://{host}/.well-known/matrix/server"));
        let Ok(request) = request.body(Bytes::new()) else { return (None, FAILED) };
        let answer = match self.egress.send(request, LIMITS).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a server's .well-known could not be read");
                return (None, UNREACHABLE);
            }
        };
        if answer.status() != StatusCode::OK {
            return (None, FAILED);
        }
        match serde_json::from_slice::<File>(answer.body()) {
            Ok(file) => (Some(file.server), lifetime(answer.headers())),
            Err(_) => (None, FAILED),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        // A map of whole entries stays one whatever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an answer holds, by `Cache-Control`.
fn lifetime(headers: &HeaderMap) -> Duration {
    let control = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let words = control.split(',').map(str::trim);
    let mut lifetime = DEFAULT;
    for word in words {
        if word.eq_ignore_ascii_case("no-store") || word.eq_ignore_ascii_case("no-cache") {
            return SHORTEST;
        }
        if let Some(seconds) = word.strip_prefix("max-age=").and_then(|seconds| seconds.parse().ok()) {
            lifetime = Duration::from_secs(seconds);
        }
    }
    lifetime.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_as_long_as_it_says_within_bounds() {
        let of = |control: &str| lifetime(&HeaderMap::from_iter([(header::CACHE_CONTROL, control.parse().unwrap())]));
        assert_eq!(lifetime(&HeaderMap::new()), DEFAULT);
        assert_eq!(of("public, max-age=3600"), Duration::from_secs(3600));
        assert_eq!(of("max-age=999999999"), LONGEST);
        assert_eq!(of("max-age=0"), SHORTEST);
        assert_eq!(of("no-store"), SHORTEST);
    }
}
