//! Linked servers as the source of profiles and media of their users.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use http::{StatusCode, header};
use millpond_overlay::RouteError;
use millpond_store::tables;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, ServerName, UserId,
    api::{
        Direction,
        error::ErrorKind,
        federation::{
            authenticated_media::{FileOrLocation, get_content},
            directory::{get_public_rooms, get_public_rooms_filtered},
            event::get_event_by_timestamp,
            policy::sign_event,
            query::get_profile_information,
        },
    },
    events::room::policy::POLICY_SERVER_ED25519_SIGNING_KEY_ID,
    http_headers::ContentDisposition,
    profile::UserProfile,
};

use super::{PATIENCE, PeerError, Peers, Route, route};
use crate::{
    Error,
    classic::{AnyPdu, ClassicError, Question},
    directory::{Listing, ListingRequest},
    egress::{EgressError, Limits},
    media::{Label, MediaSource, RemoteMedia},
    profile::ProfileSource,
    rooms::{Endorser, rows},
    timeline::{Elsewhere, Timed},
};

impl Peers {
    /// A page of another server's public list.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn public_rooms(&self, server: &ServerName, request: &ListingRequest) -> Result<Listing, Error> {
        let (limit, since) = (request.limit, request.since.clone());
        if request.term.is_none() && request.room_types.is_empty() {
            let mut question = get_public_rooms::v1::Request::new();
            (question.limit, question.since) = (limit, since);
            let answer = self.ask(server, question, PATIENCE).await?;
            let (next_batch, prev_batch) = (answer.next_batch, answer.prev_batch);
            let total = answer.total_room_count_estimate.unwrap_or_default();
            return Ok(Listing { chunk: answer.chunk, next_batch, prev_batch, total });
        }
        let mut question = get_public_rooms_filtered::v1::Request::new();
        (question.limit, question.since) = (limit, since);
        question.filter.generic_search_term = request.term.clone();
        question.filter.room_types = request.room_types.clone();
        let answer = self.ask(server, question, PATIENCE).await?;
        let total = answer.total_room_count_estimate.unwrap_or_default();
        Ok(Listing { chunk: answer.chunk, next_batch: answer.next_batch, prev_batch: answer.prev_batch, total })
    }
}

/// Bytes around a file in the answer that carries it: boundaries, headers, metadata.
const AROUND_A_FILE: u64 = 64 << 10;

/// How long somebody is waited for of whom a stream is not open.
const AWAKE: Duration = Duration::from_secs(3);

impl Peers {
    /// Whether a stream with a server is open, or opens now.
    pub(crate) async fn is_awake(&self, server: &ServerName) -> bool {
        self.is_there(server, AWAKE).await
    }

    /// Whether a stream with a server is open, or opens within a time.
    pub(crate) async fn is_there(&self, server: &ServerName, patience: Duration) -> bool {
        self.is_connected(server) || self.links.connect(server, patience).await.is_ok()
    }
}

fn asleep() -> Error {
    not_yet("the node that has this file is not there: it is fetched as soon as it is back")
}

fn not_yet(message: &str) -> Error {
    Error::matrix(StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded, message)
}

fn too_large() -> Error {
    let message = "the file is larger than this node keeps, or than the other server gives";
    Error::matrix(StatusCode::BAD_GATEWAY, ErrorKind::TooLarge, message)
}

