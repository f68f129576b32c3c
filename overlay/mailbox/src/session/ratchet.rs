//! The link-secret ratchet: by time only, each side with exactly one X-Wing ciphertext a step (overlay.md, section 4).
//!
//! ```text
//! LS[e+1] = HKDF(salt = LS[e], ikm = ss_lo || ss_hi, info = "millpond/ls/1" || e+1 u32 BE || SHA256(ct_lo) || SHA256(ct_hi))
//! ```
//!
//! lo and hi by the identity keys of those who made the ciphertexts. A side sends under e+1 only when the other acknowledged its
//! step and it holds the other's; it takes envelopes under e+1 from when it can compute it; it begins no step to e+2 before a
//! frame under e+1 arrived.

use std::time::Duration;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::{
    envelope::EnvelopeSecret,
    secrets::{Epoch, LinkSecret, Secret32, StepPart},
    time::UnixMillis,
    xwing::{XWingPublic, XWingSecret},
};

/// One side's part of a step.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsItem {
    /// To which epoch the step leads.
    pub epoch: Epoch,
    /// The X-Wing ciphertext, to the receiver's key.
    #[serde(with = "serde_bytes")]
    pub ct: Vec<u8>,
    /// The sender's key for the step after.
    pub next_key: XWingPublic,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ratchet {
    /// Newest first.
    secrets: Vec<Kept>,
    /// Under which we send.
    sending: Epoch,
    /// The highest under which a frame of the peer arrived.
    heard: Option<Epoch>,
    /// The key that the peer makes its next ciphertext to.
    own: XWingSecret,
    /// The key that we make ours to.
    peer: XWingPublic,
    step: Option<Step>,
    /// The peer's part, come before we may make ours.
    waiting: Option<LsItem>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    secret: LinkSecret,
    made: UnixMillis,
}

#[derive(Clone, Serialize, Deserialize)]
struct Step {
    epoch: Epoch,
    #[serde(with = "serde_bytes")]
    ct: Vec<u8>,
    ss: Secret32,
    next: XWingSecret,
    acked: bool,
    /// `LS[epoch]` is computed.
    done: bool,
}

/// What the peer's part did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is a new secret.
    Computed,
    /// Nothing yet, or nothing new.
    Nothing,
    /// It is no part of a step that we could be in.
    Refused,
}

impl Ratchet {
    pub(super) fn new(first: LinkSecret, own: XWingSecret, peer: XWingPublic, now: UnixMillis) -> Self {
        let sending = first.epoch();
        let secrets = vec![Kept { secret: first, made: now }];
        Self { secrets, sending, heard: None, own, peer, step: None, waiting: None }
    }

    pub(super) fn secrets(&self) -> Vec<LinkSecret> {
        self.secrets.iter().map(|kept| kept.secret.clone()).collect()
    }

    /// Newest first, with their epochs.
    pub(super) fn receiving(&self) -> Vec<(Epoch, EnvelopeSecret)> {
        self.secrets.iter().map(|kept| (kept.secret.epoch(), EnvelopeSecret::from(&kept.secret))).collect()
    }

    pub(super) fn sending(&self) -> EnvelopeSecret {
        let found = self.secrets.iter().find(|kept| kept.secret.epoch() == self.sending);
        EnvelopeSecret::from(&found.expect("the secret in use is never dropped").secret)
    }

    pub(super) fn note_frame(&mut self, epoch: Epoch) {
        self.heard = self.heard.max(Some(epoch));
    }

