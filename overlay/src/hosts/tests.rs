//! Which connections the hosts of a node are used over, told by the isolation of each: streams with two tokens of arti's never share a circuit.

use millpond_mailbox::host::{HostLimits, MemoryRows};
use millpond_mailbox::host_key::HostSecret;
use millpond_mailbox::mailbox::BatchId;
use millpond_mailbox::stamp::Class;
use millpond_mailbox::token::{TokenRequest, TokenSecret};

use super::*;
use crate::clock;
use crate::host_client::{ClientLimits, FreshTransport};
use crate::relay::{Relay, RelayConfig, StreamLimits};
use crate::transport::memory::MemoryNet;
use crate::transport::tor::{Isolation, Tor, TorConfig};
use crate::transport::{Transport, TransportError};

/// Makes connections as a node with Tor does, each under the isolation that its onion transport has; memory carries the bytes.
struct Recorded {
    net: MemoryNet,
    tor: Tor,
    made: Mutex<Vec<Isolation>>,
}

impl FreshTransport for Recorded {
    fn fresh(&self, _: &[Address]) -> Result<Box<dyn Transport>, TransportError> {
        let mut made = self.made.lock();
        made.push(self.tor.for_one_host().isolation().clone());
        Ok(Box::new(self.net.transport(made.len() as u64)))
    }
}

fn tokens() -> TokenSecret {
    TokenSecret::from_bytes([10; 32])
}

struct World {
    relay: Relay,
    at: HostAddress,
    key: TokenKey,
    recorded: Arc<Recorded>,
    hosts: Hosts,
}

impl World {
    async fn start() -> Self {
        let net = MemoryNet::new();
        let config = RelayConfig {
            secret: HostSecret::from_bytes([9; 32]),
            tokens: tokens(),
            limits: HostLimits::default(),
            streams: StreamLimits::default(),
        };
        let relay = Relay::start(config, Box::new(MemoryRows::default())).unwrap();
        let addresses = relay.serve(vec![Box::new(net.transport(900))], Vec::new()).await.unwrap();
        let link = relay.link(&addresses).unwrap();
        let tor = Tor::new(TorConfig::new("/nowhere".into())).unwrap();
        let recorded = Arc::new(Recorded { net, tor, made: Mutex::default() });
        let hosts = Hosts::new(HostClient::new(recorded.clone(), ClientLimits::default()));
        Self { relay, at: address(&link.way), key: link.tokens, recorded, hosts }
    }

    async fn mailbox(&self) -> MailboxSecret {
        let request = TokenRequest::generate(1, &mut clock::random());
        let grant = tokens().grant(&mut clock::random());
        let way = way(&self.at).unwrap();
        let token = self.hosts.tokens(&way, &self.key, &grant, &request).await.unwrap().remove(0);
        let secret = MailboxSecret::generate(&mut clock::random());
        self.hosts.create(&self.at, &secret, false, &token).await.unwrap();
        secret
    }

    async fn put(&self, into: &MailboxSecret, serial: u16) {
        let stamp = into.issue(BatchId(1), Class::S, &[Serial(serial)]).stamps(self.relay.key()).remove(0);
        let deposit = stamp.deposit(vec![7; Class::S.body_len()].into()).unwrap();
        assert_eq!(self.hosts.put(self.at.clone(), deposit.to_bytes()).await, Outcome::Stored);
    }

    async fn fetch(&self, from: &MailboxSecret) {
        self.hosts.fetch(&self.at, from, Cursor(0)).await.unwrap();
    }

    fn made(&self) -> usize {
        self.recorded.made.lock().len()
    }
}

#[tokio::test]
async fn deposits_and_polls_and_two_mailboxes_go_under_isolations_of_their_own() {
    let world = World::start().await;
    let (one, two) = (world.mailbox().await, world.mailbox().await);
    let before = world.made();
    world.put(&one, 1).await;
    assert_eq!(world.made(), before + 1, "a connection for deposits");
    world.put(&two, 1).await;
    assert_eq!(world.made(), before + 1, "which goes on to be used for deposits");
    world.fetch(&one).await;
    world.fetch(&two).await;
    assert_eq!(world.made(), before + 3, "each poll has one of its own");
    let (arrived, mut some) = mpsc::channel(1);
    let listening = {
        let (hosts, at, one) = (world.hosts.clone(), world.at.clone(), one.clone());
        tokio::spawn(async move { hosts.listen(&at, &one, arrived).await })
    };
    some.recv().await.unwrap();
    assert_eq!(world.made(), before + 4, "and so has a mailbox that is listened to");
    world.fetch(&one).await;
    assert_eq!(world.made(), before + 4, "which is then polled there");
    world.fetch(&two).await;
    world.put(&one, 2).await;
    assert_eq!(world.made(), before + 5, "but no other mailbox is, and nothing is deposited there");
    world.hosts.new_slot();
    world.put(&one, 3).await;
    assert_eq!(world.made(), before + 6, "a new slot is a new connection");
    let made = world.recorded.made.lock().clone();
    for (at, isolation) in made.iter().enumerate() {
        assert!(!made[at + 1..].contains(isolation));
    }
    listening.abort();
    world.hosts.stop().await;
    world.relay.stop().await;
}

#[tokio::test]
async fn what_was_cut_goes_over_new_connections_and_a_listener_hears_of_it() {
    let world = World::start().await;
    let one = world.mailbox().await;
    let (arrived, mut some) = mpsc::channel(1);
    let listening = {
        let (hosts, at, one) = (world.hosts.clone(), world.at.clone(), one.clone());
        tokio::spawn(async move { hosts.listen(&at, &one, arrived).await })
    };
    some.recv().await.unwrap();
    world.put(&one, 1).await;
    let before = world.made();
    world.hosts.cut();
    assert!(matches!(listening.await.unwrap(), Err(HostError::Closed)));
    world.put(&one, 2).await;
    world.fetch(&one).await;
    assert_eq!(world.made(), before + 2);
    world.hosts.stop().await;
    world.relay.stop().await;
}
