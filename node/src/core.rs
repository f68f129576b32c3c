//! What every service of the node stands on: the store, the node's identity, the wake-ups, the clock, the settings.

use std::sync::Arc;

use millpond_overlay::Routes;
use millpond_store::{Position, Store};

use crate::{
    clock::Clock, config::Config, egress::Egress, guard::Guard, identity::Identity, moments::Moments, notify::Notifier,
};

/// Shared by all services; cloning is cheap.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

struct Inner {
    store: Store,
    identity: Identity,
    notifier: Notifier,
    clock: Clock,
    config: Config,
    egress: Egress,
    moments: Moments,
    guard: Guard,
    routes: Arc<Routes>,
}

impl Core {
    /// Puts the parts together.
    pub fn new(store: Store, identity: Identity, notifier: Notifier, clock: Clock, config: Config) -> Self {
        let routes = crate::tor::of_node(&config.tor, &config.data_dir, &store);
        let egress = Egress::over(config.egress.clone(), routes.clone());
        let moments = Moments::since(clock.now_ms());
        let guard = Guard::new(config.blocked.clone(), config.policy_lists.clone());
        Self(Arc::new(Inner { store, identity, notifier, clock, config, egress, moments, guard, routes }))
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The wake-ups.
    pub fn notifier(&self) -> &Notifier {
        &self.0.notifier
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The door for outgoing HTTP.
    pub fn egress(&self) -> &Egress {
        &self.0.egress
    }

    /// Serials of what is in memory only.
    pub(crate) fn moments(&self) -> &Moments {
        &self.0.moments
    }

    /// Who is kept out.
    pub fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// Which ways lead out of this machine.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.0.routes
    }

    /// The newest committed state.
    ///
    /// # Errors
    /// Storage errors.
    pub fn snapshot(&self) -> Result<millpond_store::Snapshot, millpond_store::Error> {
        self.0.store.snapshot()
    }

    /// Runs a job and answers when it is durable; dropping the future does not take the job back.
    ///
    /// # Errors
    /// The job's refusal or a storage error.
    pub async fn write<J: millpond_store::Job>(&self, job: J) -> Result<(J::Out, Position), crate::Error>
    where
        crate::Error: From<millpond_store::WriteError<J::Err>>,
    {
        Ok(self.0.store.write(job).await?)
    }
}
