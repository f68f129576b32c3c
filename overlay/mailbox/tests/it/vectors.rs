//! Every derived value against a file in tests/vectors. `check.py` there computes the same values without our code, so a
//! difference on either side is a change of the protocol.

use std::collections::BTreeMap;

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use millpond_mailbox::{
    bundle::{Bundle, OlmKeys},
    contact_link::ContactLink,
    exchange::{open_answer, seal_answer},
    host_key::HostSecret,
    host_link::{HostLink, HostWay},
    host_protocol::{OwnerAsk, Purpose, Request, Seq},
    identity::IdentityKey,
    introduction::{IntroBody, Introduction},
    key_document::{DocumentKeys, KeyDocument},
    link::Role,
    mailbox::{BatchId, HostNonce, MailboxSecret},
    message::Message,
    secrets::{Epoch, LinkId, LinkSecret, S0, Transcript},
    signing_key::{Generation, SigningKey},
    stamp::{Class, Serial},
    stream::{Dialer, EphemeralSeed, HintTable, HostDialer, accept, accept_host},
    time::{UnixMillis, UtcDay},
    token::{Token, TokenSecret},
    way::Way,
    xwing::XWingSecret,
};
use serde_json::{Value, json};
use vodozemac::Curve25519PublicKey;

use crate::world::TestRng;

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

pub fn compare(file: &str, actual: &Value) {
    let expected: Value = serde_json::from_str(file).unwrap_or(Value::Null);
    assert!(*actual == expected, "differs from the file; now it is\n{actual:#}\n");
}

fn identity() -> IdentityKey {
    IdentityKey::from_seed(&[0x11; 32])
}

fn key_document() -> KeyDocument {
    let signing = SigningKey::from_seed(Generation(3), &[0x22; 32]);
    let intro = XWingSecret::from_bytes([0x33; 32]).public();
    let keys = DocumentKeys {
        generation: Generation(3),
        current: &[&signing],
        old: &BTreeMap::new(),
        intro_key: Some(&intro),
    };
    KeyDocument::build(&identity(), &keys).expect("one key")
}

#[test]
fn names_fingerprints_and_key_ids() {
    let public = identity().public();
    let signing = SigningKey::from_seed(Generation(3), &[0x22; 32]);
    compare(
        include_str!("../vectors/names.json"),
        &json!({
            "identity_seed": hex([0x11; 32]),
            "identity_key": hex(public.as_bytes()),
            "name": identity().name().as_str(),
            "fingerprint": hex(public.fingerprint().0),
            "signing_seed": hex([0x22; 32]),
            "signing_key": hex(signing.verify_key().as_bytes()),
            "key_id": signing.key_id().as_str(),
        }),
    );
}

#[test]
fn key_documents() {
    let document = key_document();
    compare(
        include_str!("../vectors/key_document.json"),
        &json!({
            "identity_seed": hex([0x11; 32]),
            "signing_seed": hex([0x22; 32]),
            "intro_seed": hex([0x33; 32]),
            "generation": 3,
            "document": String::from_utf8_lossy(document.as_bytes()),
        }),
    );
}

#[test]
fn secrets_from_s0_and_the_first_link_secret() {
    let s0 = S0::from_bytes([0x44; 32]);
    let (exported, th) = ([0x55; 32], Transcript([0x66; 32]));
    let ls0 = LinkSecret::first(&s0, &exported, &th);
    assert_eq!(ls0.epoch(), Epoch(0));
    let (before, after) = (s0.stream_keys(), ls0.stream_keys());
    let day = UtcDay(20_833);
    compare(
        include_str!("../vectors/secrets.json"),
        &json!({
            "s0": hex([0x44; 32]),
            "box_id": hex(s0.box_id()),
            "box_key": hex(s0.box_key().as_slice()),
            "psk": hex(s0.answer_psk().as_slice()),
            "link_id": hex(s0.link_id().0),
            "day": day.0,
            "s0_hint_offerer": hex(before.hint(Role::Offerer, day).0),
            "s0_hint_answerer": hex(before.hint(Role::Answerer, day).0),
            "exported": hex(exported),
            "th": hex(th.0),
            "ls0": hex(ls0.as_bytes()),
            "ls0_hint_offerer": hex(after.hint(Role::Offerer, day).0),
            "ls0_hint_answerer": hex(after.hint(Role::Answerer, day).0),
        }),
    );
}

