//! The node's settings. The daemon reads them from flags, environment and file; here they are values.

use std::{path::PathBuf, time::Duration};

pub use millpond_mailbox::schedule::Mode as MailMode;
/// Names, for those who read settings.
pub use ruma::{OwnedRoomId as RoomId, OwnedServerName as ServerName};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId,
    api::client::discovery::discover_support::{Contact, ContactRole},
};

mod blocked;
mod policy;
mod tor;

pub(crate) use blocked::glob;
pub use blocked::{Blocked, Pattern};
pub use policy::Policy;
pub use tor::{PluggableTransport, Tor as TorSettings, TorMode};

/// Who may make an account through the client API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Whoever shows the registration token (`m.login.registration_token`).
    #[default]
    Token,
    /// Everybody who reaches the port (`m.login.dummy`): for closed test networks.
    Open,
    /// Nobody; accounts are made by `millpond account create`.
    Closed,
}

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept: database, keys, media.
    pub data_dir: PathBuf,
    /// Who may register.
    pub registration: Registration,
    /// The token that [`Registration::Token`] asks for; made at first run and kept in the data directory.
    pub registration_token: String,
    /// Rate limits; off only for closed test networks.
    pub rate_limits: bool,
    /// Largest upload in bytes.
    pub max_upload_bytes: u64,
    /// Memory that redb may use to cache pages, in bytes.
    pub store_cache_bytes: usize,
    /// URL at which clients reach us, for `/.well-known/matrix/client`.
    pub client_base_url: String,
    /// Direct links with other nodes.
    pub direct: Direct,
    /// How Tor is used.
    pub tor: TorSettings,
    /// How mailboxes are polled, and when what is for them leaves.
    pub mail_mode: MailMode,
    /// Whether mailboxes are made at the hosts of contacts unasked; none: only where that shows nobody anything new.
    pub accept_mailboxes: Option<bool>,
    /// Host names, beside loopback and that of `client_base_url`, under which the client API answers.
    pub allowed_hosts: Vec<String>,
    /// Take place, time and camera out of uploaded pictures.
    pub strip_metadata: bool,
    /// How much is kept of the files of other servers.
    pub keep_remote_media: crate::media::Keep,
    /// How long messages live.
    pub retention: crate::history::retention::Settings,
    /// Ask pages on the web what they say about themselves, for clients that show links.
    pub url_previews: bool,
    /// Outgoing HTTP requests.
    pub egress: crate::egress::Settings,
    /// Servers and users that are kept out.
    pub blocked: Blocked,
    /// Rooms whose moderation policy rules apply here.
    pub policy_lists: Vec<OwnedRoomId>,
    /// Be the policy server of rooms that name this node.
    pub policy_server: bool,
    /// Classic HTTPS federation; none for nodes that are named by their key.
    pub classic: Option<Classic>,
    /// TURN server for `/voip/turnServer`, if configured.
    pub turn: Option<Turn>,
    /// LiveKit services for group calls (MatrixRTC), as `https://host/path`.
    pub livekit: Vec<String>,
    /// How to reach the node's owner, for `/.well-known/matrix/support`.
    pub support: Support,
    /// The identity server that validates addresses and that third-party invites go through, as `https://host`; none: there
    /// are no addresses and no such invites.
    pub identity_server: Option<String>,
    /// A token for it, with which it is asked to validate addresses where the user has none of his own.
    pub identity_token: Option<String>,
    /// Clients that only know single sign-on may log in through the node's own login page.
    pub single_sign_on: bool,
    /// What strangers must accept before they register.
    pub registration_terms: Vec<Policy>,
    /// The secret with which `/_synapse/admin/v1/register` makes accounts; none: it makes none.
    pub registration_shared_secret: Option<String>,
}

/// How to reach the owner of a node. Nothing is told unless it is set.
#[derive(Clone, Debug, Default)]
pub struct Support {
    /// An address of a page.
    pub page: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
    /// A Matrix user.
    pub matrix_id: Option<OwnedUserId>,
}

