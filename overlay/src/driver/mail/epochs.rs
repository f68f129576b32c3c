//! Epochs of our mailboxes: one takes mail for seven days, is read for thirty more, and is gone at its host on its last day. Whoever watches a host
//! sees mailboxes that live for weeks, and no person that lives for years.

use std::time::Duration;

use millpond_mailbox::host::{ORDINARY_DAYS, RECOVERY_DAYS};
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::mailbox::MailboxSecret;
use millpond_mailbox::stamp::MailboxId;
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::token::Token;
use millpond_mailbox::way::HostAddress;

use super::{Mail, MailDone, Own, rows};
use crate::clock;
use crate::driver::{Done, Driver};
use crate::host_client::HostError;
use crate::store::{Change, Record};

/// Tokens for one host.
pub(in crate::driver) struct Tokens {
    pub(super) at: HostAddress,
    pub(super) left: Vec<Token>,
    /// A host that did not make a mailbox is not asked again before.
    not_before: UnixMillis,
}

impl Tokens {
    pub(super) fn new(at: HostAddress, left: Vec<Token>) -> Self {
        Self { at, left, not_before: UnixMillis(0) }
    }

    pub(super) fn record(&self) -> Record {
        rows::tokens_record(&self.at, &self.left)
    }
}

/// A mailbox in the place of another, or why there is none.
pub(in crate::driver) struct Renewed {
    /// The one that it replaces; none: there was none in use.
    old: Option<MailboxId>,
    host: HostKey,
    made: Result<Own, HostError>,
}

impl Own {
    /// When another one is made in its place.
    fn ends(&self) -> UnixMillis {
        if self.is_nearly_used_up() {
            return self.opened;
        }
        if self.lost {
            return self.opened.after(LOST);
        }
        self.opened.after(if self.recovery { RECOVERY_EPOCH } else { EPOCH })
    }

    /// When the host has forgotten it for certain.
    fn gone(&self) -> UnixMillis {
        let days = if self.recovery { RECOVERY_DAYS } else { ORDINARY_DAYS };
        self.opened.after(DAY * (days + 1))
    }
}

impl Mail {
    /// When an epoch ends next.
    pub(super) fn epoch_wake(&self) -> Option<UnixMillis> {
        let ends = self.own.values().filter(|own| !own.draining).filter_map(|own| {
            let tokens = self.tokens.get(&own.at.host).filter(|tokens| !tokens.left.is_empty())?;
            Some(own.ends().max(tokens.not_before))
        });
        let missing = self.missing().into_iter().filter_map(|host| Some(self.tokens.get(&host)?.not_before));
        ends.chain(self.own.values().map(Own::gone)).chain(missing).min()
    }

    /// Hosts at which we have a recovery mailbox, tokens, and no mailbox in use: after a restore, which brings back no stamps.
    fn missing(&self) -> Vec<HostKey> {
        let in_use = |host: &HostKey, recovery: bool| {
            self.own.values().any(|own| own.at.host == *host && own.recovery == recovery && !own.draining)
        };
        let hosts = self.tokens.iter().filter(|(_, tokens)| !tokens.left.is_empty()).map(|(host, _)| *host);
        hosts.filter(|host| in_use(host, true) && !in_use(host, false)).collect()
    }

    /// Mailboxes that are to be replaced now, at most one a host: each takes a token.
    fn ended(&self, now: UnixMillis) -> Vec<MailboxId> {
        let ready = |host: &HostKey| {
            self.tokens.get(host).is_some_and(|tokens| !tokens.left.is_empty() && tokens.not_before <= now)
        };
        let ended = |own: &&Own| !own.draining && own.ends() <= now && ready(&own.at.host);
        let mut hosts = Vec::new();
        let mut ids = Vec::new();
        for own in self.own.values().filter(ended) {
            if !hosts.contains(&own.at.host) {
                hosts.push(own.at.host);
                ids.push(own.secret.id());
            }
        }
        ids
    }
}

impl Driver {
    pub(super) async fn epochs_due(&mut self, now: UnixMillis) {
        self.forget_closed(now).await;
        for host in self.mail.missing() {
            self.make(host, None, now);
        }
        for id in self.mail.ended(now) {
            if let Some(host) = self.mail.own.get(&id).map(|own| own.at.host) {
                self.make(host, Some(id), now);
            }
        }
    }

    /// Makes a mailbox in the place of another, or where there is none.
    fn make(&mut self, host: HostKey, old: Option<MailboxId>, now: UnixMillis) {
        let recovery = old.and_then(|old| self.mail.own.get(&old)).is_some_and(|own| own.recovery);
        let Some(hosts) = self.mail.hosts.clone() else { return };
        let Some(tokens) = self.mail.tokens.get_mut(&host).filter(|tokens| tokens.not_before <= now) else { return };
        let at = tokens.at.clone();
        let Some(token) = tokens.left.last().cloned() else { return };
        tokens.not_before = now.after(RETRY);
        let few = tokens.left.len() <= FEW;
        if few {
            tracing::warn!(
                left = tokens.left.len(),
                "tokens for a mailbox host run out: ask its operator for a new one"
            );
        }
        self.work.spawn(async move {
            let secret = MailboxSecret::generate(&mut clock::random());
            let created = tokio::time::timeout(CREATE, hosts.create(&at, &secret, recovery, &token)).await;
            let host = at.host;
            let made =
                created.unwrap_or(Err(HostError::Timeout)).map(|()| Own::new(secret, at, recovery, clock::now()));
            Done::Mail(MailDone::Renewed(Box::new(Renewed { old, host, made })))
        });
    }

