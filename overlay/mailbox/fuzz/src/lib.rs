//! Every parser of foreign bytes as a fuzz target. The integration tests include this file and run the checked-in corpus and
//! some seconds of generated input; cargo-fuzz runs the same targets for as long as one likes.

use bytes::{Bytes, BytesMut};
use millpond_mailbox::{
    bundle::Bundle,
    contact_link::ContactLink,
    deposit::Deposit,
    descriptor::Descriptor,
    frame::Frame,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, MAX_ANSWER_LEN, MAX_REQUEST_LEN, Request, read_message},
    introduction::Introduction,
    item::Item,
    key_document::KeyDocument,
    key_pack::KeyPack,
    link::Link,
    message::Message,
    session::{Backup, Session},
    stamp::StampBatch,
    time::UnixMillis,
    token::{Grant, Token},
};

/// A parser by name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; the corpus of each is a folder of its name.
pub const TARGETS: [Target; 16] = [
    ("answer", answer),
    ("bundle", bundle),
    ("contact_link", contact_link),
    ("deposit", deposit),
    ("descriptor", descriptor),
    ("frame", frame),
    ("grant", grant),
    ("host_link", host_link),
    ("introduction", introduction),
    ("item", item),
    ("key_document", key_document),
    ("link", link),
    ("message", message),
    ("request", request),
    ("session", session),
    ("stamp_batch", stamp_batch),
];

/// An answer of a host; what was read is written back alike.
pub fn answer(data: &[u8]) {
    if let Ok((seq, answer)) = Answer::parse(Bytes::copy_from_slice(data)) {
        assert_eq!(answer.to_bytes(seq), data);
    }
    let mut stream = BytesMut::from(data);
    while let Ok(Some(_)) = read_message(&mut stream, MAX_ANSWER_LEN) {}
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
        let _ = Descriptor::verify(descriptor, &document, UnixMillis(1_800_000_000_000));
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
}
