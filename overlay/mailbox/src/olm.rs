//! The Olm account and session of one link. Both are kept as their serialised form, so that a link is a plain value; they
//! are only unpacked for the few messages of a first contact. vodozemac draws its own randomness.

use serde::{Deserialize, Serialize};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, AccountPickle, OlmMessage, Session, SessionConfig, SessionPickle},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::bundle::OlmKeys;

/// An Olm account at rest.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct AccountAtRest(#[serde(with = "serde_bytes")] Vec<u8>);

/// An Olm session at rest.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(crate) struct SessionAtRest(#[serde(with = "serde_bytes")] Vec<u8>);

/// Something about the other side's Olm message or keys is wrong, or our own state is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OlmError {
    /// The message has no form that Olm knows.
    #[error("not an Olm message")]
    Form,
    /// The message was not made with the certified key, or not for this account or session.
    #[error("the Olm message was not made with the certified key for this link")]
    DoesNotOpen,
    /// A public key gives no shared secret.
    #[error("the other side's Olm keys are unusable")]
    Keys,
    /// What was stored cannot be read back.
    #[error("the stored Olm state of this link is damaged")]
    Stored,
}

/// Makes the account of a new link, with the one one-time key and the fallback key that its bundle shows.
pub(crate) fn new_account() -> (AccountAtRest, OlmKeys) {
    let mut account = Account::new();
    let one_time = account.generate_one_time_keys(1).created.first().copied();
    account.generate_fallback_key();
    let fallback = account.fallback_key().into_values().next();
    let keys = OlmKeys {
        identity: account.curve25519_key(),
        one_time: one_time.expect("one key was asked for"),
        fallback: fallback.expect("a fallback key was just made"),
    };
    account.mark_keys_as_published();
    (AccountAtRest::pack(&account), keys)
}

impl AccountAtRest {
    fn pack(account: &Account) -> Self {
        Self(serde_cbor::to_vec(&account.pickle()).expect("writing CBOR to memory does not fail"))
    }

    fn unpack(&self) -> Result<Account, OlmError> {
        let pickle: AccountPickle = serde_cbor::from_slice(&self.0).map_err(|_| OlmError::Stored)?;
        Ok(Account::from_pickle(pickle))
    }

    /// The answerer's session towards the keys in the box.
    pub(crate) fn outbound(&self, peer: &OlmKeys) -> Result<SessionAtRest, OlmError> {
        let session = self
            .unpack()?
            .create_outbound_session(SessionConfig::version_1(), peer.identity, peer.one_time)
            .map_err(|_| OlmError::Keys)?;
        Ok(SessionAtRest::pack(&session))
    }

    /// The offerer's session, from the first message that the answerer sent with its certified key. Returns the account
    /// without the used one-time key, the session, and what the message said.
    pub(crate) fn inbound(
        &self,
        peer: Curve25519PublicKey,
        message: &[u8],
    ) -> Result<(Self, SessionAtRest, Vec<u8>), OlmError> {
        let OlmMessage::PreKey(message) = parse(message)? else {
            return Err(OlmError::DoesNotOpen);
        };
        let mut account = self.unpack()?;
        let made = account
            .create_inbound_session(SessionConfig::version_1(), peer, &message)
            .map_err(|_| OlmError::DoesNotOpen)?;
        Ok((Self::pack(&account), SessionAtRest::pack(&made.session), made.plaintext))
    }
}

impl SessionAtRest {
    fn pack(session: &Session) -> Self {
        Self(serde_cbor::to_vec(&session.pickle()).expect("writing CBOR to memory does not fail"))
    }

    fn unpack(&self) -> Result<Session, OlmError> {
        let pickle: SessionPickle = serde_cbor::from_slice(&self.0).map_err(|_| OlmError::Stored)?;
        Ok(Session::from_pickle(pickle))
    }

    /// Encrypts one message: `type u8 || Olm message`.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, OlmError> {
        let mut session = self.unpack()?;
        let (kind, body) = session.encrypt(plaintext).map_err(|_| OlmError::Keys)?.to_parts();
        *self = Self::pack(&session);
        let kind = u8::try_from(kind).expect("Olm has message types 0 and 1");
        Ok([&[kind], body.as_slice()].concat())
    }

    /// Opens one message of this session.
    pub(crate) fn decrypt(&mut self, message: &[u8]) -> Result<Vec<u8>, OlmError> {
        let message = parse(message)?;
        let mut session = self.unpack()?;
        // A pre-key message of the session that is known goes to it; of another one it is for nobody.
        if let OlmMessage::PreKey(first) = &message
            && first.session_id() != session.session_id()
        {
            return Err(OlmError::DoesNotOpen);
        }
        let plaintext = session.decrypt(&message).map_err(|_| OlmError::DoesNotOpen)?;
        *self = Self::pack(&session);
        Ok(plaintext)
    }
}

fn parse(message: &[u8]) -> Result<OlmMessage, OlmError> {
    let (kind, body) = message.split_first().ok_or(OlmError::Form)?;
    OlmMessage::from_parts(usize::from(*kind), body).map_err(|_| OlmError::Form)
}
