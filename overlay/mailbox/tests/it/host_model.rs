//! The host against the simplest thing that could do the same: any order of requests, restarts and days.

use std::collections::BTreeMap;

use millpond_mailbox::{
    host::InEvent,
    host_protocol::{Answer, Cursor, OwnerAsk, Purpose},
    mailbox::MailboxSecret,
    stamp::{Class, Serial},
    token::Token,
};
use proptest::prelude::*;

use crate::hosting::{Hosting, deposit_of};

/// A mailbox as a list.
#[derive(Default)]
struct Model {
    mailboxes: BTreeMap<u8, List>,
    tokens_left: usize,
}

struct List {
    day: u64,
    spent: BTreeMap<u16, u8>,
    /// Serial and fill in the order of arrival; None: deleted.
    arrived: Vec<Option<(u16, u8)>>,
}

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Put(u8, u16, u8),
    Fetch(u8, u64),
    Delete(u8, Vec<u16>),
    Close(u8),
    Restart,
    Days(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (who, serial) = (1_u8..4, 0_u16..6);
    prop_oneof![
        2 => who.clone().prop_map(Op::Create),
        8 => (who.clone(), serial.clone(), 0_u8..2).prop_map(|(n, serial, fill)| Op::Put(n, serial, fill)),
        4 => (who.clone(), 0_u64..5).prop_map(|(n, after)| Op::Fetch(n, after)),
        3 => (who.clone(), prop::collection::vec(serial, 1..4)).prop_map(|(n, serials)| Op::Delete(n, serials)),
        1 => who.prop_map(Op::Close),
        1 => Just(Op::Restart),
        1 => (0_u64..30).prop_map(Op::Days),
    ]
}

impl Model {
    fn open(&mut self, n: u8, today: u64) -> Option<&mut List> {
        self.mailboxes.retain(|_, list| today <= list.day + 37);
        self.mailboxes.get_mut(&n)
    }

    fn create(&mut self, n: u8, today: u64) -> Answer {
        if self.open(n, today).is_none() {
            if self.tokens_left == 0 {
                return Answer::TokenRefused;
            }
            self.tokens_left -= 1;
            self.mailboxes.insert(n, List { day: today, spent: BTreeMap::new(), arrived: Vec::new() });
        }
        Answer::Done
    }

    fn put(&mut self, n: u8, serial: u16, fill: u8, today: u64) -> Answer {
        let Some(list) = self.open(n, today) else { return Answer::Refused };
        match list.spent.get(&serial) {
            None => {
                list.spent.insert(serial, fill);
                list.arrived.push(Some((serial, fill)));
                Answer::Done
            }
            Some(_) if list.arrived.contains(&Some((serial, fill))) => Answer::Done,
            Some(_) => Answer::Refused,
        }
    }

    fn fetch(&mut self, n: u8, after: u64, today: u64) -> Option<Vec<(u16, u8)>> {
        let list = self.open(n, today)?;
        Some(list.arrived.iter().skip(after as usize).copied().flatten().collect())
    }

    fn delete(&mut self, n: u8, serials: &[u16], today: u64) -> Answer {
        let Some(list) = self.open(n, today) else { return Answer::Refused };
        for slot in &mut list.arrived {
            if slot.is_some_and(|(serial, _)| serials.contains(&serial)) {
                *slot = None;
            }
        }
        Answer::Done
    }
}

fn tokens(host: &mut Hosting) -> Vec<Token> {
    let tokens = host.tokens(6);
    tokens.into_iter().rev().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_requests_restarts_and_days_gives_what_a_list_gives(ops in prop::collection::vec(op(), 1..60)) {
        let mut host = Hosting::new();
        let mut tokens = tokens(&mut host);
        let mut model = Model { tokens_left: tokens.len(), ..Model::default() };
        let mut today = 0;
        for op in ops {
            match op {
                Op::Create(n) => {
                    let spent = Token::from_bytes(&[0; 96]);
                    let before = model.tokens_left;
                    let expected = model.create(n, today);
                    let token = tokens.last().cloned().unwrap_or(spent);
                    prop_assert_eq!(host.create(&MailboxSecret::from_bytes([n; 32]), Purpose::Ordinary, &token), expected);
                    if model.tokens_left < before {
                        tokens.pop();
                    }
                }
                Op::Put(n, serial, fill) => {
                    let secret = MailboxSecret::from_bytes([n; 32]);
                    let answer = host.put(&deposit_of(&secret, Class::S, serial, fill));
                    prop_assert_eq!(answer, model.put(n, serial, fill, today));
                }
                Op::Fetch(n, after) => {
                    let ask = OwnerAsk::Fetch { after: Cursor(after) };
                    match (host.owner(&MailboxSecret::from_bytes([n; 32]), &ask), model.fetch(n, after, today)) {
                        (Answer::Page(page), Some(expected)) => {
                            let found: Vec<(u16, u8)> = page
                                .deposits
                                .iter()
                                .map(|deposit| (deposit.header().serial().0, deposit.body()[0]))
                                .collect();
                            prop_assert_eq!(found, expected);
                        }
                        (Answer::Refused, None) => {}
                        (answer, expected) => prop_assert!(false, "{answer:?} instead of {expected:?}"),
                    }
                }
                Op::Delete(n, serials) => {
                    let ask = OwnerAsk::Delete { serials: serials.iter().copied().map(Serial).collect() };
                    let answer = host.owner(&MailboxSecret::from_bytes([n; 32]), &ask);
                    prop_assert_eq!(answer, model.delete(n, &serials, today));
                }
                Op::Close(n) => {
                    let expected = model.open(n, today).map_or(Answer::Refused, |_| Answer::Done);
                    model.mailboxes.remove(&n);
                    prop_assert_eq!(host.owner(&MailboxSecret::from_bytes([n; 32]), &OwnerAsk::Close), expected);
                }
                Op::Restart => host.restart(),
                Op::Days(days) => {
                    today += days;
                    host.days_pass(days);
                    while !host.event(InEvent::Tick).is_empty() {}
                }
            }
            model.mailboxes.retain(|_, list| today <= list.day + 37);
            let open = model.mailboxes.len();
            let envelopes = model.mailboxes.values().flat_map(|list| list.arrived.iter().flatten()).count();
            let bytes = envelopes * 4_244;
            prop_assert_eq!((host.totals().mailboxes, host.totals().bytes), (open as u64, bytes as u64));
        }
    }

    #[test]
    fn any_bytes_on_any_stream_are_answered_or_closed_and_store_nothing(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..40),
    ) {
        let mut host = Hosting::new();
        let owner = host.mailbox(1, Purpose::Ordinary);
        let before = host.totals();
        let conn = host.open();
        for message in messages {
            host.send(&conn, message);
        }
        prop_assert_eq!(host.totals(), before);
        prop_assert_eq!(host.put(&deposit_of(&owner, Class::S, 1, 1)), Answer::Done);
    }
}
