//! Tokens: who gets a mailbox, and what the host cannot tell from it.

use millpond_mailbox::{
    host::{HostLimits, OutEvent},
    host_link::{HostLink, HostLinkError, HostWay},
    host_protocol::{Answer, Purpose, Request, Seq},
    mailbox::MailboxSecret,
    token::{Grant, MAX_TOKENS, Token, TokenError, TokenRequest, TokenSecret},
};

use crate::{
    hosting::{Hosting, key, token_key, tokens},
    world::TestRng,
};

fn secret(seed: u8) -> MailboxSecret {
    MailboxSecret::from_bytes([seed; 32])
}

#[test]
fn a_grant_becomes_tokens_and_each_makes_one_mailbox() {
    let mut host = Hosting::new();
    let tokens = host.tokens(MAX_TOKENS);
    assert_eq!(tokens.len(), MAX_TOKENS);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &tokens[0]), Answer::Done);
    assert_eq!(host.create(&secret(2), Purpose::Recovery, &tokens[1]), Answer::Done);
    assert_eq!(host.create(&secret(3), Purpose::Ordinary, &tokens[1]), Answer::TokenRefused);
    host.restart();
    assert_eq!(host.create(&secret(3), Purpose::Ordinary, &tokens[0]), Answer::TokenRefused);
    assert_eq!(host.totals().mailboxes, 2);
}

#[test]
fn a_grant_is_good_for_one_set_of_tokens_however_often_it_is_sent() {
    let mut host = Hosting::new();
    let grant = host.grant();
    let (first, second) =
        (TokenRequest::generate(3, &mut TestRng::new(1)), TokenRequest::generate(3, &mut TestRng::new(2)));
    let answers: Vec<Vec<Token>> = (0..2)
        .map(|_| {
            let Answer::Tokens(evaluated) = host.exchange(&grant, &first) else { panic!("tokens") };
            host.restart();
            first.finish(&token_key(), &evaluated).expect("made with the key in the link")
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(host.exchange(&grant, &second), Answer::TokenRefused);
}

#[test]
fn a_lost_answer_to_create_costs_no_second_token() {
    let mut host = Hosting::new();
    let tokens = host.tokens(2);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &tokens[0]), Answer::Done);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &tokens[0]), Answer::Done);
    assert_eq!(host.totals().mailboxes, 1);
    assert_eq!(host.create(&secret(1), Purpose::Recovery, &tokens[1]), Answer::Refused);
    assert_eq!(host.create(&secret(2), Purpose::Ordinary, &tokens[1]), Answer::Done);
}

#[test]
fn invented_and_foreign_tokens_and_grants_are_refused() {
    let mut host = Hosting::new();
    let foreign = TokenSecret::from_bytes([11; 32]);
    let request = TokenRequest::generate(1, &mut TestRng::new(1));
    let evaluated = foreign.evaluate(&request.blinded(), &mut TestRng::new(2)).expect("elements");
    let token = request.finish(&foreign.public(), &evaluated).expect("its own key").remove(0);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &token), Answer::TokenRefused);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &Token::from_bytes(&[7; 96])), Answer::TokenRefused);
    let good = host.tokens(1).remove(0);
    for at in [0, 31, 32, 95] {
        let mut altered = good.to_bytes();
        altered[at] ^= 1;
        assert_eq!(host.create(&secret(1), Purpose::Ordinary, &Token::from_bytes(&altered)), Answer::TokenRefused);
    }
    let grant = foreign.grant(&mut TestRng::new(3));
    assert_eq!(host.exchange(&grant, &request), Answer::TokenRefused);
    assert_eq!(host.totals().mailboxes, 0);
}

#[test]
fn a_host_that_uses_another_key_than_the_one_in_its_link_is_found_out() {
    let request = TokenRequest::generate(2, &mut TestRng::new(1));
    let other = TokenSecret::from_bytes([11; 32]);
    let evaluated = other.evaluate(&request.blinded(), &mut TestRng::new(2)).expect("elements");
    assert_eq!(request.finish(&token_key(), &evaluated).unwrap_err(), TokenError::Proof);
    let mut good = tokens().evaluate(&request.blinded(), &mut TestRng::new(2)).expect("elements");
    good.elements.swap(0, 1);
    assert_eq!(request.finish(&token_key(), &good).unwrap_err(), TokenError::Proof);
    good.elements.truncate(1);
    assert_eq!(request.finish(&token_key(), &good).unwrap_err(), TokenError::Count);
}

