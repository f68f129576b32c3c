//! `millpond relay` as a process: link, tokens, restart, what it leaves on disk and in its log.

use std::{
    io::{BufRead, BufReader, Lines},
    path::PathBuf,
    process::{Child, ChildStdout, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use millpond_mailbox::{
    host_link::HostLink,
    host_protocol::{Cursor, Purpose},
    mailbox::{BatchId, MailboxSecret},
    rand_core::UnwrapErr,
    stamp::{Class, Serial},
    token::{Grant, TokenRequest},
};
use millpond_overlay::{
    host_client::{ClientLimits, HostClient, HostError},
    transport::{
        Transport,
        libp2p::{Libp2p, Libp2pConfig},
    },
};

use crate::harness::{Home, text};

const FOLDER: &str = "relay";

/// A running host; killed when dropped.
struct Host {
    child: Child,
    link: HostLink,
    logged: std::thread::JoinHandle<String>,
    /// Kept open: who prints into a closed pipe is ended by that.
    _printed: Lines<BufReader<ChildStdout>>,
}

impl Host {
    fn start(home: &Home) -> Self {
        let mut command = home.command(&["relay", "--port", "0", "--addresses", "127.0.0.1", "--tor", "off"]);
        command.env("MILLPOND_RELAY_DIR", folder(home)).env("MILLPOND_LOG", "debug");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = child.stderr.take().unwrap();
        let logged = std::thread::spawn(move || {
            BufReader::new(err).lines().map(|line| line.unwrap() + "\n").collect::<String>()
        });
        let first = printed.next().expect("the link is printed").unwrap();
        let link = HostLink::parse(first.strip_prefix("Host link: ").expect("the link")).unwrap();
        Self { child, link, logged, _printed: printed }
    }

    /// Ends it in order; what it logged.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        assert!(self.child.wait().unwrap().success());
        self.logged.join().unwrap()
    }
}

fn folder(home: &Home) -> PathBuf {
    home.data_dir().join(FOLDER)
}

fn relay(home: &Home, arguments: &[&str]) -> String {
    let mut command = home.command(&[&["relay"], arguments].concat());
    let output = command.env("MILLPOND_RELAY_DIR", folder(home)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn client() -> HostClient {
    millpond_overlay::install_crypto_provider();
    let fresh = || Ok(Box::new(Libp2p::new(Libp2pConfig::default())?) as Box<dyn Transport>);
    HostClient::new(Arc::new(fresh), ClientLimits::default())
}

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

async fn mailbox(client: &HostClient, link: &HostLink, grant: &Grant) -> MailboxSecret {
    let request = TokenRequest::generate(2, &mut rng());
    let tokens = client.tokens(&link.way, &link.tokens, grant, &request).await.unwrap();
    let secret = MailboxSecret::generate(&mut rng());
    client.create(&link.way, &secret, Purpose::Ordinary, &tokens[0]).await.unwrap();
    secret
}

#[tokio::test]
async fn a_host_prints_link_and_tokens_keeps_envelopes_through_a_restart_and_writes_no_address() {
    let home = Home::new();
    let host = Host::start(&home);
    let printed = relay(&home, &["token", "-n", "2"]);
    let grants: Vec<Grant> = printed.lines().map(|line| Grant::parse(line).unwrap()).collect();
    assert_eq!(grants.len(), 2);
    assert_eq!(HostLink::parse(&relay(&home, &["link"])).unwrap(), host.link);

    let client = client();
    let secret = mailbox(&client, &host.link, &grants[0]).await;
    let again = TokenRequest::generate(2, &mut rng());
    let used = client.tokens(&host.link.way, &host.link.tokens, &grants[0], &again).await;
    assert!(matches!(used, Err(HostError::TokenRefused)));
    let depositor = client.depositor(&host.link.way).await.unwrap();
    for serial in 0..20 {
        let stamp = secret.issue(BatchId(1), Class::S, &[Serial(serial)]).stamps(host.link.way.key()).remove(0);
        let mut body = vec![0; Class::S.body_len()];
        getrandom::fill(&mut body).unwrap();
        depositor.put(&stamp.deposit(body.into()).unwrap()).await.unwrap();
    }
    let log = host.stop();

    let host = Host::start(&home);
    let (owner, _) = client.owner(&host.link.way).await.unwrap();
    let page = owner.fetch(&secret, Cursor(0)).await.unwrap();
    assert_eq!(page.deposits.len(), 20);
    client.stop().await;
    let log = log + &host.stop();

    let database = std::fs::read(folder(&home).join("relay.redb")).unwrap();
    for (what, bytes) in [("the database", database.as_slice()), ("the log", log.as_bytes())] {
        for hidden in ["127.0.0.1", "/ip4", "/p2p", "12D3Koo", ".onion"] {
            let found = bytes.windows(hidden.len()).any(|part| part == hidden.as_bytes());
            assert!(!found, "{what} shows {hidden}: {log}");
        }
    }
}

#[test]
fn a_host_whose_output_nobody_reads_goes_on() {
    let home = Home::new();
    let mut command = home.command(&["relay", "--port", "0", "--addresses", "127.0.0.1", "--tor", "off"]);
    command.env("MILLPOND_RELAY_DIR", folder(&home)).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let deadline = Instant::now() + Duration::from_secs(30);
    // The link is kept before the first line is printed; a moment later all of them are.
    while !folder(&home).join("link").exists() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::yield_now();
    }
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success(), "it ended in order, not in a panic");
}

#[tokio::test]
async fn a_node_hosts_mailboxes_beside_itself_with_one_switch() {
    let home = Home::new();
    let mut node = home.run_with(&["--host-mailboxes", "true"]);
    node.until_line("Host link: ");
    let printed = node.printed.last().unwrap().strip_prefix("Host link: ").unwrap().to_owned();
    assert_eq!(relay(&home, &["link"]).trim_end(), printed);
    let grant = Grant::parse(relay(&home, &["token"]).trim_end()).unwrap();
    let (client, link) = (client(), HostLink::parse(&printed).unwrap());
    let secret = mailbox(&client, &link, &grant).await;
    let stamp = secret.issue(BatchId(1), Class::S, &[Serial(1)]).stamps(link.way.key()).remove(0);
    let deposit = stamp.deposit(vec![7; Class::S.body_len()].into()).unwrap();
    client.depositor(&link.way).await.unwrap().put(&deposit).await.unwrap();
    let (owner, _) = client.owner(&link.way).await.unwrap();
    assert_eq!(owner.fetch(&secret, Cursor(0)).await.unwrap().deposits, [deposit]);
    client.stop().await;
    node.stop();
}

#[test]
fn tokens_and_link_need_a_host_that_ran_before() {
    let home = Home::new();
    for arguments in [["relay", "token"], ["relay", "link"]] {
        let shown = home.refuses(&arguments, "");
        assert!(shown.contains("there is no host in") && shown.contains("millpond relay"), "{shown}");
    }
}

#[test]
fn a_wrong_setting_of_a_host_is_shown_with_what_is_allowed() {
    let home = Home::new();
    std::fs::create_dir_all(folder(&home)).unwrap();
    for (setting, shown) in
        [("max-mib = 0", "1 to 1048576"), ("advertise = [\"here\"]", "multiaddr"), ("prot = 1", "`port`")]
    {
        std::fs::write(folder(&home).join("relay.toml"), setting).unwrap();
        let directory = folder(&home);
        let said = home.refuses(&["relay", "--data-dir", directory.to_str().unwrap()], "");
        assert!(said.contains(shown), "{said}");
    }
}
