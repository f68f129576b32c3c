//! The fuzz targets without a fuzzer: each runs its checked-in corpus and its share of ten seconds of generated input.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use millpond_mailbox::{
    descriptor::Descriptor,
    frame::Frame,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, BoxId, Claim, Cursor, Fetched, OwnerAsk, Purpose, Quota, Request, Seq},
    introduction::{IntroBody, Introduction},
    item::{Fragment, Item, Request as RequestItem, Response},
    key_pack::KeyPack,
    link::{Link, Own},
    mailbox::{BatchId, HostNonce, MailboxSecret},
    message::Message,
    rand_core::Rng,
    session::RowKey,
    stamp::{Class, MailboxId, Serial},
    time::UtcDay,
    token::{Evaluated, TokenRequest},
};

use crate::{
    carrier::World,
    hosting::{self, deposit},
    world::{NOW, Node, TestRng},
};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// For all targets together.
const GENERATED: Duration = Duration::from_secs(10);

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus(target))
        .expect("every target has a corpus")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable file")).collect()
}

#[test]
fn every_parser_survives_its_corpus_and_what_is_made_from_it() {
    let share = GENERATED / u32::try_from(targets::TARGETS.len()).expect("a few");
    for (seed, (name, target)) in (1..).zip(targets::TARGETS) {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has an empty corpus");
        inputs.iter().for_each(|input| target(input));
        let mut rng = TestRng::new(seed);
        let end = clock() + share;
        while clock() < end {
            let input = mutate(&inputs, &mut rng);
            let survived = std::panic::catch_unwind(|| target(&input));
            assert!(survived.is_ok(), "{name} with seed {seed} panics at {}", data_encoding::HEXLOWER.encode(&input));
        }
    }
}

/// The bound is on the test's own time, which no machine sees.
#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}

/// One of the inputs with a few things wrong.
fn mutate(inputs: &[Vec<u8>], rng: &mut TestRng) -> Vec<u8> {
    let mut below = |limit: usize| (rng.next_u64() % limit.max(1) as u64) as usize;
    let mut input = inputs[below(inputs.len())].clone();
    for _ in 0..=below(4) {
        let at = below(input.len());
        match below(7) {
            0 if !input.is_empty() => input[at] ^= 1 << below(8),
            1 if !input.is_empty() => input[at] = below(256) as u8,
            2 => input.truncate(at),
            3 => input.insert(at, below(256) as u8),
            4 if !input.is_empty() => drop(input.remove(at)),
            5 => {
                let other = &inputs[below(inputs.len())];
                input.truncate(at);
                input.extend_from_slice(&other[below(other.len())..]);
            }
            // Lengths and counts as they are written: all ones, all zeros.
            _ => {
                let end = input.len().min(at + 4);
                input[at..end].fill(if below(2) == 0 { 0xff } else { 0 });
            }
        }
    }
    input
}

fn requests() -> Vec<Vec<u8>> {
    let (secret, host, nonce) = (MailboxSecret::from_bytes([1; 32]), hosting::key(), HostNonce([2; 32]));
    let mut rng = TestRng::new(3);
    let (grant, request) = (hosting::tokens().grant(&mut rng), TokenRequest::generate(2, &mut rng));
    let evaluated = hosting::tokens().evaluate(&request.blinded(), &mut rng).expect("elements");
    let token = request.finish(&hosting::token_key(), &evaluated).expect("its own key").remove(0);
    let mut made = vec![
        Request::put(Seq(1), &deposit(&secret, Class::S, 7)),
        Request::take(Seq(2), &BoxId([3; 32]), &Claim([4; 32])),
        Request::tokens(Seq(3), &grant, &request.blinded()),
        Request::create(Seq(4), (&host, &nonce), &secret, Purpose::Ordinary, &token),
    ];
    for ask in [
        OwnerAsk::Fetch { after: Cursor(1) },
        OwnerAsk::Delete { serials: vec![Serial(1), Serial(2)] },
        OwnerAsk::Announce,
        OwnerAsk::Close,
        OwnerAsk::Quota,
    ] {
        made.push(Request::owner(Seq(5), (&host, &nonce), &secret.id(), &secret.read_key(), &ask));
    }
    made
}

