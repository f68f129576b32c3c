//! Tokens: the one-time right to make a mailbox (overlay.md, section 5), as a VOPRF over ristretto255 (RFC 9497), so that the
//! host cannot connect a mailbox with whom it gave the token to, nor with the owner's other mailboxes.
//!
//! ```text
//! operator   grant = id 16 | HMAC(grant key, "millpond/grant/1" || id)      printed, handed to a person, good once
//! owner      input_i, blind_i drawn from a seed that is on disk first;  grant, blinded_1..n   --->
//! host       <---  evaluated_1..n, proof that all were made with the key in the host's link
//! owner      token_i = input_i 32 | output_i 64, spent one by one over streams of their own
//! ```

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use voprf::{BlindedElement, EvaluationElement, Group, Proof, Ristretto255, VoprfClient, VoprfServer};

use crate::{labels, secrets::Secret32};

mod grant;
mod seeded;

pub use grant::{GRANT_LEN, Grant, GrantError};
use seeded::Seeded;

/// What the operator's host makes and checks tokens with. Has no `Debug` output.
pub struct TokenSecret {
    seed: Secret32,
    server: VoprfServer<Ristretto255>,
}

impl TokenSecret {
    /// Makes the key of a new host.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::from_secret(Secret32::generate(rng))
    }

    /// Restores a key from the host's key file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::from_secret(Secret32::new(bytes))
    }

    fn from_secret(seed: Secret32) -> Self {
        let server = VoprfServer::new_from_seed(seed.as_bytes(), labels::TOKEN)
            .expect("a scalar is found within 256 tries but for one seed in 2^1000");
        Self { seed, server }
    }

    /// The 32 bytes, for the key file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.seed.as_bytes()
    }

    /// What owners check evaluations with.
    #[must_use]
    pub fn public(&self) -> TokenKey {
        TokenKey(array(&Ristretto255::serialize_elem(self.server.get_public_key())))
    }

    /// Evaluates the blinded halves of tokens, all under one proof.
    ///
    /// # Errors
    /// If there are none or too many, or one is no element of the group.
    pub fn evaluate(&self, blinded: &[Element], rng: &mut impl CryptoRng) -> Result<Evaluated, TokenError> {
        if !(1..=MAX_TOKENS).contains(&blinded.len()) {
            return Err(TokenError::Count);
        }
        let blinded = blinded
            .iter()
            .map(|element| BlindedElement::<Ristretto255>::deserialize(element))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TokenError::Element)?;
        let mut proof_rng = Seeded::draw(rng);
        let done = self.server.batch_blind_evaluate(&mut proof_rng, &blinded).map_err(|_| TokenError::Element)?;
        Ok(Evaluated {
            elements: done.messages.iter().map(|message| array(&message.serialize())).collect(),
            proof: array(&done.proof.serialize()),
        })
    }

    /// Whether the token was made with this key. Whether it was spent is for the caller to know.
    #[must_use]
    pub fn holds(&self, token: &Token) -> bool {
        self.server.evaluate(&token.input).is_ok_and(|output| output.as_slice().ct_eq(&token.output).into())
    }

    /// Makes a grant.
    pub fn grant(&self, rng: &mut impl CryptoRng) -> Grant {
        let mut id = [0_u8; 16];
        rng.fill_bytes(&mut id);
        Grant::new(id, self.grant_mac(&id))
    }

    /// Whether the operator made the grant.
    #[must_use]
    pub fn granted(&self, grant: &Grant) -> bool {
        self.grant_mac(&grant.id()).ct_eq(&grant.mac()).into()
    }

    fn grant_mac(&self, id: &[u8; 16]) -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(self.seed.derive(labels::GRANT_KEY).as_bytes())
            .expect("HMAC takes keys of any length")
            .chain_update(labels::GRANT)
            .chain_update(id)
            .finalize()
            .into_bytes()
            .into()
    }
}

/// What a host's tokens are checked with; the same for everybody, because it stands in the host's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenKey(#[serde(with = "serde_bytes")] [u8; 32]);

impl TokenKey {
    /// Accepts elements of the group only.
    ///
    /// # Errors
    /// If the bytes are no element, or the neutral one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, TokenError> {
        Ristretto255::deserialize_elem(bytes).map_err(|_| TokenError::Element)?;
        Ok(Self(*bytes))
    }

    /// The element in its encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// An encoded group element: the blinded half of a token, or its evaluation.
pub type Element = [u8; 32];

/// What the host sends back for blinded halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// One for each.
    pub elements: Vec<Element>,
    /// That all were made with one and the same key.
    pub proof: [u8; 64],
}

/// Tokens on their way: everything is drawn from one seed, so that a node that is killed in between asks again for the same.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenRequest {
    seed: Secret32,
    count: u8,
}

