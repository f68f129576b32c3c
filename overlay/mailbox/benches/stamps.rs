//! What one deposit costs a host before it touches the disk, and what stamps cost their owner.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use millpond_mailbox::{
    deposit::Deposit,
    host_key::HostSecret,
    mailbox::{BatchId, MailboxSecret},
    stamp::{Class, Serial},
};

fn stamps(c: &mut Criterion) {
    let (secret, host) = (MailboxSecret::from_bytes([1; 32]), HostSecret::from_bytes([2; 32]).public());
    let key = secret.mailbox_key();
    let mut group = c.benchmark_group("mailbox");
    for class in [Class::S, Class::L] {
        let stamp = secret.issue(BatchId(1), class, &[Serial(7)]).stamps(host).remove(0);
        let body = Bytes::from(vec![3; class.body_len()]);
        let bytes = Bytes::from(stamp.deposit(body.clone()).expect("the length of the class").to_bytes());
        group.bench_function(format!("a host checks a stamp, {class:?}"), |b| {
            b.iter(|| {
                let deposit = Deposit::parse(black_box(&bytes)).expect("whole");
                assert!(key.issued(deposit.header()) && deposit.is_signed_for(&host));
            });
        });
        group.bench_function(format!("a contact signs a deposit, {class:?}"), |b| {
            b.iter(|| stamp.deposit(body.clone()).expect("the length of the class"));
        });
    }
    let serials: Vec<Serial> = (0..24).map(Serial).collect();
    group.bench_function("an owner issues 24 stamps", |b| {
        b.iter(|| secret.issue(BatchId(1), Class::S, black_box(&serials)));
    });
    group.finish();
}

criterion_group!(benches, stamps);
criterion_main!(benches);
