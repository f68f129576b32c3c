//! Requests for a part of a file, or for news of it only (RFC 9110, sections 13 and 14).

use std::ops::Range;

use axum::body::Body;
use http::{
    HeaderMap, Request,
    header::{IF_NONE_MATCH, IF_RANGE, RANGE},
};
use millpond_node::{Error, NodeHandle};
use ruma::api::{IncomingRequest, Metadata};

use super::{Args, Arguments, Routed, Scheme};

/// A request whose answer may be a part of a file.
pub struct Ranged<R: Metadata<Authentication: Scheme>> {
    /// The request.
    pub args: Args<R>,
    /// What of the file is asked for.
    pub part: Part,
}

/// What of a file is asked for.
#[derive(Debug, Default)]
pub struct Part {
    range: Option<String>,
    known: Option<String>,
}

impl<R> Routed for Ranged<R>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    type Request = R;
}

impl<R> Arguments for Ranged<R>
where
    R: IncomingRequest + Metadata<Authentication: Scheme> + Send,
{
    async fn read(node: &NodeHandle, request: Request<Body>) -> Result<Self, Error> {
        let part = Part::of_headers(request.headers());
        Ok(Self { args: Args::read(node, request).await?, part })
    }
}

impl Part {
    fn of_headers(headers: &HeaderMap) -> Self {
        let text =
            |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).map(str::to_owned);
        // Content never changes here, so a matching If-Range is as good as none; a stale one asks for the whole.
        let range = if headers.contains_key(IF_RANGE) { None } else { text(RANGE) };
        Self { range, known: text(IF_NONE_MATCH) }
    }

    /// Whether the client says that it has the file with this entity tag.
    pub fn has(&self, tag: &str) -> bool {
        let Some(known) = &self.known else { return false };
        known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
    }

    /// The bytes asked for of a file of this size: `None` for all, `Some(None)` for bytes that it does not have. Several
    /// ranges at once are answered with the whole file, as the RFC allows.
    pub fn of(&self, len: u64) -> Option<Option<Range<u64>>> {
        let (first, last) = self.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
        let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(len),
            (Ok(first), Err(_)) if last.trim().is_empty() => first..len,
            (Err(_), Ok(suffix)) if first.trim().is_empty() => len.saturating_sub(suffix)..len,
            _ => return None,
        };
        Some((range.start < range.end).then_some(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str) -> Option<Option<Range<u64>>> {
        Part { range: Some(range.to_owned()), known: None }.of(100)
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(of("bytes=0-9"), Some(Some(0..10)));
        assert_eq!(of("bytes=90-"), Some(Some(90..100)));
        assert_eq!(of("bytes=-10"), Some(Some(90..100)));
        assert_eq!(of("bytes=50-1000"), Some(Some(50..100)));
        assert_eq!(of("bytes=100-"), Some(None));
        assert_eq!(of("bytes=0-1,5-6"), None);
        assert_eq!(of("bytes=9-0"), None);
        assert_eq!(of("lines=0-9"), None);
        assert_eq!(Part::default().of(100), None);
    }

    #[test]
    fn a_known_tag_is_found_in_a_list() {
        let part = Part { range: None, known: Some("\"a\", W/\"b\"".to_owned()) };
        assert!(part.has("\"a\"") && part.has("\"b\"") && !part.has("\"c\""));
    }
}
