//! Stamps and deposits: what a contact is given, what a host can check, what the owner makes of what he fetches.

use bytes::Bytes;
use millpond_mailbox::{
    deposit::{Deposit, DepositError, deposit_len},
    host_key::{HostKey, HostSecret},
    mailbox::{BatchId, HostFault, HostNonce, Issued, MailboxSecret, SerialSet, Verdict, draw_serials},
    secrets::LinkId,
    stamp::{BatchError, Class, MAX_BATCH, Serial, Stamp, StampBatch},
};

use crate::world::TestRng;

const LINK: LinkId = LinkId([7; 16]);
const BATCH: BatchId = BatchId(5);

fn host() -> HostKey {
    HostSecret::from_bytes([9; 32]).public()
}

fn owner() -> MailboxSecret {
    MailboxSecret::from_bytes([1; 32])
}

fn stamp(class: Class, serial: u16) -> Stamp {
    owner().issue(BATCH, class, &[Serial(serial)]).stamps(host()).remove(0)
}

fn body(class: Class) -> Bytes {
    vec![3; class.body_len()].into()
}

fn issued(class: Class) -> Issued {
    Issued { link: LINK, batch: BATCH, class, used: false, revoked: false }
}

fn fault(secret: &MailboxSecret, deposit: &Deposit, issued: Option<&Issued>) -> Option<HostFault> {
    match secret.judge(&host(), deposit, issued) {
        Verdict::Host(fault) => Some(fault),
        _ => None,
    }
}

#[test]
fn a_contact_makes_from_the_batch_what_host_and_owner_accept() {
    for class in [Class::S, Class::L] {
        let batch = owner().issue(BATCH, class, &[Serial(0), Serial(0xffff)]);
        let received = StampBatch::from_bytes(&batch.to_bytes()).expect("our own");
        assert_eq!((received.len(), received.class(), received.mailbox()), (2, class, owner().id()));
        for stamp in received.stamps(host()) {
            let deposit = stamp.deposit(body(class)).expect("the right length");
            let travelled = Deposit::parse(&deposit.to_bytes().into()).expect("our own");
            assert_eq!(travelled, deposit);
            assert_eq!(deposit.to_bytes().len(), deposit_len(class));
            assert!(owner().mailbox_key().issued(travelled.header()) && travelled.is_signed_for(&host()));
            let Verdict::Contact { link, seed } = owner().judge(&host(), &travelled, Some(&issued(class))) else {
                panic!("the contact's");
            };
            assert_eq!((link, seed.as_bytes()), (LINK, stamp.seed.as_bytes()));
        }
    }
}

#[test]
fn a_batch_travels_as_a_seed_and_18_bytes_a_stamp() {
    let serials: Vec<Serial> = (0..24).map(Serial).collect();
    let (one, all) = (owner().issue(BATCH, Class::S, &serials[..1]), owner().issue(BATCH, Class::S, &serials));
    assert!(all.to_bytes().len() - one.to_bytes().len() <= 23 * 18 + 2);
    assert!(one.to_bytes().len() < 96);
}

#[test]
fn a_stamp_is_good_for_its_class_serial_key_and_mailbox_only() {
    let header = *stamp(Class::S, 3).header().as_bytes();
    let key = owner().mailbox_key();
    for at in 1..header.len() {
        let mut altered = header;
        altered[at] ^= 3;
        let Ok(altered) = millpond_mailbox::stamp::StampHeader::parse(&altered) else {
            assert!(at == 1);
            continue;
        };
        assert!(!key.issued(&altered), "byte {at} is not bound");
    }
    let mut other_class = header;
    other_class[1] = Class::L.as_byte();
    let other_class = millpond_mailbox::stamp::StampHeader::parse(&other_class).expect("a known class");
    assert!(!key.issued(&other_class));
}

#[test]
fn a_deposit_is_signed_for_one_host_one_header_and_one_body() {
    let deposit = stamp(Class::S, 3).deposit(body(Class::S)).expect("the right length");
    assert!(!deposit.is_signed_for(&HostSecret::from_bytes([8; 32]).public()));
    for at in [2, 40, 83, 84, 147, 148, deposit_len(Class::S) - 1] {
        let mut bytes = deposit.to_bytes();
        bytes[at] ^= 1;
        assert!(!Deposit::parse(&bytes.into()).expect("the lengths fit").is_signed_for(&host()), "byte {at}");
    }
}

