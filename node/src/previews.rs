//! URL previews (client-server API, "Content repository"): what a page says about itself (OpenGraph), with its picture as a
//! file of ours. Off until the owner turns them on: asking for a page tells its server that somebody here has read the link.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{Request, StatusCode, Uri, header};
use millpond_store::{job, rows::Preview, tables};
use ruma::api::error::ErrorKind;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    Core, Error,
    egress::{EgressError, Limits},
    media::{Label, Media},
};

mod page;

/// Previews. Cloning is cheap.
#[derive(Clone)]
pub struct Previews {
    core: Core,
    media: Media,
    /// Pages that are being asked for.
    turns: Arc<Semaphore>,
}

/// What came from a URL.
struct Fetched {
    /// Where it came from, after redirects.
    url: Uri,
    content_type: String,
    body: Bytes,
}

impl Previews {
    /// The service over `core`.
    pub fn new(core: Core, media: Media) -> Self {
        Self { core, media, turns: Arc::new(Semaphore::new(TURNS)) }
    }

    /// What is known about a URL, as a JSON object. Dropping the future gives the question up.
    ///
    /// # Errors
    /// 403 where previews are off or the address is not on the public internet, 400 for what is no URL of a page, 502 where
    /// nothing came, storage errors.
    pub async fn preview(&self, url: &str) -> Result<Vec<u8>, Error> {
        if !self.core.config().url_previews {
            return Err(Error::forbidden("URL previews are off here: the owner of this node can turn them on"));
        }
        let url = checked(url)?;
        if let Some(known) = self.known(&url)? {
            return Ok(known.into_bytes());
        }
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| Error::internal("previews are closed"))?;
        // Who waited finds what the one before fetched.
        if let Some(known) = self.known(&url)? {
            return Ok(known.into_bytes());
        }
        let (json, media_id) = self.fetch_preview(&url).await?;
        let body = Value::Object(json).to_string();
        let row = Preview { fetched_at_ms: self.core.clock().now_ms(), json: body.clone(), media_id };
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.put(tables::PREVIEWS, &url, &row));
        self.core.write(write).await?;
        Ok(body.into_bytes())
    }

    fn known(&self, url: &str) -> Result<Option<String>, Error> {
        let row = self.core.snapshot()?.view().get(tables::PREVIEWS, url)?;
        let now_ms = self.core.clock().now_ms();
        Ok(row.filter(|row| now_ms.saturating_sub(row.fetched_at_ms) < FRESH_MS).map(|row| row.json))
    }

    async fn fetch_preview(&self, url: &str) -> Result<(Map<String, Value>, Option<String>), Error> {
        let url: Uri = url.parse().map_err(|_| not_a_url())?;
        let found = self.fetch(&url, "text/html,application/xhtml+xml,image/*;q=0.8,*/*;q=0.1").await?;
        if found.content_type.starts_with("image/") {
            let mut json = Map::new();
            let media_id = self.keep_picture(&mut json, found).await?;
            return Ok((json, media_id));
        }
        if !["text/html", "application/xhtml+xml"].contains(&&*found.content_type) {
            return Ok((Map::new(), None));
        }
        let mut json = page::open_graph(&found.body);
        let mut media_id = None;
        if let Some(Value::String(picture)) = json.remove("og:image")
            && let Some(picture) = page::absolute(&found.url, &picture)
        {
            // A page is worth showing without its picture too.
            match self.fetch(&picture, "image/*").await {
                Ok(found) if found.content_type.starts_with("image/") => {
                    media_id = self.keep_picture(&mut json, found).await?;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the picture of a preview could not be fetched"),
            }
        }
        Ok((json, media_id))
    }

    /// Asks a URL, and reads as much as a preview may need.
    async fn fetch(&self, url: &Uri, accept: &str) -> Result<Fetched, Error> {
        let request = Request::get(url).header(header::ACCEPT, accept).body(Bytes::new());
        let request = request.map_err(|_| not_a_url())?;
        let answer = self.core.egress().open(request, LIMITS).await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(gone(format!("the page's server answers {}", answer.status().as_u16())));
        }
        let url = answer.extensions().get::<Uri>().unwrap_or(url).clone();
        let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let content_type = content_type.trim().to_ascii_lowercase();
        // What a page says about itself stands at its beginning; a picture is needed whole.
        let enough = if content_type.starts_with("image/") { usize::MAX } else { PAGE_MAX };
        let (mut body, mut chunks) = (BytesMut::new(), answer.into_body());
        while body.len() < enough
            && let Some(chunk) = chunks.next().await
        {
            body.extend_from_slice(&chunk.map_err(failed)?);
        }
        Ok(Fetched { url, content_type, body: body.freeze() })
    }

    /// Keeps a picture as a file of ours and says what it is; nothing for what is no picture.
    async fn keep_picture(&self, json: &mut Map<String, Value>, found: Fetched) -> Result<Option<String>, Error> {
        let size = page::dimensions(&found.body);
        let Some((width, height)) = size else { return Ok(None) };
        let len = found.body.len();
        let label = Label { content_type: Some(found.content_type.clone()), filename: None };
        let uri = match self.media.keep(label, found.body).await {
            Ok(uri) => uri,
            Err(Error::Matrix { kind: ErrorKind::TooLarge, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok((_, media_id)) = uri.parts() else { return Ok(None) };
        json.insert("og:image".to_owned(), json!(uri));
        json.insert("og:image:type".to_owned(), json!(found.content_type));
        json.insert("og:image:width".to_owned(), json!(width));
        json.insert("og:image:height".to_owned(), json!(height));
        json.insert("matrix:image:size".to_owned(), json!(len));
        Ok(Some(media_id.to_owned()))
    }

    /// Forgets old previews, at start and every hour, until it is stopped.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.forget_old().await?;
            let _ = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
        Ok(())
    }

    /// Forgets previews that are old or beyond the number that is kept, with their pictures. Dropping the future leaves the
    /// rest for another time.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn forget_old(&self) -> Result<(), Error> {
        let mut rows = Vec::new();
        for row in self.core.snapshot()?.view().scan(tables::PREVIEWS, ())? {
            let (url, row) = row?;
            rows.push((row.fetched_at_ms, url, row.media_id));
        }
        rows.sort();
        let oldest = self.core.clock().now_ms().saturating_sub(KEPT_MS);
        let beyond = rows.len().saturating_sub(KEPT_MAX);
        for (n, (fetched_at_ms, url, media_id)) in rows.into_iter().enumerate() {
            if n >= beyond && fetched_at_ms >= oldest {
                break;
            }
            let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.remove(tables::PREVIEWS, &url));
            self.core.write(write).await?;
            if let Some(media_id) = media_id {
                self.media.remove(self.core.identity().server_name(), &media_id).await?;
            }
        }
        Ok(())
    }
}

