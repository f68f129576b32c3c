//! Two nodes in one value, without a network: messages are handed over by hand, time is a number.

use std::{collections::BTreeMap, convert::Infallible};

use millpond_mailbox::{
    identity::IdentityKey,
    key_document::{DocumentKeys, KeyDocument},
    link::{Effect, Link, LinkError, Own},
    message::Message,
    name::NodeName,
    rand_core::{Rng, TryCryptoRng, TryRng},
    signing_key::{Generation, SigningKey},
    time::UnixMillis,
    way::Way,
    xwing::XWingSecret,
};
use sha2::{Digest, Sha256};

/// 2027-01-15T08:00:00Z.
pub const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
pub const DAY_MS: u64 = 86_400_000;

/// SHA256 of seed and counter: enough for tests, and the same everywhere.
pub struct TestRng {
    seed: u64,
    counter: u64,
}

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(self.counter.to_be_bytes()).finalize();
            self.counter += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// One node: its keys, and the randomness that it draws.
pub struct Node {
    pub identity: IdentityKey,
    pub intro: XWingSecret,
    pub signing: SigningKey,
    pub document: KeyDocument,
    pub ways: Vec<Way>,
    pub rng: TestRng,
}

impl Node {
    pub fn new(seed: u64) -> Self {
        let mut rng = TestRng::new(seed);
        let identity = IdentityKey::generate(&mut rng);
        let signing = SigningKey::generate(Generation::FIRST, &mut rng);
        let intro = XWingSecret::generate(&mut rng);
        let document = document(&identity, &signing, Some(&intro), Generation::FIRST);
        let ways = vec![Way::Direct(vec![4, 192, 168, 1, seed as u8, 6, 17, 92])];
        Self { identity, intro, signing, document, ways, rng }
    }

    pub fn name(&self) -> NodeName {
        self.identity.name()
    }

    pub fn handle(&mut self, link: &mut Link, message: &Message) -> Result<Vec<Effect>, LinkError> {
        self.handle_at(link, message, NOW)
    }

    pub fn handle_at(&mut self, link: &mut Link, message: &Message, now: UnixMillis) -> Result<Vec<Effect>, LinkError> {
        let own = Own { identity: &self.identity, key_document: &self.document, ways: &self.ways, stamps: &[] };
        link.handle(&own, message, now, &mut self.rng)
    }

    pub fn offer(&mut self) -> (Link, millpond_mailbox::contact_link::ContactLink) {
        let own = Own { identity: &self.identity, key_document: &self.document, ways: &self.ways, stamps: &[] };
        Link::offer(&own, NOW, &mut self.rng).expect("an offer with ways")
    }

    pub fn add(&self, contact: &millpond_mailbox::contact_link::ContactLink) -> Link {
        Link::add(contact, &self.identity.public(), NOW).expect("a fresh link of another node")
    }
}

pub fn document(
    identity: &IdentityKey,
    signing: &SigningKey,
    intro: Option<&XWingSecret>,
    generation: Generation,
) -> KeyDocument {
    let intro = intro.map(XWingSecret::public);
    let keys = DocumentKeys { generation, current: &[signing], old: &BTreeMap::new(), intro_key: intro.as_ref() };
    KeyDocument::build(identity, &keys).expect("a document of one key")
}

/// The messages among effects; they must stand behind a `Persist` whenever something changed.
pub fn sent(effects: &[Effect]) -> Vec<Message> {
    let messages: Vec<Message> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(message) => Some(message.clone()),
            _ => None,
        })
        .collect();
    let persisted = effects.iter().position(|effect| *effect == Effect::Persist);
    let first_sent = effects.iter().position(|effect| matches!(effect, Effect::Send(_)));
    if let (Some(persisted), Some(first_sent)) = (persisted, first_sent) {
        assert!(persisted < first_sent, "a message leaves before the link is on disk");
    }
    messages
}

/// Kills the node and starts it again from its rows.
pub fn restart(link: &mut Link) {
    *link = Link::from_bytes(&link.to_bytes()).expect("what was stored can be read");
}

/// A whole first contact with the offerer's yes; returns both links.
pub fn linked(alice: &mut Node, bob: &mut Node) -> (Link, Link) {
    let (mut at_alice, contact) = alice.offer();
    let mut at_bob = bob.add(&contact);
    let [offer] = at_alice.opening(false).try_into().expect("the box");
    let answers = sent(&bob.handle(&mut at_bob, &offer).expect("the box is good"));
    for message in &answers {
        alice.handle(&mut at_alice, message).expect("the answer is good");
    }
    let [confirm] = sent(&at_alice.confirm().expect("the answerer has proven its name")).try_into().expect("one");
    let [done] = sent(&bob.handle(&mut at_bob, &confirm).expect("the confirmation is good")).try_into().expect("one");
    alice.handle(&mut at_alice, &done).expect("the end is good");
    (at_alice, at_bob)
}