    /// Whether a step is to be begun with the next frame.
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        let Some(newest) = self.secrets.first() else { return false };
        self.step.is_none() && self.may_begin() && (self.waiting.is_some() || now >= newest.made.after(STEP))
    }

    /// Our part of the step that goes on, as long as the peer has not acknowledged it.
    pub(super) fn unacknowledged(&self) -> Option<LsItem> {
        let step = self.step.as_ref().filter(|step| !step.acked)?;
        Some(LsItem { epoch: step.epoch, ct: step.ct.clone(), next_key: step.next.public() })
    }

    /// Begins a step: the one ciphertext of ours is made, and kept from here on. If the peer's part was waiting, it is taken.
    pub(super) fn begin(&mut self, order: Order, now: UnixMillis, rng: &mut impl CryptoRng) -> Taken {
        if self.step.is_some() || !self.may_begin() {
            return Taken::Nothing;
        }
        let (ss, ct) = self.peer.encapsulate(rng);
        let (epoch, next) = (self.next_epoch(), XWingSecret::generate(rng));
        self.step = Some(Step { epoch, ct, ss, next, acked: false, done: false });
        match self.waiting.take() {
            Some(part) => self.take(part, order, now),
            None => Taken::Nothing,
        }
    }

    /// Takes the peer's part. `order` says whose identity key is smaller.
    pub(super) fn take(&mut self, part: LsItem, order: Order, now: UnixMillis) -> Taken {
        if part.epoch != self.next_epoch() {
            // A part of a step that is over comes again when its acknowledgement was lost.
            return if part.epoch < self.next_epoch() { Taken::Nothing } else { Taken::Refused };
        }
        let Some(step) = self.step.as_mut().filter(|step| !step.done) else {
            self.waiting = Some(part);
            return Taken::Nothing;
        };
        let Some(ss_peer) = self.own.decapsulate(&part.ct) else { return Taken::Refused };
        let own = StepPart { ss: step.ss.as_bytes(), ct: &step.ct };
        let theirs = StepPart { ss: ss_peer.as_bytes(), ct: &part.ct };
        let newest = &self.secrets[0].secret;
        let secret = match order {
            Order::OwnIsLower => newest.next(&own, &theirs),
            Order::OwnIsHigher => newest.next(&theirs, &own),
        };
        step.done = true;
        self.own = step.next.clone();
        self.peer = part.next_key;
        self.secrets.insert(0, Kept { secret, made: now });
        self.secrets.truncate(MAX_SECRETS);
        self.settle();
        Taken::Computed
    }

    /// The peer acknowledged the frame with our part of this step.
    pub(super) fn acknowledged(&mut self, epoch: Epoch) {
        if let Some(step) = self.step.as_mut().filter(|step| step.epoch == epoch) {
            step.acked = true;
            self.settle();
        }
    }

    /// Drops secrets that were replaced 37 days ago. `true`: there were some.
    pub(super) fn expire(&mut self, now: UnixMillis) -> bool {
        let (mut replaced, sending) = (None::<UnixMillis>, self.sending);
        let before = self.secrets.len();
        self.secrets.retain(|kept| {
            let old = replaced.is_some_and(|at| now >= at.after(KEEP)) && kept.secret.epoch() != sending;
            replaced = Some(kept.made);
            !old
        });
        self.secrets.len() != before
    }

    /// Sends under the new secret as soon as both conditions hold.
    fn settle(&mut self) {
        if let Some(step) = self.step.take_if(|step| step.acked && step.done) {
            self.sending = step.epoch;
        }
    }

    fn next_epoch(&self) -> Epoch {
        let newest = self.secrets.first().map_or(Epoch(0), |kept| kept.secret.epoch());
        match &self.step {
            Some(step) if !step.done => step.epoch,
            _ => Epoch(newest.0.saturating_add(1)),
        }
    }

    /// No step to e+2 before a frame under e+1 arrived.
    fn may_begin(&self) -> bool {
        let newest = self.secrets.first().map(|kept| kept.secret.epoch());
        self.heard >= newest
    }
}

/// Whose identity key is the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OwnIsLower,
    OwnIsHigher,
}

/// From one secret to the next.
const STEP: Duration = Duration::from_secs(7 * 86_400);
/// How long a secret opens what was sealed before it was replaced: as long as a mailbox is open.
const KEEP: Duration = Duration::from_secs(37 * 86_400);
/// Secrets of a link.
const MAX_SECRETS: usize = 6;