#[test]
fn contact_links() {
    let ways = vec![Way::Direct(vec![1, 2, 3]), Way::Other { kind: 9, body: vec![4, 5] }];
    let link = ContactLink::new(S0::from_bytes([0x44; 32]), &identity().public(), UnixMillis(1_800_000_000_000), ways)
        .expect("two ways");
    compare(
        include_str!("../vectors/contact_link.json"),
        &json!({
            "s0": hex([0x44; 32]),
            "identity_seed": hex([0x11; 32]),
            "expiry_s": 1_800_000_000,
            "ways": [[0, "010203"], [9, "0405"]],
            "uri": link.to_uri(),
        }),
    );
}

#[test]
fn bundles_and_their_certificates() {
    let bundle = Bundle {
        key_document: key_document(),
        olm: OlmKeys {
            identity: Curve25519PublicKey::from_bytes([0x71; 32]),
            one_time: Curve25519PublicKey::from_bytes([0x72; 32]),
            fallback: Curve25519PublicKey::from_bytes([0x73; 32]),
        },
        xwing: XWingSecret::from_bytes([0x74; 32]).public(),
        ways: vec![Way::Direct(vec![1, 2, 3])],
        stamps: vec![vec![9, 9]],
    };
    let bytes = bundle.seal(&identity());
    Bundle::open(&bytes).expect("our own");
    compare(
        include_str!("../vectors/bundle.json"),
        &json!({
            "identity_seed": hex([0x11; 32]),
            "olm": [hex([0x71; 32]), hex([0x72; 32]), hex([0x73; 32])],
            "xwing_seed": hex([0x74; 32]),
            "ways": [[0, "010203"]],
            "stamps": ["0909"],
            "bundle": hex(bytes),
        }),
    );
}

#[test]
fn answers_and_transcripts() {
    let (s0, key) = (S0::from_bytes([0x44; 32]), XWingSecret::from_bytes([0x74; 32]));
    let sealed = seal_answer(&s0, b"the box", &key.public(), b"the answer", &mut TestRng::new(8));
    open_answer(&s0, b"the box", &key, &sealed.bytes).expect("our own");
    compare(
        include_str!("../vectors/answer.json"),
        &json!({
            "s0": hex([0x44; 32]),
            "xwing_seed": hex([0x74; 32]),
            "xwing_public": hex(key.public().to_bytes()),
            "box": "the box",
            "plaintext": "the answer",
            "answer": hex(&sealed.bytes),
            "th": hex(sealed.th.0),
            "ls0": hex(sealed.secret.as_bytes()),
        }),
    );
}

#[test]
fn introductions() {
    let key = XWingSecret::from_bytes([0x33; 32]);
    let body = IntroBody::Message { link: LinkId([0x77; 16]), message: Message::Done(b"done".to_vec()) };
    let sealed = Introduction::seal(&key_document(), "!room", &body, &mut TestRng::new(8)).expect("sealed");
    sealed.open(&identity().name(), &key).expect("our own");
    compare(
        include_str!("../vectors/introduction.json"),
        &json!({
            "intro_seed": hex([0x33; 32]),
            "for": identity().name().as_str(),
            "room_id": "!room",
            "link": hex([0x77; 16]),
            "done": "done",
            "introduction": hex(sealed.to_bytes()),
        }),
    );
}

#[test]
fn stream_openings_and_frames() {
    let keys = LinkSecret::from_bytes(Epoch(0), [0x88; 32]).stream_keys();
    let day = UtcDay(20_833);
    let (dialer_seed, listener_seed) = (EphemeralSeed::from_bytes([0x91; 32]), EphemeralSeed::from_bytes([0x92; 32]));
    let (state, opening) = Dialer::open(&keys, Role::Answerer, day, dialer_seed).expect("works");
    let mut table = HintTable::new(day);
    table.insert((), keys, Role::Answerer);
    let accepted = accept(&table, &opening, listener_seed).expect("known");
    let (mut dialer, mut listener) = (state.finish(&accepted.reply).expect("the same psk"), accepted.transport);
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    dialer.seal(b"ping", &mut there).expect("open");
    dialer.seal_end(&mut there).expect("open");
    listener.seal(b"pong", &mut back).expect("open");
    compare(
        include_str!("../vectors/stream.json"),
        &json!({
            "ls": hex([0x88; 32]),
            "dialer_role": "answerer",
            "day": day.0,
            "dialer_seed": hex([0x91; 32]),
            "listener_seed": hex([0x92; 32]),
            "opening": hex(opening),
            "reply": hex(accepted.reply),
            "dialer_sends": ["ping", ""],
            "dialer_frames": hex(there),
            "listener_sends": ["pong"],
            "listener_frames": hex(back),
        }),
    );
}

