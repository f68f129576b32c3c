//! `/sync`: what a device has not seen yet, as one JSON body spliced from stored bytes, at once or as soon as there is
//! something.

mod account_data;
mod answer;
mod away;
mod devices;
mod ephemeral;
mod heads;
mod joined;
mod lazy;
mod presence;
pub mod sliding;
mod state;
mod summary;
pub(crate) mod token;
mod unread;

use std::time::Duration;

use millpond_store::Position;
use ruma::{DeviceId, UserId, api::client::filter::FilterDefinition};
use tokio::time::Instant;

use self::{
    answer::{Answer, Sweep},
    heads::Heads,
    lazy::SentMembers,
    token::Token,
};
use crate::{Core, Error, filters, presence::Presence, push::Push, typing::Typing};

/// Syncs of clients. Cloning is cheap.
#[derive(Clone)]
pub struct Sync {
    core: Core,
    typing: Typing,
    push: Push,
    presence: Presence,
    sent: SentMembers,
    heads: Heads,
    connections: sliding::Connections,
}

/// What a client asks.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The token of the last answer.
    pub since: Option<String>,
    /// What it wants to see.
    pub filter: FilterDefinition,
    /// All state of all rooms, whatever was seen.
    pub full_state: bool,
    /// How long to wait for something to happen.
    pub timeout: Duration,
    /// State as it is after the timeline part.
    pub use_state_after: bool,
}

impl Sync {
    /// The service over `core`.
    pub fn new(core: Core, typing: Typing, push: Push, presence: Presence) -> Self {
        let (heads, connections) = (Heads::default(), sliding::Connections::default());
        Self { core, typing, push, presence, sent: SentMembers::default(), heads, connections }
    }

    /// A filter that a user has stored.
    ///
    /// # Errors
    /// 404 if there is none of this id.
    pub fn filter(&self, user: &UserId, id: &str) -> Result<FilterDefinition, Error> {
        filters::filter(self.core.snapshot()?.view(), user, id)
    }

    /// The answer's JSON. Dropping the future is safe: nothing counts as seen before the next token says so.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for a token that is not ours; storage errors.
    pub async fn answer(&self, user: &UserId, device: &DeviceId, request: Request) -> Result<Vec<u8>, Error> {
        let since = request.since.as_deref().map(Token::parse).transpose()?;
        let deadline = Instant::now() + request.timeout.min(WAIT_MAX);
        self.check(since)?;
        let owner = (user.to_owned(), device.to_owned());
        self.sent.go_on(&owner, since);
        if let Some(since) = since {
            self.acknowledge(user, device, since).await?;
        }
        loop {
            let answer = self.sweep(user, device, since, &request).await?;
            if since.is_none() || request.full_state || answer.news || deadline <= Instant::now() {
                self.sent.answered(&owner, answer.token);
                return Ok(answer.body);
            }
            // Register, look again, then wait: what came in between is not missed.
            let registration = self.core.notifier().watch(user.to_owned(), answer.rooms);
            if self.now()? == (answer.token.position, answer.token.typing) {
                let _ = tokio::time::timeout_at(deadline, registration.changed()).await;
            }
        }
    }

    /// A token from before a restored backup would hide what happens until its position comes again.
    fn check(&self, since: Option<Token>) -> Result<(), Error> {
        let position = self.core.snapshot()?.view().position()?;
        match since {
            Some(token) if token.position > position || token.to_device > token.position => {
                Err(Error::invalid_param("`since` is not a token of this server: sync once without it"))
            }
            _ => Ok(()),
        }
    }

    fn now(&self) -> Result<(Position, u64), Error> {
        Ok((self.core.snapshot()?.view().position()?, self.typing.serial()))
    }

    async fn sweep(
        &self,
        user: &UserId,
        device: &DeviceId,
        since: Option<Token>,
        request: &Request,
    ) -> Result<Answer, Error> {
        if since.is_some() && !request.full_state {
            return Sweep::run(self, user, device, since, request);
        }
        // All rooms from the start take a while: not on a thread that others wait for.
        let (this, user, device, request) = (self.clone(), user.to_owned(), device.to_owned(), request.clone());
        let swept = tokio::task::spawn_blocking(move || Sweep::run(&this, &user, &device, since, &request));
        swept.await.map_err(|e| Error::internal(format!("a sync broke off: {e}")))?
    }
}

/// How long a client may wait: proxies and phones give up on silent connections soon after.
const WAIT_MAX: Duration = Duration::from_secs(60);
