//! The answerer's side: taking a contact link or an introduction, answering its box.

use super::{
    Effect, Link, LinkClass, LinkError, OFFER_LIFE, Own, Phase, Role,
    data::{LinkData, digest},
};
use crate::{
    bundle::Bundle, contact_link::ContactLink, exchange::seal_answer, identity::IdentityPublicKey,
    introduction::IntroOffer, labels, message::Message, time::UnixMillis,
};

impl Link {
    /// Takes a contact link that the user pasted. Commit the link, then dial one of its ways.
    ///
    /// # Errors
    /// If the link has expired or is our own.
    pub fn add(link: &ContactLink, own: &IdentityPublicKey, now: UnixMillis) -> Result<Self, LinkError> {
        if link.fingerprint() == own.fingerprint() {
            return Err(LinkError::OwnLink);
        }
        if link.is_expired(now) {
            return Err(LinkError::Expired);
        }
        let expiry = bounded(link.expiry(), now);
        let mut data = LinkData::new(Role::Answerer, LinkClass::Contact, link.s0().clone(), now, expiry);
        data.expects(link.fingerprint());
        data.peer_ways = link.ways().to_vec();
        Ok(Self { data })
    }

    /// Answers an introduction. Only call it while its `peer()` and we are joined to the room of the introduction.
    ///
    /// # Errors
    /// If the offer has expired, comes from ourselves, or its keys are unusable.
    pub fn answer_introduction(
        own: &Own<'_>,
        offer: &IntroOffer,
        now: UnixMillis,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<(Self, Vec<Effect>), LinkError> {
        if now >= offer.expiry() {
            return Err(LinkError::Expired);
        }
        let (s0, expiry) = (offer.s0().clone(), bounded(offer.expiry(), now));
        let mut link = Self { data: LinkData::new(Role::Answerer, LinkClass::Room, s0, now, expiry) };
        let effects = link.on_box(own, offer.box_plaintext(), rng)?;
        Ok((link, effects))
    }

    pub(super) fn on_box(
        &mut self,
        own: &Own<'_>,
        plaintext: &[u8],
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Vec<Effect>, LinkError> {
        if self.data.phase != Phase::Added {
            return self.on_box_again(plaintext);
        }
        // 1. Who is it?
        let bundle = Bundle::open(plaintext).map_err(|source| LinkError::Bundle { source })?;
        let found = bundle.name().clone();
        let promised = self.data.fingerprint.is_none_or(|expected| found.identity_key().fingerprint().0 == expected);
        if !promised || found == *own.name() {
            return Err(LinkError::OtherNode { found });
        }
        // 2. Our bundle, sealed to the key in the box.
        let data = &mut self.data;
        let answer_plaintext = data.make_bundle(own, rng);
        let (Some(s0), Some(account)) = (&data.s0, &data.account) else {
            return Err(LinkError::Closed);
        };
        let sealed = seal_answer(s0, plaintext, &bundle.xwing, &answer_plaintext, rng);
        // 3. An Olm message with the transcript, made with the key that our bundle certifies.
        let olm = |source| LinkError::Olm { source };
        let mut session = account.outbound(&bundle.olm).map_err(olm)?;
        data.th = Some(sealed.th);
        let statement = data.confirmation(Role::Answerer).ok_or(LinkError::Closed)?;
        data.confirm = Some(session.encrypt(&statement).map_err(olm)?);
        data.session = Some(session);
        data.answer = Some(sealed.bytes);
        data.secrets = vec![sealed.secret];
        data.box_plaintext = Some(plaintext.to_vec());
        data.set_peer(bundle);
        data.phase = Phase::Pending { by_us: true, by_them: false };
        // 4. On disk before the first byte leaves: a second answer would raise the alarm.
        let messages = self.answer_messages().into_iter().map(Effect::Send);
        Ok(std::iter::once(Effect::Persist).chain(messages).collect())
    }

    pub(super) fn on_offerer_confirm(&mut self, message: &[u8]) -> Result<Vec<Effect>, LinkError> {
        let data = &mut self.data;
        if data.peer_confirm == Some(digest(message)) {
            // The offerer does not know that we have opened it.
            return Ok(data.done.clone().map(|body| Effect::Send(Message::Done(body))).into_iter().collect());
        }
        let (expected, done) = (data.confirmation(Role::Offerer), data.statement(labels::DONE, Role::Answerer));
        let waiting = data.phase == (Phase::Pending { by_us: true, by_them: false });
        let (Some(session), Some(expected), Some(done), Some(peer), true) =
            (&mut data.session, expected, done, &data.peer, waiting)
        else {
            return Err(LinkError::Unexpected { message: "confirm" });
        };
        let olm = |source| LinkError::Olm { source };
        if session.decrypt(message).map_err(olm)? != expected {
            return Err(LinkError::OtherTranscript);
        }
        let done = session.encrypt(&done).map_err(olm)?;
        let peer = peer.name.clone();
        data.done = Some(done.clone());
        data.peer_confirm = Some(digest(message));
        data.delivered = true;
        data.phase = Phase::Established;
        Ok(vec![Effect::Persist, Effect::Send(Message::Done(done)), Effect::Established { peer }])
    }

    /// Answer and confirmation, as they were committed.
    pub(super) fn answer_messages(&self) -> Vec<Message> {
        let answer = self.data.answer.clone().map(Message::Answer);
        let confirm = self.data.confirm.clone().map(Message::Confirm);
        answer.into_iter().chain(confirm).collect()
    }

    /// The offerer sends its box on every stream that it accepts; the same box gets the same answer.
    fn on_box_again(&self, plaintext: &[u8]) -> Result<Vec<Effect>, LinkError> {
        if self.data.box_plaintext.as_deref() != Some(plaintext) {
            return Err(LinkError::OtherBox);
        }
        if self.data.phase == Phase::Established {
            return Ok(Vec::new());
        }
        Ok(self.answer_messages().into_iter().map(Effect::Send).collect())
    }
}

/// An offer may claim any expiry; ours is never kept longer than an honest one would live from now.
fn bounded(expiry: UnixMillis, now: UnixMillis) -> UnixMillis {
    expiry.min(now.after(OFFER_LIFE))
}
