//! Every parser of foreign bytes as a fuzz target. The integration tests include this file and run the checked-in corpus and
//! some seconds of generated input; cargo-fuzz runs the same targets for as long as one likes.

use bytes::{Bytes, BytesMut};
use millpond_mailbox::{
    bundle::Bundle,
    contact_link::ContactLink,
    deposit::Deposit,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, MAX_ANSWER_LEN, MAX_REQUEST_LEN, Request, read_message},
    introduction::Introduction,
    key_document::KeyDocument,
    link::Link,
    message::Message,
    stamp::StampBatch,
    token::{Grant, Token},
};

/// A parser by name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; the corpus of each is a folder of its name.
pub const TARGETS: [Target; 12] = [
    ("answer", answer),
    ("bundle", bundle),
    ("contact_link", contact_link),
    ("deposit", deposit),
    ("grant", grant),
    ("host_link", host_link),
    ("introduction", introduction),
    ("key_document", key_document),
    ("link", link),
    ("message", message),
    ("request", request),
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

/// A batch of stamps; CBOR has several spellings of one value, so only what we write is compared.
pub fn stamp_batch(data: &[u8]) {
    if let Ok(batch) = StampBatch::from_bytes(data) {
        assert!(StampBatch::from_bytes(&batch.to_bytes()).is_ok_and(|again| again.len() == batch.len()));
    }
}
