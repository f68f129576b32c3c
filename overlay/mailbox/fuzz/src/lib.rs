//! Every parser of foreign bytes as a fuzz target. The integration tests include this file and run the checked-in corpus and
//! some seconds of generated input; cargo-fuzz runs the same targets for as long as one likes.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use millpond_mailbox::{
    backup_file::{BackupChunks, BackupHeader},
    bundle::Bundle,
    contact_link::ContactLink,
    deposit::Deposit,
    descriptor::Descriptor,
    envelope::{self, EnvelopeSecret, Kind},
    frame::Frame,
    host_key::HostSecret,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, MAX_ANSWER_LEN, MAX_REQUEST_LEN, Request, read_message},
    identity::{IdentityKey, IdentityPublicKey},
    introduction::{IntroBody, Introduction},
    item::Item,
    key_document::KeyDocument,
    key_pack::KeyPack,
    link::{Link, Own, Role},
    mailbox::{BatchId, MailboxSecret, SerialSet},
    message::Message,
    name::NodeName,
    pickup,
    rand_core::{TryCryptoRng, TryRng},
    secrets::S0,
    session::{Arrived, Backup, Context, InEvent, MapRows, Session},
    signing_key::{KeyId, VerifyKey},
    stamp::{Class, Serial, StampBatch},
    stream::{Dialer, EphemeralSeed, HintTable, OPENING_LEN, accept},
    time::{UnixMillis, UtcDay},
    token::{Grant, Token, TokenKey},
    xwing::XWingPublic,
};

/// A parser by name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; the corpus of each is a folder of its name.
pub const TARGETS: [Target; 23] = [
    ("answer", answer),
    ("arrived", arrived),
    ("backup", backup),
    ("bundle", bundle),
    ("contact_link", contact_link),
    ("deposit", deposit),
    ("descriptor", descriptor),
    ("first_answer", first_answer),
    ("frame", frame),
    ("grant", grant),
    ("host_link", host_link),
    ("introduced", introduced),
    ("introduction", introduction),
    ("item", item),
    ("key_document", key_document),
    ("keys", keys),
    ("link", link),
    ("message", message),
    ("name", name),
    ("request", request),
    ("session", session),
    ("stamp_batch", stamp_batch),
    ("stream", stream),
];

/// An answer of a host; what was read is written back alike.
pub fn answer(data: &[u8]) {
    if let Ok((seq, answer)) = Answer::parse(Bytes::copy_from_slice(data)) {
        assert_eq!(answer.to_bytes(seq), data);
    }
    let mut stream = BytesMut::from(data);
    while let Ok(Some(_)) = read_message(&mut stream, MAX_ANSWER_LEN) {}
}

/// What an envelope says, under the right stamp and secret: `record u8 | kind u8 | frame_no u32 BE | payload`. The second record is
/// that of a node which was set up again and has said HELLO.
pub fn arrived(data: &[u8]) {
    let Some(([which, kind, number @ ..], payload)) = data.split_first_chunk::<6>() else { return };
    let whole = Session::from_record(RECORDS[0]).expect("as it was written");
    let secrets = whole.link_secrets();
    let restore = secrets[0].restore_key();
    let (kind, secret) = match kind % 5 {
        0 => (Kind::Frame, EnvelopeSecret::from(&secrets[0])),
        1 => (Kind::AckOnly, EnvelopeSecret::from(&secrets[0])),
        2 => (Kind::Answer, EnvelopeSecret::from(&secrets[0])),
        3 => (Kind::Hello, restore.envelope_secret()),
        _ => (Kind::HelloAnswer, restore.envelope_secret()),
    };
    let Some(arrived) = sealed(&secret, kind, number, payload) else { return };
    let mut session = Session::from_record(RECORDS[usize::from(which % 2)]).expect("as it was written");
    let (identity, rows) = (IdentityKey::from_seed(&[7; 32]), MapRows::default());
    let context = Context { now: NOW, identity: &identity, mailboxes: &[], rows: &rows };
    session.handle(&context, InEvent::Arrived(vec![arrived]), &mut Zeros);
}