fn answers() -> Vec<Vec<u8>> {
    let secret = MailboxSecret::from_bytes([1; 32]);
    let page = Fetched { deposits: vec![deposit(&secret, Class::S, 7)], next: Cursor(9), more: true };
    [
        Answer::Done,
        Answer::Page(page),
        Answer::Quota(Quota { envelopes: 1, bytes: 2, closes: UtcDay(3) }),
        Answer::Tokens(Evaluated { elements: vec![[7; 32]; 2], proof: [8; 64] }),
        Answer::Arrived(MailboxId([9; 32])),
        Answer::Malformed("a request of the unknown kind 9".to_owned()),
        Answer::Refused,
    ]
    .iter()
    .map(|answer| answer.to_bytes(Seq(7)))
    .collect()
}

fn frame() -> Frame {
    let (id, headers, body) =
        (7, vec![("content-type".to_owned(), b"application/json".to_vec().into())], b"{}".to_vec());
    let request = RequestItem {
        id,
        deadline: NOW,
        method: "GET".to_owned(),
        target: "/_matrix/federation/v1/version".to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    let items = vec![
        Item::Transaction { via: vec![Node::new(3).name()], body: b"{\"pdus\":[]}".to_vec() },
        Item::ToDevice { order: 7, body: b"{}".to_vec() },
        Item::Request(request),
        Item::Response(Response { id, status: 200, headers, body }),
        Item::KeyPack(KeyPack { version: 1, pack: vec![1; 30] }),
        Item::Fragment(Fragment { of: 0, index: 1, count: 3, part: vec![5; 50] }),
        Item::Void,
    ];
    Frame { nak: vec![1, 2], items: (0..).zip(items).collect(), ..Frame::default() }
}

fn honest(target: &str) -> Vec<Vec<u8>> {
    let (mut alice, bob) = (Node::new(1), Node::new(2));
    let (link, contact) = alice.offer();
    let Message::Box(bundle) = link.opening(false).remove(0) else { panic!("a box") };
    let secret = MailboxSecret::from_bytes([1; 32]);
    let way = HostWay::new(hosting::key(), vec![vec![4, 127, 0, 0, 1, 6, 31, 64]]).expect("an address");
    match target {
        "answer" => answers(),
        "bundle" => vec![bundle],
        "contact_link" => vec![contact.to_uri().into_bytes()],
        "deposit" => vec![deposit(&secret, Class::S, 7).to_bytes()],
        "descriptor" => {
            let (issued, expiry) = (NOW, NOW.after(Duration::from_secs(3_600)));
            let descriptor = Descriptor { name: alice.name(), issued, expiry, ways: alice.ways.clone() };
            let document = alice.document.as_bytes();
            let length = u16::try_from(document.len()).expect("short").to_be_bytes();
            vec![[length.as_slice(), document, &descriptor.sign(&alice.signing)].concat()]
        }
        "frame" => vec![frame().to_bytes()],
        "item" => frame().items.iter().map(|(_, item)| [&[item.kind()], item.body().as_slice()].concat()).collect(),
        "session" => {
            let world = World::new(1);
            let record = world.sides[0].rows.0[&RowKey::Record].clone();
            vec![record, world.sides[0].session.backup().to_bytes().to_vec()]
        }
        "grant" => {
            let grant = hosting::tokens().grant(&mut TestRng::new(1));
            vec![grant.to_text().into_bytes(), vec![7; 96]]
        }
        "host_link" => {
            vec![way.to_bytes(), HostLink { way, tokens: hosting::token_key() }.to_uri().into_bytes()]
        }
        "introduction" => {
            let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &alice.ways, stamps: &[] };
            let introduced = Link::introduce(&own, &bob.name(), NOW, &mut TestRng::new(1));
            let body = IntroBody::Offer(introduced.intro_offer().expect("open"));
            let sealed = Introduction::seal(&bob.document, "!room", &body, &mut TestRng::new(2)).expect("sealed");
            vec![sealed.to_bytes()]
        }
        "key_document" => vec![alice.document.as_bytes().to_vec()],
        "link" => vec![link.to_bytes().to_vec()],
        "message" => vec![Message::Box(bundle).to_bytes(), Message::Done(vec![1; 40]).to_bytes()],
        "request" => requests(),
        "stamp_batch" => vec![secret.issue(BatchId(1), Class::S, &[Serial(1), Serial(2)]).to_bytes()],
        _ => panic!("no honest input for {target}"),
    }
}

/// `cargo test -p millpond-mailbox --test it -- --ignored honest`, after a change of a format.
#[test]
#[ignore = "writes files: to be run by hand when a format changes"]
fn write_the_honest_inputs_into_the_corpus() {
    for (name, _) in targets::TARGETS {
        fs::create_dir_all(corpus(name)).expect("a folder");
        for (at, input) in honest(name).iter().enumerate() {
            fs::write(corpus(name).join(format!("honest-{at}")), input).expect("written");
        }
    }
}
