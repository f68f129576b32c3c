//! How a session comes about: from a link that is far enough, or from its record.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;

use super::{
    Context, OutEvent, Session, SessionError,
    commit::Out,
    flight::{FlightKind, FlightRow},
    line::Line,
    pack::Load,
    queue::Queue,
    ratchet::Ratchet,
    state::State,
};
use crate::{
    envelope::EnvelopeSecret,
    frame::Grant,
    link::{Detached, Link},
    name::NodeName,
    stamp::Class,
    time::UnixMillis,
};

impl Session {
    /// Begins the session of an established link, or on the answerer's side of one that waits for the offerer. `stamps`: what the peer
    /// gave so far, in its bundle or over a stream. From here on the link itself makes and reads no Olm message: persist both in one
    /// transaction.
    ///
    /// # Errors
    /// If the link is not that far, or has a session already.
    pub fn begin(link: &mut Link, me: &NodeName, stamps: Vec<Grant>, now: UnixMillis) -> Result<Self, SessionError> {
        let detached = link.detach().ok_or(SessionError::NotReady)?;
        Ok(Self::of(detached, me, stamps, now))
    }

    /// The record, and any rows that the session should write at once.
    #[must_use]
    pub fn first_commit(&self) -> OutEvent {
        let mut out = Out::default();
        out.changed();
        out.finish(&self.state).remove(0)
    }

    /// Reads a session back. Nothing is on its way any more, so what is not known to have arrived is due.
    ///
    /// # Errors
    /// If the bytes are not what was persisted as `RowKey::Record`.
    pub fn from_record(bytes: &[u8]) -> Result<Self, SessionError> {
        let mut state = State::from_bytes(bytes)?;
        for flight in &mut state.flights {
            if flight.unresolved().next().is_some() {
                flight.next_try = UnixMillis(0);
            }
        }
        if state.ack_unsure {
            state.ack_due = Some(UnixMillis(0));
        }
        let mut session = Self::with_state(state);
        session.woken();
        Ok(session)
    }

    /// The answerer of a box: its answer and confirmation are frame 0, under the offerer's intro stamps.
    pub(crate) fn answer(
        detached: Detached,
        ctx: &Context<'_>,
        me: &NodeName,
        salt: EnvelopeSecret,
        payload: Vec<u8>,
        stamps: Vec<Grant>,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Vec<OutEvent>), SessionError> {
        let mut session = Self::of(detached, me, stamps, ctx.now);
        let mut out = Out::default();
        let stamp = session.stamp(ctx, Class::L, true, &[]).ok_or(SessionError::NoStamp)?;
        let row = FlightRow { payload, salt: Some(salt.0), items: Vec::new() };
        let load = Load { essential: true, ..Load::default() };
        session.launch(ctx, FlightKind::Answer, &load, stamp, &row, &mut out, rng);
        out.changed();
        let effects = out.finish(&session.state);
        Ok((session, effects))
    }

    pub(super) fn with_state(state: State) -> Self {
        let (air, fresh, failing, acks) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            state,
            queue: Queue::default(),
            air,
            fresh,
            failing,
            acks,
            ack_failures: 0,
            ack_again: false,
            early: Vec::new(),
            rest: None,
            woken: false,
        }
    }

    fn of(detached: Detached, me: &NodeName, stamps: Vec<Grant>, now: UnixMillis) -> Self {
        let Detached { link, peer, olm, th, first, xwing, peer_xwing, proven } = detached;
        let rk = first.restore_key();
        let ratchet = Ratchet::new(first, xwing, peer_xwing, now);
        let line = Line { proven, ..Line::new(olm, th, ratchet) };
        let mut state = State::new(link, me.clone(), peer, rk, Some(line));
        state.last_heard = Some(now);
        stamps.into_iter().for_each(|grant| state.wallet.add(grant, now));
        Self::with_state(state)
    }
}