    pub(super) async fn on_renewed(&mut self, renewed: Renewed) {
        let Renewed { old, host, made } = renewed;
        let Some(tokens) = self.mail.tokens.get_mut(&host) else { return };
        let made = match made {
            Ok(made) => Some(made),
            // Spent in an attempt whose end was lost.
            Err(HostError::TokenRefused) => None,
            Err(error) => return tracing::debug!(%error, "no new mailbox was made"),
        };
        tokens.left.pop();
        tokens.not_before = UnixMillis(0);
        let mut changes = vec![Change::Put(tokens.record())];
        if let Some(made) = &made {
            changes.push(Change::Put(rows::mailbox_record(made)));
            if let Some(own) = old.and_then(|old| self.mail.own.get_mut(&old)) {
                own.draining = true;
                changes.push(Change::Put(rows::mailbox_record(own)));
            }
        }
        if let Err(error) = self.commit(changes, "store a new mailbox").await {
            tracing::error!(%error, "a new mailbox was not kept; another is made later");
            if let Some(own) = old.and_then(|old| self.mail.own.get_mut(&old)) {
                own.draining = false;
            }
            return;
        }
        if let Some(made) = made {
            self.mail.own.insert(made.secret.id(), made);
            self.mailboxes_changed().await;
        }
    }

    /// Forgets mailboxes that their hosts have forgotten.
    async fn forget_closed(&mut self, now: UnixMillis) {
        let gone: Vec<MailboxId> =
            self.mail.own.values().filter(|own| own.gone() <= now).map(|own| own.secret.id()).collect();
        let mut changes = Vec::new();
        for own in gone.iter().filter_map(|id| self.mail.own.get(id)) {
            let id = own.secret.id();
            changes.push(Change::Remove(rows::mailbox_key(&id)));
            changes.extend(own.issued.keys().map(|serial| Change::Remove(rows::serial_key_of(&id, *serial))));
        }
        if !gone.is_empty() && self.commit(changes, "forget a closed mailbox").await.is_ok() {
            self.mail.own.retain(|id, _| !gone.contains(id));
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const EPOCH: Duration = DAY.saturating_mul(7);
/// Half of a recovery mailbox's life: what is in a backup stays good for the other half.
const RECOVERY_EPOCH: Duration = DAY.saturating_mul(200);
const RETRY: Duration = Duration::from_secs(3_600);
const CREATE: Duration = Duration::from_secs(60);
/// A mailbox that its host has forgotten is replaced, but so many hours after it was made: a host that only says so costs few tokens.
const LOST: Duration = Duration::from_secs(6 * 3_600);
/// So few tokens are worth a word: two months.
pub(super) const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millpond_mailbox::host_key::HostSecret;
    use millpond_mailbox::schedule::Mode;
    use millpond_mailbox::token::TOKEN_LEN;

    use super::*;

    fn at() -> HostAddress {
        HostAddress { host: HostSecret::from_bytes([1; 32]).public(), address: Vec::new() }
    }

    fn mail(tokens: usize) -> (Mail, MailboxId) {
        let mut mail = Mail::new(None, Mode::Instant, rows::Loaded::default());
        let own = Own::new(MailboxSecret::generate(&mut clock::random()), at(), false, UnixMillis(0));
        let id = own.secret.id();
        mail.own = BTreeMap::from([(id, own)]);
        let left = vec![Token::from_bytes(&[0; TOKEN_LEN]); tokens];
        mail.tokens = BTreeMap::from([(at().host, Tokens::new(at(), left))]);
        (mail, id)
    }

    #[test]
    fn a_mailbox_is_replaced_after_seven_days_and_not_before() {
        let (mail, id) = mail(1);
        let end = UnixMillis(0).after(EPOCH);
        assert_eq!(mail.epoch_wake(), Some(end));
        assert_eq!(mail.ended(UnixMillis(end.0 - 1)), []);
        assert_eq!(mail.ended(end), [id]);
    }

    #[test]
    fn without_a_token_it_stays_in_use_until_its_host_forgets_it() {
        let (mail, _) = mail(0);
        assert_eq!(mail.epoch_wake(), Some(UnixMillis(0).after(DAY * 38)));
        assert_eq!(mail.ended(UnixMillis(0).after(EPOCH)), []);
    }

    #[test]
    fn a_mailbox_that_its_host_has_forgotten_is_replaced_within_the_day() {
        let (mut mail, id) = mail(1);
        mail.own.get_mut(&id).unwrap().lost = true;
        let end = UnixMillis(0).after(LOST);
        assert_eq!(mail.epoch_wake(), Some(end));
        assert_eq!((mail.ended(UnixMillis(end.0 - 1)), mail.ended(end)), (vec![], vec![id]));
    }

    #[test]
    fn after_a_restore_a_mailbox_is_made_beside_the_recovery_mailbox() {
        let (mut mail, id) = mail(1);
        assert_eq!(mail.missing(), []);
        mail.own.get_mut(&id).unwrap().recovery = true;
        assert_eq!(mail.missing(), [at().host]);
        assert_eq!(mail.epoch_wake(), Some(UnixMillis(0)));
        mail.own.get_mut(&id).unwrap().draining = true;
        assert_eq!(mail.missing(), [], "not at a host that was left");
    }

    #[test]
    fn a_mailbox_out_of_use_is_not_replaced() {
        let (mut mail, id) = mail(1);
        mail.own.get_mut(&id).unwrap().draining = true;
        assert_eq!(mail.ended(UnixMillis(0).after(EPOCH)), []);
    }
}
