//! Requests that came over links: each is answered in a task of its own, a bounded number at a time.

use std::{collections::HashMap, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use millpond_node::{
    federation::{Door, Origin},
    links::Arrival,
    peers::Peers,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::drain;
use crate::App;

/// Requests of all peers at once; more wait in the overlay's queue, which pushes back on the links.
const MAX_REQUESTS: usize = 256;
/// Of one peer; it is told to send more later. So many it may have open on one stream.
const MAX_OF_PEER: usize = 64;
/// Peers that are counted; those with nothing open are forgotten beyond this.
const MAX_COUNTED: usize = 1024;

pub(super) async fn accept(mut arrivals: mpsc::Receiver<Arrival>, (app, names): (App, Peers), stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut turns = Turns::default();
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let next = async { (slots.clone().acquire_owned().await, arrivals.recv().await) };
        let Some((Ok(slot), Some(arrival))) = stop.run_until_cancelled(next).await else { break };
        let Arrival::Request { peer, class, request, reply } = arrival;
        let Some(turn) = turns.take(peer.as_str()) else {
            // If the peer has given up, nobody reads this.
            let _ = reply.send(refusal(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", BUSY));
            continue;
        };
        let (app, names) = (app.clone(), names.clone());
        running.spawn(async move {
            match names.sender(&peer).await {
                Ok(Some(server)) => answer(&app, Origin { server, door: Door::Link(class) }, request, reply).await,
                Ok(None) => drop(reply.send(refusal(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", UNPROVEN))),
                // Dropping the reply answers 503.
                Err(error) => tracing::error!(%error, "who asks over a link cannot be read"),
            }
            drop((slot, turn));
        });
    }
    drain(running).await;
}

async fn answer(app: &App, origin: Origin, request: Request<Bytes>, mut reply: oneshot::Sender<Response<Bytes>>) {
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(origin);
    let answered = async {
        let (parts, body) = app.answer(request).await.into_parts();
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(_) => {
                let mut failed = Response::new(Bytes::new());
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }
        }
    };
    let response = tokio::select! {
        // The peer has given up: nobody needs the answer.
        () = reply.closed() => return,
        response = answered => response,
    };
    // If he gives up now, he asks again.
    let _ = reply.send(response);
}

/// What each peer may still ask at once.
#[derive(Default)]
struct Turns(HashMap<String, Arc<Semaphore>>);

impl Turns {
    fn take(&mut self, peer: &str) -> Option<OwnedSemaphorePermit> {
        if self.0.len() >= MAX_COUNTED {
            self.0.retain(|_, turns| turns.available_permits() < MAX_OF_PEER);
        }
        let turns = self.0.entry(peer.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MAX_OF_PEER)));
        turns.clone().try_acquire_owned().ok()
    }
}

const BUSY: &str = "Too many requests at once: send it again later";
const UNPROVEN: &str =
    "The name of your node in the DNS is not proven here yet: its key document there is fetched; ask again later";

fn refusal(status: StatusCode, errcode: &str, error: &str) -> Response<Bytes> {
    let body = serde_json::json!({ "errcode": errcode, "error": error }).to_string();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