impl ProfileSource for Peers {
    fn profile<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<UserProfile, Error>> {
        async move {
            let request = get_profile_information::v1::Request::new(user.to_owned());
            match self.ask(user.server_name(), request, PATIENCE).await {
                Ok(answer) => Ok(answer.data),
                // Without a link nothing is known of anybody there.
                Err(PeerError::Route(RouteError::NoLink)) => {
                    Err(Error::not_found(format!("nothing is known of {user}: there is no link with that server")))
                }
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }
}

impl MediaSource for Peers {
    fn fetch<'a>(
        &'a self,
        server: &'a ServerName,
        media_id: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<RemoteMedia, Error>> {
        async move {
            if self.is_linked(server)? && self.mail_room(server).is_none() && !self.is_awake(server).await {
                return Err(asleep());
            }
            // A file is whole in memory on its way: a few at a time.
            let turn = self.files.acquire().await;
            let _turn = turn.map_err(|_| Error::internal("the queue of files is closed"))?;
            let mut request = get_content::v1::Request::new(media_id.to_owned());
            request.timeout_ms = patience;
            // What the client would wait for is the upload. The way here takes time of its own.
            let patience = patience + PATIENCE;
            let most = self.core.config().max_upload_bytes.saturating_add(AROUND_A_FILE);
            let answer = self.ask_for(server, request, patience, most).await;
            let answer = answer.map_err(|error| self.no_file(server, error))?;
            let content = match answer.content {
                FileOrLocation::File(content) => content,
                FileOrLocation::Location(place) => return self.file_at(server, &place, patience).await,
                _ => return Err(Error::bad_gateway("the other server answers neither with a file nor with its place")),
            };
            let filename = content.content_disposition.and_then(|disposition| disposition.filename);
            let label = Label { content_type: content.content_type, filename };
            Ok(RemoteMedia { label, body: stream::once(async { Ok(Bytes::from(content.file)) }).boxed() })
        }
        .boxed()
    }
}

impl Peers {
    /// What a client is told when a file does not come (client-server spec, "Content repository").
    fn no_file(&self, server: &ServerName, error: PeerError) -> Error {
        match error {
            PeerError::Route(RouteError::TooLarge { .. })
            | PeerError::Classic(ClassicError::Egress(EgressError::TooLarge(_))) => too_large(),
            PeerError::Route(RouteError::NoLink) => error.into(),
            PeerError::Route(_) | PeerError::Later => asleep(),
            // Too large for an envelope: it comes when the two meet.
            PeerError::Refused { status: 413, .. } if self.asks_by_mail(server) => asleep(),
            PeerError::Refused { code, status, message } => match code.as_deref() {
                Some("M_NOT_YET_UPLOADED") => not_yet("the file is not uploaded yet: try again later"),
                Some("M_TOO_LARGE") => too_large(),
                _ if matches!(status, 403 | 404) => PeerError::Refused { code, status, message }.into(),
                _ => Error::bad_gateway(format!("the other server does not give the file: {status} {message}")),
            },
            PeerError::Classic(ClassicError::Egress(EgressError::TimedOut)) | PeerError::NotForClassic => error.into(),
            PeerError::Classic(_) | PeerError::Malformed(_) => Error::bad_gateway(error.to_string()),
        }
    }

    /// A file that a classic server keeps in another place (server-server spec, "Content Repository"). It is fetched from the
    /// public internet only, without telling who asks; what a linked node keeps, it keeps itself.
    async fn file_at(&self, server: &ServerName, place: &str, patience: Duration) -> Result<RemoteMedia, Error> {
        if self.is_linked(server)? {
            return Err(Error::bad_gateway("the other node names another place for the file; it is not fetched"));
        }
        let elsewhere =
            |why: String| Error::bad_gateway(format!("the file is kept elsewhere, and cannot be had: {why}"));
        let request = http::Request::get(place).body(Bytes::new()).map_err(|e| elsewhere(e.to_string()))?;
        let limits = Limits { time: patience, body: get_content::v1::Request::MOST, redirects: 3, https_only: true };
        let answer = self.core.egress().open(request, limits).await.map_err(|e| elsewhere(e.to_string()))?;
        if !answer.status().is_success() {
            return Err(elsewhere(format!("status {}", answer.status())));
        }
        let (head, body) = answer.into_parts();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let disposition = text(header::CONTENT_DISPOSITION).and_then(|text| text.parse::<ContentDisposition>().ok());
        let label = Label {
            content_type: text(header::CONTENT_TYPE).map(str::to_owned),
            filename: disposition.and_then(|disposition| disposition.filename),
        };
        let body = body.map_err(|e| Error::bad_gateway(format!("the file broke off: {e}"))).boxed();
        Ok(RemoteMedia { label, body })
    }
}

impl Endorser for Peers {
    fn endorse<'a>(&'a self, via: &'a ServerName, pdu: AnyPdu) -> BoxFuture<'a, Result<String, Error>> {
        async move {
            let answer =
                self.bring(via, pdu, sign_event::v1::Request::new, PATIENCE).await.map_err(|error| match error {
                    // It may hide behind any of these that it refuses.
                    PeerError::Refused { status, message, .. } if (400..500).contains(&status) && status != 429 => {
                        Error::forbidden(format!("the policy server of this room refuses the event: {message}"))
                    }
                    other => other.into(),
                })?;
            let signatures = serde_json::to_value(&answer.signatures).unwrap_or_default();
            let signature =
                signatures.get(via.as_str()).and_then(|keys| keys.get(POLICY_SERVER_ED25519_SIGNING_KEY_ID)?.as_str());
            let missing = || Error::unreachable("the policy server of this room answered without a signature");
            signature.map(str::to_owned).ok_or_else(missing)
        }
        .boxed()
    }
}

impl Elsewhere for Peers {
    fn event_of_time<'a>(
        &'a self,
        room_id: &'a RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        dir: Direction,
    ) -> BoxFuture<'a, Result<Option<Timed>, Error>> {
        async move {
            for server in self.askable_members(room_id)? {
                let request = get_event_by_timestamp::v1::Request::new(room_id.to_owned(), ts, dir);
                match self.ask(&server, request, PATIENCE).await {
                    Ok(answer) => return Ok(Some((answer.event_id, answer.origin_server_ts))),
                    Err(error) => tracing::debug!(%error, "a server did not know the event of a time"),
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

impl Peers {
    /// The first few servers in a room that may be asked about it, those with a link first.
    fn askable_members(&self, room_id: &RoomId) -> Result<Vec<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((short, room)) = rows::room(view, room_id)? else { return Ok(Vec::new()) };
        let (mut linked, mut classic) = (Vec::new(), Vec::new());
        for row in view.scan(tables::ROOM_SERVERS, (short,))? {
            let ((_, server), _) = row?;
            match route(view, self.core.identity(), &server)?.filter(|route| route.carries(&room)) {
                Some(Route::Link) => linked.push(server),
                Some(Route::Classic) if classic.len() < ASKED_MAX => classic.push(server),
                _ => {}
            }
            if linked.len() == ASKED_MAX {
                break;
            }
        }
        linked.extend(classic);
        linked.truncate(ASKED_MAX);
        Ok(linked)
    }
}

/// Servers that are asked the same.
const ASKED_MAX: usize = 3;
