//! The offerer's side: making an offer, judging answers, the user's yes.

use vodozemac::Curve25519PublicKey;

use super::{
    Effect, Link, LinkClass, LinkError, OFFER_LIFE, Own, Phase, Role,
    data::{LinkData, digest},
};
use crate::{
    bundle::Bundle, contact_link::ContactLink, exchange::open_answer, identity::IdentityPublicKey,
    introduction::IntroOffer, labels, message::Message, name::NodeName, secrets::S0, time::UnixMillis,
};

impl Link {
    /// Makes a contact link: commit the link, then show the contact link to the user.
    ///
    /// # Errors
    /// If `own.ways` is empty or has ways that no contact link can carry.
    pub fn offer(
        own: &Own<'_>,
        now: UnixMillis,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<(Self, ContactLink), LinkError> {
        Self::offer_under(S0::generate(rng), own, now, rng)
    }

    /// As `offer`, under a secret drawn before: who is to find our onion service with it can be told to the network beforehand. Never twice the same.
    ///
    /// # Errors
    /// As `offer`.
    pub fn offer_under(
        s0: S0,
        own: &Own<'_>,
        now: UnixMillis,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<(Self, ContactLink), LinkError> {
        let link = Self::new_offer(LinkClass::Contact, s0, own, now, rng);
        let shown = link.contact_link(own.name().identity_key())?;
        Ok((link, shown))
    }

    /// Makes an offer to a member of a shared room, to be sealed into an introduction. Commit the link first.
    pub fn introduce(own: &Own<'_>, to: &NodeName, now: UnixMillis, rng: &mut impl rand_core::CryptoRng) -> Self {
        let mut link = Self::new_offer(LinkClass::Room, S0::generate(rng), own, now, rng);
        link.data.introduced = Some(to.clone());
        link
    }

    /// The contact link of an offer that nobody has answered, to show it once more.
    ///
    /// # Errors
    /// If there is no such offer any more.
    pub fn contact_link(&self, own: &IdentityPublicKey) -> Result<ContactLink, LinkError> {
        let data = &self.data;
        match (&data.s0, data.role, data.class, data.phase) {
            (Some(s0), Role::Offerer, LinkClass::Contact, Phase::Offered) => {
                ContactLink::new(s0.clone(), own, data.expiry, data.own_ways.clone())
                    .map_err(|source| LinkError::ContactLink { source })
            }
            _ => Err(LinkError::Closed),
        }
    }

    /// What goes into an introduction, as long as the offer is open.
    #[must_use]
    pub fn intro_offer(&self) -> Option<IntroOffer> {
        let data = &self.data;
        match (&data.s0, &data.box_plaintext, data.role, data.class) {
            (Some(s0), Some(plaintext), Role::Offerer, LinkClass::Room) => {
                Some(IntroOffer::from_parts(s0.clone(), data.expiry, plaintext.clone()))
            }
            _ => None,
        }
    }

    /// The user has seen the answerer's name and says yes.
    ///
    /// # Errors
    /// If there is nothing to say yes to: nobody answered, or the answerer has not proven its name yet.
    pub fn confirm(&mut self) -> Result<Vec<Effect>, LinkError> {
        if self.data.role != Role::Offerer || self.data.phase != (Phase::Pending { by_us: false, by_them: true }) {
            return Err(LinkError::Unexpected { message: "yes" });
        }
        let mut next = self.clone();
        let effects = next.send_confirm()?;
        *self = next;
        Ok(effects)
    }

    pub(super) fn on_answer(&mut self, own: &Own<'_>, answer: &[u8]) -> Result<Vec<Effect>, LinkError> {
        if self.data.answer.as_deref() == Some(answer) {
            // The answerer does not know that it arrived.
            return Ok(self
                .data
                .confirm
                .clone()
                .map(|body| Effect::Send(Message::Confirm(body)))
                .into_iter()
                .collect());
        }
        let data = &mut self.data;
        let (Some(s0), Some(plaintext), Some(xwing)) = (&data.s0, &data.box_plaintext, &data.xwing) else {
            return Err(LinkError::Closed);
        };
        let opened = open_answer(s0, plaintext, xwing, answer).map_err(|source| LinkError::Answer { source })?;
        let bundle = Bundle::open(&opened.plaintext).map_err(|source| LinkError::Bundle { source })?;
        let found = bundle.name().clone();
        let introduced_other = data.introduced.as_ref().is_some_and(|expected| *expected != found);
        if found == *own.name() || introduced_other {
            return Err(LinkError::OtherNode { found });
        }
        if let Some(first) = data.peer.as_ref().map(|peer| peer.name.clone()) {
            data.wipe(Phase::Alarmed);
            return Ok(vec![Effect::Persist, Effect::Alarm { first, second: found }]);
        }
        data.answer = Some(answer.to_vec());
        data.th = Some(opened.th);
        data.secrets = vec![opened.secret];
        data.set_peer(bundle);
        data.phase = Phase::Pending { by_us: false, by_them: false };
        Ok(vec![Effect::Persist])
    }

    pub(super) fn on_answerer_confirm(&mut self, message: &[u8]) -> Result<Vec<Effect>, LinkError> {
        let data = &mut self.data;
        if data.peer_confirm == Some(digest(message)) {
            return Ok(data.confirm.clone().map(|body| Effect::Send(Message::Confirm(body))).into_iter().collect());
        }
        let unexpected = LinkError::Unexpected { message: "confirm" };
        if data.phase != (Phase::Pending { by_us: false, by_them: false }) {
            return Err(unexpected);
        }
        let (Some(peer), Some(account), Some(expected)) =
            (&data.peer, &data.account, data.confirmation(Role::Answerer))
        else {
            return Err(unexpected);
        };
        let certified = Curve25519PublicKey::from_bytes(peer.olm_identity);
        let (account, session, plaintext) =
            account.inbound(certified, message).map_err(|source| LinkError::Olm { source })?;
        if plaintext != expected {
            return Err(LinkError::OtherTranscript);
        }
        let peer = peer.name.clone();
        data.account = Some(account);
        data.session = Some(session);
        data.peer_confirm = Some(digest(message));
        data.phase = Phase::Pending { by_us: false, by_them: true };
        match data.class {
            LinkClass::Contact => Ok(vec![Effect::Persist, Effect::AskUser { peer }]),
            // The introduction was sealed to this very member: there is no name that the user would not know.
            LinkClass::Room => self.send_confirm(),
        }
    }

    pub(super) fn on_done(&mut self, message: &[u8]) -> Result<Vec<Effect>, LinkError> {
        let data = &mut self.data;
        if data.delivered {
            return Ok(Vec::new());
        }
        let expected = data.statement(labels::DONE, Role::Answerer);
        let (Some(session), Some(expected), Phase::Established) = (&mut data.session, expected, data.phase) else {
            return Err(LinkError::Unexpected { message: "done" });
        };
        if session.decrypt(message).map_err(|source| LinkError::Olm { source })? != expected {
            return Err(LinkError::OtherTranscript);
        }
        data.delivered = true;
        Ok(vec![Effect::Persist])
    }

    fn send_confirm(&mut self) -> Result<Vec<Effect>, LinkError> {
        let data = &mut self.data;
        let statement = data.confirmation(Role::Offerer);
        let (Some(session), Some(statement), Some(peer)) = (&mut data.session, statement, &data.peer) else {
            return Err(LinkError::Unexpected { message: "yes" });
        };
        let message = session.encrypt(&statement).map_err(|source| LinkError::Olm { source })?;
        let peer = peer.name.clone();
        data.confirm = Some(message.clone());
        data.phase = Phase::Established;
        Ok(vec![Effect::Persist, Effect::Send(Message::Confirm(message)), Effect::Established { peer }])
    }

    fn new_offer(
        class: LinkClass,
        s0: S0,
        own: &Own<'_>,
        now: UnixMillis,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Self {
        let mut data = LinkData::new(Role::Offerer, class, s0, now, now.after(OFFER_LIFE));
        let bundle = data.make_bundle(own, rng);
        data.box_plaintext = Some(bundle);
        Self { data }
    }
}
