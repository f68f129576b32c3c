//! The fuzz targets without a fuzzer: each runs its checked-in corpus and a second of generated input.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use millpond_mailbox::{
    backup_file::{BackupChunks, BackupHeader},
    descriptor::Descriptor,
    envelope::{self, EnvelopeSecret, Kind},
    frame::Frame,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, BoxId, Claim, Cursor, Fetched, OwnerAsk, Purpose, Quota, Request, Seq},
    introduction::{IntroBody, Introduction},
    item::{Fragment, Item, Request as RequestItem, Response},
    key_pack::KeyPack,
    link::{Link, Own, Role},
    mailbox::{BatchId, HostNonce, MailboxSecret},
    message::Message,
    rand_core::Rng,
    secrets::{LinkId, S0},
    session::{InEvent, RowKey},
    stamp::{Class, MailboxId, Serial},
    stream::{Dialer, EphemeralSeed, HintTable, accept},
    time::UtcDay,
    token::{Evaluated, TokenRequest},
};

use crate::{
    carrier::{ALICE, BOB, World},
    hosting::{self, deposit},
    world::{NOW, Node, TestRng},
};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// For each target, beside its corpus.
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
    // As many at once as most machines have cores for.
    std::thread::scope(|scope| {
        for share in targets::TARGETS.chunks(targets::TARGETS.len().div_ceil(2)) {
            scope.spawn(|| share.iter().for_each(|(name, target)| fuzz(name, *target)));
        }
    });
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has an empty corpus");
    inputs.iter().for_each(|input| target(input));
    let mut rng = TestRng::new(name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte)));
    let end = clock() + GENERATED;
    while clock() < end {
        let input = mutate(&inputs, &mut rng);
        let survived = std::panic::catch_unwind(|| target(&input));
        assert!(survived.is_ok(), "{name} panics at {}", data_encoding::HEXLOWER.encode(&input));
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

/// What belongs together: Olm draws its own randomness, so that another run makes another one of each.
struct Made {
    link: Vec<u8>,
    bundle: Vec<u8>,
    contact: String,
    answer: Vec<u8>,
    /// The record of a session in use, its backup, and the record of one that has said HELLO.
    records: [Vec<u8>; 3],
    arrived: Vec<Vec<u8>>,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let (mut alice, mut bob) = (Node::new(1), Node::new(2));
        let (link, contact) = alice.offer();
        let Message::Box(bundle) = link.opening(false).remove(0) else { panic!("a box") };
        let mut at_bob = bob.add(&contact);
        bob.handle(&mut at_bob, &Message::Box(bundle.clone())).expect("an honest box");
        let [Message::Answer(answer), Message::Confirm(confirm)] = &at_bob.opening(true)[..] else {
            panic!("an answer")
        };
        let answer = serde_cbor::to_vec(&(serde_bytes::Bytes::new(answer), serde_bytes::Bytes::new(confirm)));
        let (records, arrived) = sessions();
        Made {
            link: link.to_bytes().to_vec(),
            bundle,
            contact: contact.to_uri(),
            answer: answer.expect("CBOR"),
            records,
            arrived,
        }
    })
}

/// Records, and what comes to them in envelopes, as the target `arrived` reads it.
fn sessions() -> ([Vec<u8>; 3], Vec<Vec<u8>>) {
    let mut world = World::new(1);
    let record = world.sides[ALICE].rows.0[&RowKey::Record].clone();
    let secrets = world.sides[ALICE].session.link_secrets();
    let keys = [EnvelopeSecret::from(&secrets[0]), secrets[0].restore_key().envelope_secret()];
    let backup = world.sides[BOB].session.backup();
    let kept = backup.to_bytes().to_vec();
    let mut arrived = Vec::new();
    let mut take = |world: &mut World, side: usize| {
        for envelope in world.fetch(side) {
            let opened = envelope::open(&keys, &envelope.seed, &envelope.header, &envelope.body).expect("honest").1;
            let kind = [Kind::Frame, Kind::AckOnly, Kind::Answer, Kind::Hello, Kind::HelloAnswer]
                .iter()
                .position(|kind| *kind == opened.kind);
            let head = [side as u8, kind.expect("one of these") as u8];
            arrived.push([&head, opened.frame_no.to_be_bytes().as_slice(), &opened.payload].concat());
            let now = world.now;
            world.sides[side].feed(now, InEvent::Arrived(vec![envelope]));
        }
    };
    world.sides[BOB].offer(Item::Transaction { via: Vec::new(), body: b"{\"pdus\":[]}".to_vec() });
    world.turn(BOB);
    take(&mut world, ALICE);
    // Bob loses everything but his backup, says HELLO, and is answered.
    crate::hellos::restore(&mut world, BOB, backup);
    world.turn(BOB);
    let renewed = world.sides[BOB].rows.0[&RowKey::Record].clone();
    take(&mut world, ALICE);
    world.turn(ALICE);
    take(&mut world, BOB);
    ([record, kept, renewed], arrived)
}