impl TokenRequest {
    /// Starts a request for so many tokens (at least one, at most `MAX_TOKENS`). To be on disk before it is sent.
    pub fn generate(count: usize, rng: &mut impl CryptoRng) -> Self {
        let count = u8::try_from(count.clamp(1, MAX_TOKENS)).expect("MAX_TOKENS is below 256");
        Self { seed: Secret32::generate(rng), count }
    }

    /// The blinded halves, to be sent with the grant.
    #[must_use]
    pub fn blinded(&self) -> Vec<Element> {
        self.blinds().into_iter().map(|(_, _, element)| array(&element.serialize())).collect()
    }

    /// Makes the tokens out of the host's evaluation.
    ///
    /// # Errors
    /// If the host used another key than the one in its link, or answered for another number of tokens.
    pub fn finish(&self, key: &TokenKey, evaluated: &Evaluated) -> Result<Vec<Token>, TokenError> {
        let key = Ristretto255::deserialize_elem(&key.0).map_err(|_| TokenError::Element)?;
        let elements = evaluated
            .elements
            .iter()
            .map(|element| EvaluationElement::<Ristretto255>::deserialize(element))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TokenError::Element)?;
        let proof = Proof::<Ristretto255>::deserialize(&evaluated.proof).map_err(|_| TokenError::Proof)?;
        let (mut inputs, mut clients) = (Vec::new(), Vec::new());
        for (input, client, _) in self.blinds() {
            inputs.push(input);
            clients.push(client);
        }
        if elements.len() != inputs.len() {
            return Err(TokenError::Count);
        }
        let slices: Vec<&[u8]> = inputs.iter().map(<[u8; 32]>::as_slice).collect();
        let outputs = VoprfClient::batch_finalize(&slices, &clients, &elements, &proof, key)
            .map_err(|_| TokenError::Proof)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TokenError::Proof)?;
        Ok(inputs.iter().zip(&outputs).map(|(input, output)| Token { input: *input, output: array(output) }).collect())
    }

    fn blinds(&self) -> Vec<(Element, VoprfClient<Ristretto255>, BlindedElement<Ristretto255>)> {
        let blind = |index: u8| {
            let input = *self.seed.derive_one(labels::TOKEN_INPUT, &[index]).as_bytes();
            let mut rng = Seeded::new(self.seed.derive_one(labels::TOKEN_BLIND, &[index]));
            let drawn = VoprfClient::blind(&input, &mut rng).expect("32 bytes are an input of the VOPRF");
            (input, drawn.state, drawn.message)
        };
        (0..self.count).map(blind).collect()
    }
}

/// The right to make one mailbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    #[serde(with = "serde_bytes")]
    input: [u8; 32],
    #[serde(with = "serde_bytes")]
    output: [u8; 64],
}

impl Token {
    /// Takes a token out of a request.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; TOKEN_LEN]) -> Self {
        let (mut input, mut output) = ([0_u8; 32], [0_u8; 64]);
        input.copy_from_slice(&bytes[..32]);
        output.copy_from_slice(&bytes[32..]);
        Self { input, output }
    }

    /// `input 32 | output 64`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TOKEN_LEN] {
        let mut bytes = [0_u8; TOKEN_LEN];
        bytes[..32].copy_from_slice(&self.input);
        bytes[32..].copy_from_slice(&self.output);
        bytes
    }

    /// What the host keeps of a spent token: `SHA256("millpond/spent/1" || input)`.
    #[must_use]
    pub fn spent_mark(&self) -> SpentMark {
        SpentMark::of(&self.input)
    }
}

/// Says nothing: whoever reads a token can spend it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// By this a host knows that a token or a grant was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpentMark(pub [u8; 32]);

impl SpentMark {
    fn of(what: &[u8]) -> Self {
        Self(Sha256::new().chain_update(labels::SPENT).chain_update(what).finalize().into())
    }
}

/// Why tokens cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None, too many, or another number than was asked for.
    #[error("1 to {MAX_TOKENS} tokens can be asked for at once, and as many must come back")]
    Count,
    /// Not the encoding of a group element.
    #[error("a token's element cannot be read")]
    Element,
    /// The proof does not hold.
    #[error("the host did not make the tokens with the key in its link")]
    Proof,
}

/// The library's encodings are of the lengths that the group and the hash fix.
fn array<const N: usize>(encoded: &[u8]) -> [u8; N] {
    let mut out = [0_u8; N];
    out.copy_from_slice(encoded);
    out
}

/// Tokens for one grant: one for each week of a year, for recovery mailboxes, and some to spare.
pub const MAX_TOKENS: usize = 64;
/// Bytes of a token.
pub const TOKEN_LEN: usize = 96;