#[test]
fn a_deposit_of_another_length_version_or_class_is_refused_in_words() {
    let bytes = stamp(Class::S, 3).deposit(body(Class::S)).expect("the right length").to_bytes();
    let parse = |bytes: &[u8]| Deposit::parse(&Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(parse(&bytes[..83]), DepositError::Short { length: 83 });
    assert_eq!(parse(&bytes[..147]), DepositError::Short { length: 147 });
    for wrong in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat()] {
        assert!(parse(wrong).to_string().contains("exactly 4244"), "{}", parse(wrong));
    }
    for (at, value, words) in [(0, 2, "version 2"), (1, 0, "class 0"), (1, 3, "class 3"), (1, 2, "exactly 73876")] {
        let mut altered = bytes.clone();
        altered[at] = value;
        assert!(parse(&altered).to_string().contains(words), "{}", parse(&altered));
    }
    assert!(stamp(Class::L, 3).deposit(body(Class::S)).is_none());
}

#[test]
fn what_no_contact_made_is_the_hosts_doing() {
    let good = stamp(Class::S, 3).deposit(body(Class::S)).expect("the right length");
    assert_eq!(fault(&owner(), &good, Some(&issued(Class::S))), None);
    assert_eq!(fault(&owner(), &good, None), Some(HostFault::NeverIssued));
    assert_eq!(fault(&owner(), &good, Some(&issued(Class::L))), Some(HostFault::NeverIssued));
    let elsewhere = MailboxSecret::from_bytes([2; 32]);
    assert_eq!(fault(&elsewhere, &good, Some(&issued(Class::S))), Some(HostFault::Mailbox));
    let other_batch = Issued { batch: BatchId(6), ..issued(Class::S) };
    assert_eq!(fault(&owner(), &good, Some(&other_batch)), Some(HostFault::Key));
    let mut bytes = good.to_bytes();
    bytes[200] ^= 1;
    let altered = Deposit::parse(&bytes.into()).expect("the lengths fit");
    assert_eq!(fault(&owner(), &altered, Some(&issued(Class::S))), Some(HostFault::Signature));
}

#[test]
fn whose_a_stamp_for_the_recovery_mailbox_is_can_be_seen_without_a_record_of_it() {
    let links: Vec<LinkId> = (0..4).map(|n| LinkId([n; 16])).collect();
    let batch = owner().recovery_batch(links[2]);
    let theirs = owner().issue(batch, Class::S, &[Serial(3)]).stamps(host()).remove(0);
    let deposit = theirs.deposit(body(Class::S)).expect("the right length");
    let issued = owner().recognise(&deposit, links.iter().copied()).expect("one of them");
    assert_eq!((issued.link, issued.batch, issued.used), (links[2], batch, false));
    assert_eq!(fault(&owner(), &deposit, Some(&issued)), None);
    // Of a link that is no more, of another mailbox, and what the host made itself.
    assert_eq!(owner().recognise(&deposit, links[..2].iter().copied()), None);
    assert_eq!(MailboxSecret::from_bytes([2; 32]).recognise(&deposit, links.iter().copied()), None);
    let junk = stamp(Class::S, 3).deposit(body(Class::S)).expect("the right length");
    assert_eq!(owner().recognise(&junk, links.iter().copied()), None);
}

/// The host holds `k_mb`, so it can make stamps that look good to itself.
#[test]
fn a_host_that_makes_stamps_of_its_own_is_found_out() {
    let (key, seed) =
        (owner().mailbox_key(), MailboxSecret::from_bytes([4; 32]).batch_seed(BATCH).stamp_seed(Serial(3)));
    let mac = key.mac(Class::S, &owner().id(), Serial(3), &seed.verify_key());
    let forged = Stamp { host: host(), mailbox: owner().id(), class: Class::S, serial: Serial(3), seed, mac };
    let junk = forged.deposit(body(Class::S)).expect("the right length");
    assert!(key.issued(junk.header()) && junk.is_signed_for(&host()));
    assert_eq!(fault(&owner(), &junk, Some(&issued(Class::S))), Some(HostFault::Key));
}