/// A URL that can be asked, without its fragment.
fn checked(url: &str) -> Result<String, Error> {
    let url = url.split('#').next().unwrap_or_default();
    let parsed: Uri = url.parse().map_err(|_| not_a_url())?;
    let fits = matches!(parsed.scheme_str(), Some("http" | "https")) && url.len() <= URL_MAX;
    let plain = parsed.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if fits && plain { Ok(url.to_owned()) } else { Err(not_a_url()) }
}

fn not_a_url() -> Error {
    Error::invalid_param(format!("`url` must be an http or https URL without a password, of {URL_MAX} bytes at most"))
}

fn failed(error: EgressError) -> Error {
    match error {
        EgressError::Inside => Error::forbidden("no preview: the page is not on the public internet"),
        other => gone(format!("no preview: {other}")),
    }
}

fn gone(message: String) -> Error {
    Error::matrix(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
}

/// Of one request.
const LIMITS: Limits = Limits { time: Duration::from_secs(20), body: 10 << 20, redirects: 5, https_only: false };
/// Bytes of a page that are looked at.
const PAGE_MAX: usize = 1 << 20;
const URL_MAX: usize = 2_048;
/// Pages that are asked for at the same time.
const TURNS: usize = 4;
/// How often old ones are looked for.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a preview is given out again.
const FRESH_MS: u64 = 60 * 60 * 1000;
/// How long a preview is kept, since its picture may be on somebody's screen: two days.
const KEPT_MS: u64 = 48 * 60 * 60 * 1000;
/// Previews that are kept at most.
const KEPT_MAX: usize = 2_000;