fn sealed(secret: &EnvelopeSecret, kind: Kind, number: &[u8], payload: &[u8]) -> Option<Arrived> {
    let batch = MailboxSecret::from_bytes([1; 32]).issue(BatchId(1), Class::L, &[Serial(1)]);
    let stamp = batch.stamps(HostSecret::from_bytes([2; 32]).public()).remove(0);
    let number = number.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let body = envelope::seal(secret, &stamp.seed, &stamp.header(), kind, number, payload, &mut Zeros)?;
    Some(Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.into() })
}

/// The head of a backup, and a chunk after it.
pub fn backup(data: &[u8]) {
    let Some((head, chunk)) = data.split_first_chunk() else { return };
    if let Ok(header) = BackupHeader::parse(head) {
        assert_eq!(header.to_bytes(), *head);
        let _ = BackupChunks::new(&[3; 32].into(), &header).open(chunk, true);
    }
}

/// The bundle of a first contact.
pub fn bundle(data: &[u8]) {
    let _ = Bundle::open(data);
}

/// A contact link as pasted.
pub fn contact_link(data: &[u8]) {
    if let Ok(link) = ContactLink::parse(&String::from_utf8_lossy(data)) {
        assert!(ContactLink::parse(&link.to_uri()).is_ok());
    }
}

/// A deposit; what was read is written back alike.
pub fn deposit(data: &[u8]) {
    if let Ok(deposit) = Deposit::parse(&Bytes::copy_from_slice(data)) {
        assert_eq!(deposit.to_bytes(), data);
    }
}

/// A descriptor, against the document in front of it: `length u16 BE | document | descriptor`.
pub fn descriptor(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let Some((document, descriptor)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    if let Ok(document) = KeyDocument::verify(document) {
        let _ = Descriptor::verify(descriptor, &document, NOW);
    }
}

/// The answer to a contact link as it comes into a mailbox.
pub fn first_answer(data: &[u8]) {
    let mut link = Link::from_bytes(include_bytes!("../corpus/link/honest-0")).expect("as it was written");
    let contact = ContactLink::parse(include_str!("../corpus/contact_link/honest-0")).expect("as it was written");
    let Some(arrived) = sealed(&contact.s0().answer_envelope(), Kind::Answer, &[], data) else { return };
    let Ok(messages) = pickup::open_answer(&link, &arrived) else { return };
    let document = KeyDocument::verify(include_bytes!("../corpus/key_document/honest-0")).expect("as it was written");
    let own = Own { identity: &IdentityKey::from_seed(&[7; 32]), key_document: &document, ways: &[], stamps: &[] };
    for message in &messages {
        let _ = link.handle(&own, message, NOW, &mut Zeros);
    }
}

/// A frame; what was read is written back as something that is read alike.
pub fn frame(data: &[u8]) {
    if let Ok((frame, unknown)) = Frame::from_bytes(data) {
        let (again, _) = Frame::from_bytes(&frame.to_bytes()).expect("our own");
        assert!(again.items == frame.items && again.acks == frame.acks && unknown <= 256);
    }
}

/// An operator's token as pasted, and a token as it travels.
pub fn grant(data: &[u8]) {
    if let Ok(grant) = Grant::parse(&String::from_utf8_lossy(data)) {
        assert!(Grant::parse(&grant.to_text()).is_ok_and(|again| again == grant));
    }
    if let Some(token) = data.first_chunk() {
        assert_eq!(Token::from_bytes(token).to_bytes(), *token);
    }
}

/// The link of a host as pasted, and the way in it.
pub fn host_link(data: &[u8]) {
    if let Ok(link) = HostLink::parse(&String::from_utf8_lossy(data)) {
        assert!(HostLink::parse(&link.to_uri()).is_ok_and(|again| again == link));
    }
    if let Ok(way) = HostWay::from_bytes(data) {
        assert_eq!(way.to_bytes(), data);
    }
}

/// What is inside of an introduction.
pub fn introduced(data: &[u8]) {
    if let Ok(body) = IntroBody::from_bytes(data) {
        assert!(IntroBody::from_bytes(&body.to_bytes()).is_ok());
    }
}

/// An introduction.
pub fn introduction(data: &[u8]) {
    let _ = Introduction::from_bytes(data);
}

/// An item: `kind u8 | body`.
pub fn item(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    if let Ok(item) = Item::parse(*kind, body.to_vec()) {
        assert!(Item::parse(item.kind(), item.body()).is_ok_and(|again| again == item));
    }
    let _ = KeyPack::from_bytes(body);
}

/// A key document.
pub fn key_document(data: &[u8]) {
    let _ = KeyDocument::verify(data);
}

/// Public keys of every kind; what was read is written back alike.
pub fn keys(data: &[u8]) {
    if let Ok(key) = XWingPublic::from_bytes(data) {
        assert_eq!(key.to_bytes(), data);
    }
    let Some(bytes) = data.first_chunk() else { return };
    if let Ok(key) = IdentityPublicKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
    }
    if let Ok(key) = VerifyKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
    }
    if let Ok(key) = TokenKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
    }
}

