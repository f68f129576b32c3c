//! Streams after their opening: frames in order, whole, and ended on purpose.

use bytes::BytesMut;
use millpond_mailbox::{
    link::Role,
    secrets::S0,
    stream::{Dialer, EphemeralSeed, Frame, Hint, HintTable, MAX_FRAME_PLAINTEXT, StreamError, Transport, accept},
    time::UtcDay,
};
use proptest::prelude::*;

use crate::world::TestRng;

fn seed(n: u64) -> EphemeralSeed {
    EphemeralSeed::generate(&mut TestRng::new(n))
}

fn pair() -> (Transport, Transport) {
    let keys = S0::from_bytes([1; 32]).stream_keys();
    let mut table = HintTable::new(UtcDay(20_000));
    table.insert((), keys.clone(), Role::Answerer);
    let (state, opening) = Dialer::open(&keys, Role::Answerer, UtcDay(20_000), seed(1)).expect("works");
    let accepted = accept(&table, &opening, seed(2)).expect("known");
    (state.finish(&accepted.reply).expect("the same psk"), accepted.transport)
}

#[test]
fn clocks_may_be_a_day_apart_and_no_more() {
    let keys = S0::from_bytes([1; 32]).stream_keys();
    let mut table = HintTable::new(UtcDay(20_000));
    table.insert("link", keys.clone(), Role::Offerer);
    for (day, known) in [(19_998, false), (19_999, true), (20_000, true), (20_001, true), (20_002, false)] {
        assert_eq!(table.find(&keys.hint(Role::Offerer, UtcDay(day))).is_some(), known, "day {day}");
    }
    assert!(table.find(&keys.hint(Role::Answerer, UtcDay(20_000))).is_none());
}

#[test]
fn the_table_finds_the_right_link_among_many() {
    let mut table = HintTable::new(UtcDay(20_000));
    let all: Vec<_> = (0..50_u8).map(|n| S0::from_bytes([n; 32]).stream_keys()).collect();
    for (n, keys) in all.iter().enumerate() {
        table.insert(n, keys.clone(), Role::Offerer);
    }
    for (n, keys) in all.iter().enumerate() {
        assert_eq!(table.find(&keys.hint(Role::Offerer, UtcDay(20_001))).map(|(owner, _)| *owner), Some(n));
    }
    assert!(table.find(&Hint([0; 16])).is_none());
}

#[test]
fn altered_repeated_and_reordered_frames_end_the_stream() {
    let sealed = |transport: &mut Transport, text: &[u8]| {
        let mut out = BytesMut::new();
        transport.seal(text, &mut out).expect("open");
        out
    };
    let (mut dialer, mut listener) = pair();
    let (first, second) = (sealed(&mut dialer, b"one"), sealed(&mut dialer, b"two"));
    assert!(matches!(listener.open(&mut second.clone()), Err(StreamError::Open { .. })), "reordered");

    let (mut dialer, mut listener) = pair();
    let frame = sealed(&mut dialer, b"one");
    assert_eq!(frame, first);
    assert_eq!(listener.open(&mut frame.clone()).expect("good"), Some(Frame::Data(BytesMut::from(&b"one"[..]))));
    assert!(matches!(listener.open(&mut frame.clone()), Err(StreamError::Open { .. })), "repeated");

    let (mut dialer, mut listener) = pair();
    let mut frame = sealed(&mut dialer, b"one");
    frame[5] ^= 1;
    assert!(matches!(listener.open(&mut frame), Err(StreamError::Open { .. })), "altered");
    let mut short = BytesMut::from(&[0, 15][..]);
    assert!(matches!(listener.open(&mut short), Err(StreamError::ShortFrame { length: 15 })));
}

#[test]
fn nothing_follows_the_end_of_a_direction() {
    let (mut dialer, mut listener) = pair();
    let mut wire = BytesMut::new();
    dialer.seal(b"last", &mut wire).expect("open");
    dialer.seal_end(&mut wire).expect("open");
    assert!(matches!(dialer.seal(b"more", &mut wire), Err(StreamError::AfterEnd)));
    assert!(matches!(dialer.seal_end(&mut wire), Err(StreamError::AfterEnd)));
    assert!(matches!(listener.open(&mut wire), Ok(Some(Frame::Data(_)))));
    assert!(matches!(listener.open(&mut wire), Ok(Some(Frame::End))));
    assert!(matches!(listener.open(&mut wire), Ok(None)));
    wire.extend_from_slice(&[0, 16]);
    assert!(matches!(listener.open(&mut wire), Err(StreamError::AfterEnd)));
    // The other direction is open still.
    let mut back = BytesMut::new();
    listener.seal(b"answer", &mut back).expect("open");
    assert!(matches!(dialer.open(&mut back), Ok(Some(Frame::Data(_)))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_cut(
        data in prop::collection::vec(any::<u8>(), 0..3 * MAX_FRAME_PLAINTEXT),
        cut in 1_usize..5_000,
    ) {
        let (mut dialer, mut listener) = pair();
        let mut wire = BytesMut::new();
        dialer.seal(&data, &mut wire).expect("open");
        let (mut arrived, mut out) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(cut) {
            arrived.extend_from_slice(piece);
            while let Some(frame) = listener.open(&mut arrived).expect("good") {
                let Frame::Data(bytes) = frame else { panic!("no end was sent") };
                out.extend_from_slice(&bytes);
            }
        }
        prop_assert_eq!(out, data);
    }
}
