//! Requests that came over links: each is answered in a task of its own, a bounded number at a time.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use millpond_node::links::Arrival;
use ruma::OwnedServerName;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::drain;
use crate::{App, glue::Peer};

/// Requests of all peers at once; more wait in the overlay's queue, which pushes back on the links.
const MAX_REQUESTS: usize = 64;

pub(super) async fn accept(mut arrivals: mpsc::Receiver<Arrival>, app: App, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let next = async { (slots.clone().acquire_owned().await, arrivals.recv().await) };
        let Some((Ok(slot), Some(arrival))) = stop.run_until_cancelled(next).await else { break };
        let Arrival::Request { peer, class, request, reply } = arrival;
        // A node's name is a server name by its form; dropping the reply answers 503.
        let Ok(server_name) = OwnedServerName::try_from(peer.as_str()) else { continue };
        let (app, peer) = (app.clone(), Peer { server_name, class });
        running.spawn(async move {
            answer(&app, peer, request, reply).await;
            drop(slot);
        });
    }
    drain(running).await;
}

async fn answer(app: &App, peer: Peer, request: Request<Bytes>, mut reply: oneshot::Sender<Response<Bytes>>) {
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(peer);
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