/// The row of a link.
pub fn link(data: &[u8]) {
    let _ = Link::from_bytes(data);
}

/// The messages of a first contact.
pub fn message(data: &[u8]) {
    if let Ok(message) = Message::from_bytes(data) {
        assert_eq!(message.to_bytes(), data);
    }
    let mut stream = BytesMut::from(data);
    while let Ok(Some(_)) = Message::read(&mut stream) {}
}

/// A server name, and the id of a signing key; what was read is written back alike.
pub fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = NodeName::parse(&text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(id) = KeyId::parse(&text) {
        assert_eq!(id.as_str(), text);
    }
}

/// A request to a host.
pub fn request(data: &[u8]) {
    let _ = Request::parse(Bytes::copy_from_slice(data));
    let mut stream = BytesMut::from(data);
    while let Ok(Some(_)) = read_message(&mut stream, MAX_REQUEST_LEN) {}
}

/// The record of a session, and what a backup holds of it.
pub fn session(data: &[u8]) {
    let _ = Session::from_record(data);
    let _ = Backup::from_bytes(data);
}

/// A batch of stamps; CBOR has several spellings of one value, so only what we write is compared.
pub fn stamp_batch(data: &[u8]) {
    if let Ok(batch) = StampBatch::from_bytes(data) {
        assert!(StampBatch::from_bytes(&batch.to_bytes()).is_ok_and(|again| again.len() == batch.len()));
    }
    let _ = SerialSet::from_bytes(data);
}

/// What comes first on a stream, and what follows when it was let in.
pub fn stream(data: &[u8]) {
    let keys = S0::from_bytes([1; 32]).stream_keys();
    let mut table = HintTable::new(UtcDay(20_000));
    table.insert((), keys.clone(), Role::Answerer);
    let seed = |byte| EphemeralSeed::from_bytes([byte; 32]);
    if let Some(opening) = data.first_chunk::<OPENING_LEN>() {
        let _ = accept(&table, opening, seed(1));
    }
    let (_, opening) = Dialer::open(&keys, Role::Answerer, UtcDay(20_000), seed(2)).expect("it works");
    let Ok(accepted) = accept(&table, &opening, seed(3)) else { panic!("it is known") };
    let (mut transport, mut input) = (accepted.transport, BytesMut::from(data));
    while let Ok(Some(_)) = transport.open(&mut input) {}
}

/// Randomness of a kind: the same input is the same run.
struct Zeros;

impl TryRng for Zeros {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Zeros {}

/// Records of sessions: one in use, and one after a restoration.
const RECORDS: [&[u8]; 2] =
    [include_bytes!("../corpus/session/honest-0"), include_bytes!("../corpus/session/honest-2")];
/// 2027-01-15T08:00:00Z.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
