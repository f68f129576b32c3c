//! What a link consists of, and its row: `version u8 || CBOR`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{LinkClass, LinkError, Own, Phase, Role};
use crate::{
    bundle::{Bundle, OlmKeys},
    identity::Fingerprint,
    labels,
    name::NodeName,
    olm::{AccountAtRest, SessionAtRest, new_account},
    secrets::{LinkId, LinkSecret, S0, Transcript},
    time::UnixMillis,
    way::Way,
    xwing::{XWingPublic, XWingSecret},
};

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LinkData {
    pub(super) id: LinkId,
    pub(super) class: LinkClass,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) created: UnixMillis,
    pub(super) expiry: UnixMillis,
    /// Until the first contact is forgotten.
    pub(super) s0: Option<S0>,
    /// Contact class, answerer: whom the contact link promises.
    #[serde(with = "serde_bytes")]
    pub(super) fingerprint: Option<[u8; 16]>,
    /// Room class, offerer: to whom the introduction went.
    pub(super) introduced: Option<NodeName>,
    /// Ours: what we told in contact link or bundle.
    pub(super) own_ways: Vec<Way>,
    pub(super) peer_ways: Vec<Way>,
    /// The offerer's bundle, ours or theirs.
    #[serde(with = "serde_bytes")]
    pub(super) box_plaintext: Option<Vec<u8>>,
    /// The answer, ours or theirs.
    #[serde(with = "serde_bytes")]
    pub(super) answer: Option<Vec<u8>>,
    /// Our Olm message with `th`; sent again as it is.
    #[serde(with = "serde_bytes")]
    pub(super) confirm: Option<Vec<u8>>,
    /// Our acknowledgement of theirs; sent again as it is.
    #[serde(with = "serde_bytes")]
    pub(super) done: Option<Vec<u8>>,
    /// Their Olm message with `th`, to know it again.
    pub(super) peer_confirm: Option<Transcript>,
    /// We know that the other side opened our confirmation.
    pub(super) delivered: bool,
    pub(super) th: Option<Transcript>,
    pub(super) account: Option<AccountAtRest>,
    pub(super) session: Option<SessionAtRest>,
    /// Our X-Wing key of this link; the link-secret ratchet starts from it.
    pub(super) xwing: Option<XWingSecret>,
    pub(super) peer: Option<Peer>,
    /// Newest first.
    pub(super) secrets: Vec<LinkSecret>,
}

/// The other side.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Peer {
    pub(super) name: NodeName,
    #[serde(with = "serde_bytes")]
    pub(super) key_document: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub(super) olm_identity: [u8; 32],
    pub(super) xwing: XWingPublic,
    pub(super) stamps: Vec<serde_bytes::ByteBuf>,
}

impl From<Bundle> for Peer {
    fn from(bundle: Bundle) -> Self {
        Self {
            name: bundle.name().clone(),
            key_document: bundle.key_document.as_bytes().to_vec(),
            olm_identity: bundle.olm.identity.to_bytes(),
            xwing: bundle.xwing,
            stamps: bundle.stamps.into_iter().map(serde_bytes::ByteBuf::from).collect(),
        }
    }
}

impl LinkData {
    pub(super) fn new(role: Role, class: LinkClass, s0: S0, created: UnixMillis, expiry: UnixMillis) -> Self {
        Self {
            id: s0.link_id(),
            class,
            role,
            phase: match role {
                Role::Offerer => Phase::Offered,
                Role::Answerer => Phase::Added,
            },
            created,
            expiry,
            s0: Some(s0),
            fingerprint: None,
            introduced: None,
            own_ways: Vec::new(),
            peer_ways: Vec::new(),
            box_plaintext: None,
            answer: None,
            confirm: None,
            done: None,
            peer_confirm: None,
            delivered: false,
            th: None,
            account: None,
            session: None,
            xwing: None,
            peer: None,
            secrets: Vec::new(),
        }
    }

    pub(super) fn expects(&mut self, fingerprint: Fingerprint) {
        self.fingerprint = Some(fingerprint.0);
    }

    /// Makes the keys of this link and our bundle with them.
    pub(super) fn make_bundle(&mut self, own: &Own<'_>, rng: &mut impl rand_core::CryptoRng) -> Vec<u8> {
        let (account, olm): (AccountAtRest, OlmKeys) = new_account();
        let xwing = XWingSecret::generate(rng);
        let bundle = Bundle {
            key_document: own.key_document.clone(),
            olm,
            xwing: xwing.public(),
            ways: own.ways.to_vec(),
            stamps: own.stamps.to_vec(),
        };
        self.account = Some(account);
        self.xwing = Some(xwing);
        self.own_ways = own.ways.to_vec();
        bundle.seal(own.identity)
    }

    /// Takes over what the other side told; the ways of a bundle without ways are those of the contact link.
    pub(super) fn set_peer(&mut self, bundle: Bundle) {
        if !bundle.ways.is_empty() {
            self.peer_ways.clone_from(&bundle.ways);
        }
        self.peer = Some(bundle.into());
    }

    /// `label || th || role of the sender`: what an Olm message of the first contact says.
    pub(super) fn statement(&self, label: &[u8], sender: Role) -> Option<Vec<u8>> {
        self.th.map(|th| [label, &th.0, &[sender.as_byte()]].concat())
    }

    pub(super) fn confirmation(&self, sender: Role) -> Option<Vec<u8>> {
        self.statement(labels::CONFIRM, sender)
    }

    /// Ends the link and everything secret in it. The names stay, for the user.
    pub(super) fn wipe(&mut self, phase: Phase) {
        self.forget_first_contact();
        self.phase = phase;
        self.account = None;
        self.session = None;
        self.xwing = None;
        self.secrets.clear();
    }

    /// What an established link needs no more once its offer is out of the world.
    pub(super) fn forget_first_contact(&mut self) {
        self.s0 = None;
        self.box_plaintext = None;
        self.answer = None;
        self.confirm = None;
        self.done = None;
        self.peer_confirm = None;
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        serde_cbor::to_writer(&mut *bytes, self).expect("writing CBOR to memory does not fail");
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, LinkError> {
        let (version, body) = bytes.split_first().ok_or(LinkError::Stored { version: 0 })?;
        if *version != VERSION {
            return Err(LinkError::Stored { version: *version });
        }
        serde_cbor::from_slice(body).map_err(|_| LinkError::Stored { version: *version })
    }
}

/// Names a message in order to know it again.
pub(super) fn digest(message: &[u8]) -> Transcript {
    Transcript(Sha256::digest(message).into())
}

/// Of the row.
const VERSION: u8 = 1;
