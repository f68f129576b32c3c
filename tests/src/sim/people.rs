//! Who takes part: keys of nodes, drawn from the seed, and links between them made by the whole first contact.

use std::collections::BTreeMap;

use millpond_mailbox::{
    identity::IdentityKey,
    introduction::{IntroBody, Introduction},
    key_document::{DocumentKeys, KeyDocument},
    link::{Effect, Link, Own},
    message::Message,
    name::NodeName,
    signing_key::{Generation, SigningKey},
    time::UnixMillis,
    way::Way,
    xwing::XWingSecret,
};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap, PublicKeySet},
};

use super::random::SimRng;

/// The keys and names of one node and its one user.
pub struct Person {
    /// What names it.
    pub identity: IdentityKey,
    document: KeyDocument,
    intro: XWingSecret,
    /// Signs events.
    pub key: Ed25519KeyPair,
    /// Its name as Matrix has it.
    pub server: OwnedServerName,
    /// Its user.
    pub user: OwnedUserId,
}

impl Person {
    /// Draws one.
    ///
    /// # Panics
    /// Never: what is drawn is well-formed.
    pub fn new(rng: &mut SimRng) -> Self {
        let identity = IdentityKey::generate(rng);
        let signing = SigningKey::generate(Generation::FIRST, rng);
        let intro = XWingSecret::generate(rng);
        let (current, intro_key) = ([&signing], intro.public());
        let keys = DocumentKeys {
            generation: Generation::FIRST,
            current: &current,
            old: &BTreeMap::new(),
            intro_key: Some(&intro_key),
        };
        let document = KeyDocument::build(&identity, &keys).expect("a document of one key");
        // PKCS#8 version 1 around a 32-byte Ed25519 seed.
        let mut der =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        der.extend(rng.bytes());
        let key = Ed25519KeyPair::from_der(&der, "1".to_owned()).expect("a key of the right length");
        let server = ServerName::parse(identity.name().as_str()).expect("a node's name is a server name");
        let user = UserId::parse(format!("@me:{server}")).expect("a user of a server");
        Self { identity, document, intro, key, server, user }
    }

    /// What it is called on the overlay.
    #[must_use]
    pub fn name(&self) -> NodeName {
        self.identity.name()
    }

    fn handle(&self, link: &mut Link, message: &Message, now: UnixMillis, rng: &mut SimRng) -> Vec<Message> {
        sent(&link.handle(&own(self, &ways()), message, now, rng).expect("an honest first contact"))
    }
}

/// The keys of all, by which events are checked.
#[must_use]
pub fn public_keys(people: &[Person]) -> PublicKeyMap {
    let set =
        |person: &Person| PublicKeySet::from([("ed25519:1".to_owned(), Base64::new(person.key.public_key().to_vec()))]);
    people.iter().map(|person| (person.server.to_string(), set(person))).collect()
}

/// A whole first contact, the offerer's yes included.
///
/// # Panics
/// If honest people cannot be linked.
pub fn linked(offerer: &Person, answerer: &Person, now: UnixMillis, rng: &mut SimRng) -> (Link, Link) {
    let ways = ways();
    let (mut at_offerer, contact) = Link::offer(&own(offerer, &ways), now, rng).expect("an offer with ways");
    let mut at_answerer = Link::add(&contact, &answerer.identity.public(), now).expect("a fresh link");
    let mut to_answerer = at_offerer.opening(false);
    let mut asked = false;
    while !to_answerer.is_empty() {
        let mut to_offerer = Vec::new();
        for message in &to_answerer {
            to_offerer.extend(answerer.handle(&mut at_answerer, message, now, rng));
        }
        to_answerer.clear();
        for message in &to_offerer {
            to_answerer.extend(offerer.handle(&mut at_offerer, message, now, rng));
        }
        if !std::mem::replace(&mut asked, true) {
            to_answerer.extend(sent(&at_offerer.confirm().expect("the answerer has proven its name")));
        }
    }
    assert!(at_offerer.established_peer().is_some() && at_answerer.established_peer().is_some());
    (at_offerer, at_answerer)
}

/// A link that a third one carried the introduction for: everything it carries is sealed.
///
/// # Panics
/// If honest people cannot be introduced.
pub fn introduced(
    offerer: &Person,
    answerer: &Person,
    room_id: &str,
    now: UnixMillis,
    rng: &mut SimRng,
) -> (Link, Link) {
    let ways = ways();
    let mut at_offerer = Link::introduce(&own(offerer, &ways), &answerer.name(), now, rng);
    let offer = at_offerer.intro_offer().expect("an open offer");
    let IntroBody::Offer(offer) = carried(answerer, room_id, &IntroBody::Offer(offer), rng) else {
        unreachable!("an offer stays one")
    };
    let answered = Link::answer_introduction(&own(answerer, &ways), &offer, now, rng).expect("an honest offer");
    let (mut at_answerer, effects) = answered;
    let link = at_offerer.id();
    let mut to_offerer = sent(&effects);
    while !to_offerer.is_empty() {
        let mut to_answerer = Vec::new();
        for message in to_offerer.drain(..) {
            let IntroBody::Message { message, .. } =
                carried(offerer, room_id, &IntroBody::Message { link, message }, rng)
            else {
                unreachable!("a message stays one")
            };
            to_answerer.extend(offerer.handle(&mut at_offerer, &message, now, rng));
        }
        for message in to_answerer {
            let IntroBody::Message { message, .. } =
                carried(answerer, room_id, &IntroBody::Message { link, message }, rng)
            else {
                unreachable!("a message stays one")
            };
            to_offerer.extend(answerer.handle(&mut at_answerer, &message, now, rng));
        }
    }
    assert!(at_offerer.established_peer().is_some() && at_answerer.established_peer().is_some());
    (at_offerer, at_answerer)
}

/// As the carrier has it, opened by whom it is for.
fn carried(to: &Person, room_id: &str, body: &IntroBody, rng: &mut SimRng) -> IntroBody {
    let sealed = Introduction::seal(&to.document, room_id, body, rng).expect("a document with an intro key");
    let carried = Introduction::from_bytes(&sealed.to_bytes()).expect("as it was written");
    carried.open(&to.name(), &to.intro).expect("it is for him")
}

fn own<'a>(person: &'a Person, ways: &'a [Way]) -> Own<'a> {
    Own { identity: &person.identity, key_document: &person.document, ways, stamps: &[] }
}

fn ways() -> [Way; 1] {
    [Way::Direct(vec![4, 192, 168, 1, 1, 6, 17, 92])]
}

fn sent(effects: &[Effect]) -> Vec<Message> {
    let message = |effect: &Effect| match effect {
        Effect::Send(message) => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}