impl Support {
    /// The contacts as clients are shown them.
    pub fn contacts(&self) -> Vec<Contact> {
        let email = self.email.clone().map(|email| Contact::with_email_address(ContactRole::Admin, email));
        let user = self.matrix_id.clone().map(|user| Contact::with_matrix_id(ContactRole::Admin, user));
        email.into_iter().chain(user).collect()
    }
}

/// How direct links are made. Nothing listens before the user makes or adds a contact.
#[derive(Clone, Debug, Default)]
pub struct Direct {
    /// TCP and UDP port; none: the one of last time, or any.
    pub port: Option<u16>,
    /// Local addresses; none: all of this machine.
    pub addresses: Vec<std::net::IpAddr>,
    /// Announce this node on the local network, and see others that do.
    pub visible_nearby: bool,
    /// Relays through which a node behind NAT can be reached: `/ip4/../tcp/../p2p/RELAY`.
    pub relays: Vec<String>,
    /// The secret of the node's PeerId, which stays the same only for the sake of relays.
    pub peer_key: Option<[u8; 32]>,
}

/// Classic HTTPS federation, which needs a name in the DNS.
#[derive(Clone, Debug)]
pub struct Classic {
    /// The node's name. It is taken at first run and never changes.
    pub server_name: OwnedServerName,
    /// What `/.well-known/matrix/server` says, if this node serves it: host and port for other servers.
    pub delegate: Option<String>,
    /// Servers that are asked for the keys of others that do not answer.
    pub notaries: Vec<OwnedServerName>,
    /// New rooms are overlay rooms unless the client asks for a classic one.
    pub overlay_by_default: bool,
    /// The longest time between two attempts to reach a server that does not answer.
    pub longest_wait: Duration,
    /// Where the certificate of the TLS door comes from, unless the owner brings it.
    pub acme: Option<Acme>,
}

/// Certificates from an ACME server (RFC 8555), whose terms the owner has agreed to.
#[derive(Clone, Debug)]
pub struct Acme {
    /// The URL of its directory.
    pub directory: String,
    /// An e-mail address that it may write to.
    pub contact: Option<String>,
    /// The name that the certificate is for: that of the node, or the host to which its `.well-known` delegates.
    pub name: String,
}

impl Classic {
    /// Federation under this name, with nothing else set.
    pub fn new(server_name: OwnedServerName) -> Self {
        let longest_wait = Duration::from_secs(3600);
        Self { server_name, delegate: None, notaries: Vec::new(), overlay_by_default: false, longest_wait, acme: None }
    }
}

/// A TURN server with time-limited credentials (TURN REST API).
#[derive(Clone, Debug)]
pub struct Turn {
    /// `turn:` and `turns:` URIs.
    pub uris: Vec<String>,
    /// The secret shared with the server.
    pub secret: String,
    /// How long a credential lives, in seconds.
    pub ttl_secs: u64,
}

impl Config {
    /// Defaults with everything under `data_dir`.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            registration: Registration::default(),
            registration_token: String::new(),
            rate_limits: true,
            max_upload_bytes: 100 << 20,
            store_cache_bytes: 32 << 20,
            client_base_url: "http://127.0.0.1:8008".to_owned(),
            direct: Direct::default(),
            tor: TorSettings::default(),
            mail_mode: MailMode::Instant,
            accept_mailboxes: None,
            allowed_hosts: Vec::new(),
            strip_metadata: false,
            keep_remote_media: Default::default(),
            retention: Default::default(),
            url_previews: false,
            egress: Default::default(),
            blocked: Blocked::default(),
            policy_lists: Vec::new(),
            policy_server: false,
            classic: None,
            turn: None,
            livekit: Vec::new(),
            support: Support::default(),
            identity_server: None,
            identity_token: None,
            single_sign_on: false,
            registration_terms: Vec::new(),
            registration_shared_secret: None,
        }
    }
}