fn stream() -> Vec<u8> {
    let keys = S0::from_bytes([1; 32]).stream_keys();
    let mut table = HintTable::new(UtcDay(20_000));
    table.insert((), keys.clone(), Role::Answerer);
    let seed = |byte| EphemeralSeed::from_bytes([byte; 32]);
    let (dialer, opening) = Dialer::open(&keys, Role::Answerer, UtcDay(20_000), seed(2)).expect("it works");
    let accepted = accept(&table, &opening, seed(3)).expect("it is known");
    let (mut transport, mut out) = (dialer.finish(&accepted.reply).expect("the same psk"), BytesMut::new());
    transport.seal(b"two frames", &mut out).expect("open");
    transport.seal(b"and no more", &mut out).expect("open");
    transport.seal_end(&mut out).expect("open");
    out.to_vec()
}

fn introduction() -> (Introduction, IntroBody) {
    let (alice, bob) = (Node::new(1), Node::new(2));
    let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &alice.ways, stamps: &[] };
    let introduced = Link::introduce(&own, &bob.name(), NOW, &mut TestRng::new(1));
    let body = IntroBody::Offer(introduced.intro_offer().expect("open"));
    (Introduction::seal(&bob.document, "!room", &body, &mut TestRng::new(2)).expect("sealed"), body)
}

fn honest(target: &str) -> Vec<Vec<u8>> {
    let (alice, made) = (Node::new(1), made());
    let secret = MailboxSecret::from_bytes([1; 32]);
    let way = HostWay::new(hosting::key(), vec![vec![4, 127, 0, 0, 1, 6, 31, 64]]).expect("an address");
    match target {
        "answer" => answers(),
        "arrived" => made.arrived.clone(),
        "backup" => {
            let header = BackupHeader::new([1; 16], [2; 16]);
            let chunk = BackupChunks::new(&[3; 32].into(), &header).seal(b"a database", true);
            vec![[header.to_bytes().as_slice(), &chunk].concat()]
        }
        "bundle" => vec![made.bundle.clone()],
        "contact_link" => vec![made.contact.clone().into_bytes()],
        "first_answer" => vec![made.answer.clone()],
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
        "session" => made.records.to_vec(),
        "grant" => {
            let grant = hosting::tokens().grant(&mut TestRng::new(1));
            vec![grant.to_text().into_bytes(), vec![7; 96]]
        }
        "host_link" => {
            vec![way.to_bytes(), HostLink { way, tokens: hosting::token_key() }.to_uri().into_bytes()]
        }
        "introduced" => {
            let message = IntroBody::Message { link: LinkId([4; 16]), message: Message::Done(vec![1; 40]) };
            vec![introduction().1.to_bytes().to_vec(), message.to_bytes().to_vec()]
        }
        "introduction" => vec![introduction().0.to_bytes()],
        "key_document" => vec![alice.document.as_bytes().to_vec()],
        "keys" => {
            vec![alice.intro.public().to_bytes(), alice.identity.public().as_bytes().to_vec()]
        }
        "link" => vec![made.link.clone()],
        "message" => vec![Message::Box(made.bundle.clone()).to_bytes(), Message::Done(vec![1; 40]).to_bytes()],
        "name" => vec![alice.name().as_str().into(), alice.signing.key_id().as_str().into()],
        "request" => requests(),
        "stamp_batch" => vec![secret.issue(BatchId(1), Class::S, &[Serial(1), Serial(2)]).to_bytes()],
        "stream" => vec![stream()],
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
