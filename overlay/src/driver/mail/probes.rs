//! Hosts that could not be reached and for which something waits: in the foreground they are looked for, so that mail goes on as soon as they are back.
//! In `paced` mode nothing is dialled outside of the schedules.

use std::time::Duration;

use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::rand_core::Rng;
use millpond_mailbox::schedule::Mode;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::InEvent;
use millpond_mailbox::time::UnixMillis;

use super::MailDone;
use crate::clock;
use crate::driver::{Done, Driver};

/// A host that is looked for.
pub(in crate::driver) struct Probe {
    next: UnixMillis,
    wait: Duration,
    trying: bool,
}

impl Probe {
    fn new(now: UnixMillis) -> Self {
        Self { next: now.after(FIRST), wait: FIRST, trying: false }
    }

    pub(super) fn due(&self) -> Option<UnixMillis> {
        (!self.trying).then_some(self.next)
    }

    /// At once.
    pub(super) fn now(&mut self, now: UnixMillis) {
        (self.next, self.wait) = (now, FIRST);
    }

    /// Not there: twice as long, and a little more, so that those who lost a host together do not come back together.
    fn later(&mut self, now: UnixMillis, random: u32) {
        self.wait = self.wait.saturating_mul(2).min(LONGEST);
        self.next = now.after(self.wait + self.wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0));
        self.trying = false;
    }
}

impl Driver {
    pub(super) fn probes_due(&mut self, now: UnixMillis) {
        let Some(hosts) = self.mail.hosts.clone().filter(|_| self.mail.mode == Mode::Instant) else { return };
        let waited = |id: &LinkId| self.mail.sessions.get(id).map(|carried| carried.session.waits_for());
        let wanted: Vec<(LinkId, HostKey)> =
            self.mail.sessions.keys().flat_map(|id| waited(id).into_iter().flatten().map(|host| (*id, host))).collect();
        self.mail.probes.retain(|host, probe| probe.trying || wanted.iter().any(|(_, of)| of == host));
        for (link, host) in wanted {
            let Some(at) = self.host_address(link, host) else { continue };
            let probe = self.mail.probes.entry(host).or_insert_with(|| Probe::new(now));
            if probe.trying || probe.next > now {
                continue;
            }
            probe.trying = true;
            let hosts = hosts.clone();
            self.work.spawn(async move {
                let reached = tokio::time::timeout(PATIENCE, hosts.reach(&at)).await.unwrap_or(false);
                Done::Mail(MailDone::Probed { host, reached })
            });
        }
    }

    pub(super) async fn on_probed(&mut self, host: HostKey, reached: bool) {
        if reached {
            self.mail.probes.remove(&host);
            self.host_answers(host).await;
        } else if let Some(probe) = self.mail.probes.get_mut(&host) {
            probe.later(clock::now(), clock::random().next_u32());
        }
    }

    /// A host answered: what waited for it in any session may go.
    pub(super) async fn host_answers(&mut self, host: HostKey) {
        let waiting = self.mail.sessions.values().filter(|carried| carried.session.waits_for().contains(&host));
        let ids: Vec<LinkId> = waiting.map(|carried| carried.session.link()).collect();
        for id in ids {
            self.feed(id, InEvent::Reachable(host), Vec::new()).await;
        }
    }
}

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(30);