#[test]
fn stamps_and_deposits() {
    let (secret, host) = (MailboxSecret::from_bytes([0xa1; 32]), HostSecret::from_bytes([0xa2; 32]).public());
    let batch = BatchId(0x0102_0304_0506_0708);
    let issued = secret.issue(batch, Class::S, &[Serial(7), Serial(0xbeef)]);
    let stamp = &issued.stamps(host)[1];
    let deposit = stamp.deposit(vec![0xa3; Class::S.body_len()].into()).expect("the length of an S");
    let bytes = deposit.to_bytes();
    assert!(deposit.is_signed_for(&host) && secret.mailbox_key().issued(&stamp.header()));
    compare(
        include_str!("../vectors/stamp.json"),
        &json!({
            "master_key": hex([0xa1; 32]),
            "host_secret": hex([0xa2; 32]),
            "host_key": hex(host.as_bytes()),
            "mailbox_id": hex(secret.id().0),
            "mailbox_key": hex(secret.mailbox_key().as_bytes()),
            "read_key": hex(secret.read_key().public().0),
            "batch": batch.0,
            "class": 1,
            "serials": [7, 0xbeef],
            "batch_seed": hex(secret.batch_seed(batch).as_bytes()),
            "link_id": hex([0xa5; 16]),
            "recovery_batch": secret.recovery_batch(LinkId([0xa5; 16])).0,
            "batch_bytes": hex(issued.to_bytes()),
            "stamp_seed": hex(stamp.seed.as_bytes()),
            "verify_key": hex(stamp.seed.verify_key()),
            "mac": hex(stamp.mac.0),
            "body_byte": 0xa3,
            "body_digest": hex(deposit.digest().0),
            "header": hex(stamp.header().as_bytes()),
            "signature": hex(&bytes[84..148]),
        }),
    );
}

#[test]
fn streams_to_hosts() {
    let (secret, nonce) = (HostSecret::from_bytes([0xa2; 32]), HostNonce([0xa4; 32]));
    let (dialer_seed, host_seed) = (EphemeralSeed::from_bytes([0x91; 32]), EphemeralSeed::from_bytes([0x92; 32]));
    let (state, opening) = HostDialer::open(&secret.public(), dialer_seed).expect("works");
    let mut accepted = accept_host(&secret, &opening, &nonce, host_seed).expect("its own key");
    let (mut dialer, told) = state.finish(&accepted.reply).expect("the host's key");
    assert_eq!(told, nonce);
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    dialer.seal(b"ping", &mut there).expect("open");
    accepted.transport.seal(b"pong", &mut back).expect("open");
    compare(
        include_str!("../vectors/host_stream.json"),
        &json!({
            "host_secret": hex([0xa2; 32]),
            "nonce": hex([0xa4; 32]),
            "dialer_seed": hex([0x91; 32]),
            "host_seed": hex([0x92; 32]),
            "opening": hex(opening),
            "reply": hex(accepted.reply),
            "dialer_sends": ["ping"],
            "dialer_frames": hex(there),
            "host_sends": ["pong"],
            "host_frames": hex(back),
        }),
    );
}

#[test]
fn requests_to_hosts_links_and_grants() {
    let (secret, host) = (MailboxSecret::from_bytes([0xa1; 32]), HostSecret::from_bytes([0xa2; 32]).public());
    let (nonce, tokens) = (HostNonce([0xa4; 32]), TokenSecret::from_bytes([0xa5; 32]));
    let ask = OwnerAsk::Delete { serials: vec![Serial(7), Serial(0xbeef)] };
    let delete = Request::owner(Seq(3), (&host, &nonce), &secret.id(), &secret.read_key(), &ask);
    let token = Token::from_bytes(&[0xa6; 96]);
    let create = Request::create(Seq(4), (&host, &nonce), &secret, Purpose::Recovery, &token);
    let way = HostWay::new(host, vec![vec![1, 2, 3], vec![4, 5]]).expect("two addresses");
    let grant = tokens.grant(&mut TestRng::new(8));
    compare(
        include_str!("../vectors/host_request.json"),
        &json!({
            "master_key": hex([0xa1; 32]),
            "host_secret": hex([0xa2; 32]),
            "nonce": hex([0xa4; 32]),
            "serials": [7, 0xbeef],
            "delete": hex(delete),
            "token": hex(token.to_bytes()),
            "spent_mark": hex(token.spent_mark().0),
            "create": hex(create),
            "addresses": ["010203", "0405"],
            "token_key": hex(tokens.public().as_bytes()),
            "link": HostLink { way, tokens: tokens.public() }.to_uri(),
            "token_secret": hex([0xa5; 32]),
            "grant": hex(grant.as_bytes()),
        }),
    );
}