#[test]
fn an_envelope_of_a_revoked_contact_is_dropped_and_one_received_before_changes_nothing() {
    let deposit = stamp(Class::S, 3).deposit(body(Class::S)).expect("the right length");
    let judge = |issued: Issued| owner().judge(&host(), &deposit, Some(&issued));
    assert!(matches!(judge(Issued { revoked: true, ..issued(Class::S) }), Verdict::Revoked));
    assert!(matches!(judge(Issued { used: true, ..issued(Class::S) }), Verdict::Again));
}

#[test]
fn a_damaged_batch_is_refused() {
    let two = owner().issue(BATCH, Class::S, &[Serial(1), Serial(2)]);
    let bytes = two.to_bytes();
    assert_eq!(StampBatch::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err(), BatchError::Form);
    assert_eq!(StampBatch::from_bytes(&[bytes.as_slice(), &[0]].concat()).unwrap_err(), BatchError::Form);
    let mut twice = bytes.clone();
    let second = bytes.len() - 18;
    twice[second..second + 2].copy_from_slice(&[0, 1]);
    assert!(StampBatch::from_bytes(&twice).is_err());
    assert!(StampBatch::from_bytes(&vec![0x84; 2 * bytes.len() + MAX_BATCH * 18]).is_err());
}

#[test]
fn serials_are_drawn_once_each_until_the_mailbox_is_nearly_used_up() {
    let (mut set, mut rng) = (SerialSet::new(), TestRng::new(4));
    let mut seen = std::collections::BTreeSet::new();
    while let Some(drawn) = draw_serials(&mut set, 480, &mut rng) {
        assert!(drawn.iter().all(|serial| seen.insert(*serial)));
    }
    assert_eq!((seen.len(), set.len()), (61_440, 61_440));
    let again = SerialSet::from_bytes(set.as_bytes()).expect("its own bytes");
    assert_eq!(again, set);
    assert!(seen.iter().all(|serial| again.contains(*serial)));
    assert!(SerialSet::from_bytes(&set.as_bytes()[1..]).is_none());
}

#[test]
fn an_owners_request_is_signed_for_one_host_one_stream_and_one_text() {
    let (key, nonce) = (owner().read_key(), HostNonce([6; 32]));
    let signature = key.sign_request(&host(), &nonce, b"request");
    let public = key.public();
    assert!(public.verifies(&host(), &nonce, b"request", &signature));
    assert!(!public.verifies(&HostSecret::from_bytes([8; 32]).public(), &nonce, b"request", &signature));
    assert!(!public.verifies(&host(), &HostNonce([7; 32]), b"request", &signature));
    assert!(!public.verifies(&host(), &nonce, b"requesu", &signature));
    assert!(!MailboxSecret::from_bytes([2; 32]).read_key().public().verifies(&host(), &nonce, b"request", &signature));
}

/// Positions at which all of these headers have the same byte.
fn alike(deposits: &[Deposit]) -> Vec<usize> {
    let headers: Vec<&[u8]> = deposits.iter().map(|deposit| deposit.header().as_bytes().as_slice()).collect();
    (0..headers[0].len()).filter(|at| headers.iter().all(|header| header[*at] == headers[0][*at])).collect()
}

#[test]
fn envelopes_of_one_contact_have_no_more_in_common_than_those_of_forty_so_a_host_cannot_count_contacts() {
    let mut rng = TestRng::new(12);
    let mut serials = |count: usize| draw_serials(&mut SerialSet::new(), count, &mut rng).expect("enough are left");
    let one: Vec<Stamp> = owner().issue(BATCH, Class::S, &serials(40)).stamps(host());
    let forty: Vec<Stamp> =
        (0..40).flat_map(|contact| owner().issue(BatchId(contact), Class::S, &serials(1)).stamps(host())).collect();
    let deposits = |stamps: &[Stamp]| -> Vec<Deposit> {
        stamps.iter().map(|stamp| stamp.deposit(body(Class::S)).expect("the right length")).collect()
    };
    let (one, forty) = (deposits(&one), deposits(&forty));
    // Version, class and mailbox; serial, key and mac are as different in one batch as in forty.
    let shared: Vec<usize> = (0..34).collect();
    assert_eq!((alike(&one), alike(&forty)), (shared.clone(), shared));
    let lengths = |deposits: &[Deposit]| deposits.iter().map(|deposit| deposit.to_bytes().len()).collect::<Vec<_>>();
    assert_eq!(lengths(&one), lengths(&forty));
}