/// What the host saw when it evaluated has nothing in common with what it sees when the token is spent.
#[test]
fn blinded_halves_and_tokens_have_no_bytes_in_common_and_the_blinding_differs_each_time() {
    let (one, other) =
        (TokenRequest::generate(1, &mut TestRng::new(1)), TokenRequest::generate(1, &mut TestRng::new(2)));
    assert_ne!(one.blinded(), other.blinded());
    let evaluated = tokens().evaluate(&one.blinded(), &mut TestRng::new(3)).expect("elements");
    let token = one.finish(&token_key(), &evaluated).expect("its own key").remove(0).to_bytes();
    for seen in [&one.blinded()[0], &evaluated.elements[0]] {
        assert!(!token.windows(8).any(|part| seen.windows(8).any(|other| other == part)));
    }
}

#[test]
fn a_mailbox_is_made_only_by_the_holder_of_its_read_key() {
    let mut host = Hosting::new();
    let token = host.tokens(1).remove(0);
    let conn = host.open();
    let mut message = Request::create(Seq(1), (&key(), &conn.nonce), &secret(1), Purpose::Ordinary, &token);
    // Another read key in the request than the one that signed.
    let at = 5 + 96 + 1 + 64;
    message[at..at + 32].copy_from_slice(&secret(2).read_key().public().0);
    let out = host.send(&conn, message);
    assert!(matches!(out.first(), Some(OutEvent::Answer { answer: Answer::Refused, .. })));
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &token), Answer::Done, "the token was not spent");
}

#[test]
fn the_operators_limit_on_mailboxes_costs_no_token() {
    let mut host = Hosting::with(HostLimits { mailboxes: 1, ..HostLimits::default() });
    let tokens = host.tokens(2);
    assert_eq!(host.create(&secret(1), Purpose::Ordinary, &tokens[0]), Answer::Done);
    assert_eq!(host.create(&secret(2), Purpose::Ordinary, &tokens[1]), Answer::Full);
    host.days_pass(38);
    host.event(millpond_mailbox::host::InEvent::Tick);
    assert_eq!(host.create(&secret(2), Purpose::Ordinary, &tokens[1]), Answer::Done);
}

#[test]
fn grants_beyond_sixteen_at_once_wait_two_seconds_each() {
    let mut host = Hosting::new();
    let request = TokenRequest::generate(1, &mut TestRng::new(1));
    let answers: Vec<bool> = (0..17)
        .map(|_| {
            let grant = host.grant();
            host.exchange(&grant, &request) == Answer::Busy
        })
        .collect();
    assert_eq!(answers.iter().position(|busy| *busy), Some(16));
    host.now.0 += 2_000;
    let grant = host.grant();
    assert!(matches!(host.exchange(&grant, &request), Answer::Tokens(_)));
}

#[test]
fn links_and_grants_are_read_back_and_damaged_ones_refused_in_words() {
    let way = HostWay::new(key(), vec![vec![4, 127, 0, 0, 1, 6, 31, 64], vec![9; 40]]).expect("two addresses");
    let link = HostLink { way: way.clone(), tokens: token_key() };
    let text = link.to_uri();
    assert_eq!(HostLink::parse(&format!("  {text}\n")).expect("its own text"), link);
    assert_eq!(HostWay::from_bytes(&way.to_bytes()).expect("its own bytes"), way);
    assert_eq!(HostLink::parse("millpond:abc").unwrap_err(), HostLinkError::Scheme);
    assert_eq!(HostLink::parse(&text[..text.len() - 3]).unwrap_err(), HostLinkError::Form);
    assert!(HostWay::new(key(), Vec::new()).is_err() && HostWay::new(key(), vec![vec![1; 240]]).is_err());

    let grant = tokens().grant(&mut TestRng::new(1));
    assert_eq!(Grant::parse(&format!(" {}\n", grant.to_text())).expect("its own text"), grant);
    assert!(tokens().granted(&grant));
    assert!(Grant::parse("millpond-token:abc").is_err() && Grant::parse(&link.to_uri()).is_err());
}
