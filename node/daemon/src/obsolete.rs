//! Ends in order when the Tor network no longer supports this version of arti. arti then says so in its log and ends the process five seconds later; its
//! API tells nobody (arti issue 1932). So the log is listened to, and an ordered end takes less than those five seconds.

use tokio::sync::Notify;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

/// Arti's word is for the whole process, as its end is.
static HEARD: Notify = Notify::const_new();

/// Listens to the log.
pub(crate) struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        if *about.level() == Level::ERROR && about.target() == SPEAKER {
            HEARD.notify_one();
        }
    }
}

/// Waits until arti says it; what the user is told then. Safe to drop.
pub(crate) async fn heard() -> anyhow::Error {
    HEARD.notified().await;
    anyhow::anyhow!(
        "the Tor network no longer supports the Tor in this version of Millpond: update it. Until then `--tor off` runs without Tor, \
         where showing the IP address is acceptable"
    )
}

/// Where arti compares what it can do with what the network asks for; its errors are all of this kind.
const SPEAKER: &str = "arti_client::protostatus";

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        task::{Context as Poller, Poll, Waker},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn heard_by_now() -> Option<anyhow::Error> {
        match pin!(heard()).poll(&mut Poller::from_waker(Waker::noop())) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }

    #[test]
    fn artis_last_word_is_heard_and_nothing_else_is_taken_for_it() {
        let listening = tracing_subscriber::registry().with(Ear);
        tracing::subscriber::with_default(listening, || {
            tracing::error!(target: "arti_client::client", "something else");
            tracing::warn!(target: "arti_client::protostatus", "recommended only");
            assert!(heard_by_now().is_none());
            tracing::error!(target: "arti_client::protostatus", "At least one protocol is listed as required");
            let told = heard_by_now().expect("it was said");
            assert!(told.to_string().contains("update it"), "{told}");
        });
    }
}
