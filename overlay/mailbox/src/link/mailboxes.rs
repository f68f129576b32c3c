//! What of a link goes over to its session, when it is carried by mailboxes from here on.

use super::{Effect, Link, LinkError, Phase, Role};
use crate::{
    name::NodeName,
    olm::SessionAtRest,
    secrets::{LinkId, LinkSecret, S0, Transcript},
    xwing::{XWingPublic, XWingSecret},
};

/// The parts of a link that its session takes.
pub(crate) struct Detached {
    pub(crate) link: LinkId,
    pub(crate) peer: NodeName,
    pub(crate) olm: SessionAtRest,
    pub(crate) th: Transcript,
    /// `LS[0]`.
    pub(crate) first: LinkSecret,
    pub(crate) xwing: XWingSecret,
    pub(crate) peer_xwing: XWingPublic,
    /// The peer has shown `th`.
    pub(crate) proven: bool,
}

impl Link {
    /// Hands the Olm session over. From here on the link makes and reads no Olm message, so that no message key is used twice: one
    /// that still comes over a stream is refused, and the session proves the link instead.
    pub(crate) fn detach(&mut self) -> Option<Detached> {
        let data = &mut self.data;
        let proven = match (data.role, data.phase) {
            (_, Phase::Established) => true,
            (Role::Answerer, Phase::Pending { by_us: true, .. }) => false,
            _ => return None,
        };
        let first = data.secrets.iter().find(|secret| secret.epoch().0 == 0)?.clone();
        let (peer, th, xwing) = (data.peer.as_ref()?, data.th?, data.xwing.clone()?);
        let (peer_xwing, peer) = (peer.xwing.clone(), peer.name.clone());
        let olm = data.session.take()?;
        Some(Detached { link: data.id, peer, olm, th, first, xwing, peer_xwing, proven })
    }

    /// The session has read the offerer's `th`: what a confirmation over a stream would have done.
    ///
    /// # Errors
    /// If the link does not wait for that.
    pub fn established_by_session(&mut self) -> Result<Vec<Effect>, LinkError> {
        let data = &mut self.data;
        if data.role != Role::Answerer || data.phase != (Phase::Pending { by_us: true, by_them: false }) {
            return Err(LinkError::Unexpected { message: "proof by a frame" });
        }
        let peer = data.peer.as_ref().map(|peer| peer.name.clone()).ok_or(LinkError::Closed)?;
        data.phase = Phase::Established;
        data.delivered = true;
        Ok(vec![Effect::Persist, Effect::Established { peer }])
    }

    /// Takes over the secrets of the session, for streams.
    pub fn adopt_secrets(&mut self, secrets: Vec<LinkSecret>) -> Vec<Effect> {
        if self.data.phase != Phase::Established || secrets.is_empty() {
            return Vec::new();
        }
        self.data.secrets = secrets;
        vec![Effect::Persist]
    }

    /// The link as a backup may hold it: with whom it is, and nothing that opens or seals anything. It carries nothing until its session
    /// has said HELLO and brought new secrets. `None` unless it is established.
    #[must_use]
    pub fn for_backup(&self) -> Option<Self> {
        if self.data.phase != Phase::Established {
            return None;
        }
        let mut link = self.clone();
        link.data.wipe(Phase::Established);
        link.data.th = None;
        if let Some(peer) = &mut link.data.peer {
            peer.stamps.clear();
        }
        Some(link)
    }

    /// The stamps in the other side's bundle, as it wrote them.
    pub(crate) fn peer_stamps(&self) -> &[serde_bytes::ByteBuf] {
        self.data.peer.as_ref().map_or(&[], |peer| peer.stamps.as_slice())
    }

    pub(crate) fn s0(&self) -> Option<&S0> {
        self.data.s0.as_ref()
    }

    /// The offerer's bundle, ours or theirs.
    pub(crate) fn box_plaintext(&self) -> Option<&[u8]> {
        self.data.box_plaintext.as_deref()
    }
}
