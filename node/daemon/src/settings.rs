//! Settings: flag, else environment, else the TOML file, else the default. The file has the flags' names; a wrong one is
//! shown with its line, the key and what is allowed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use millpond_node::{
    config::{Config, Pattern, Policy},
    egress::Network,
};
use serde::Deserialize;

mod classic;
mod node;
mod tor;
mod values;

pub(crate) use classic::Doors;
pub(crate) use tor::TorFlags;
use values::{
    blocked, blocked_in_file, bytes, lasting, listen_in_file, network, networks_in_file, policies_in_file, policy,
    socket_address,
};

/// What can be set. All optional, because each may come from elsewhere.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// Where the node keeps database, keys and media
    #[arg(long, env = "MILLPOND_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address and port for Matrix clients [default: 127.0.0.1:8008]
    #[arg(long, env = "MILLPOND_LISTEN", value_name = "ADDRESS:PORT", value_parser = socket_address)]
    #[serde(deserialize_with = "listen_in_file")]
    pub(crate) listen: Option<SocketAddr>,
    /// The URL under which clients reach the node from outside, through a proxy that ends the TLS [default: none]
    #[arg(long, env = "MILLPOND_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Names besides localhost under which clients may reach the node, comma-separated
    #[arg(long, env = "MILLPOND_HOSTS", value_delimiter = ',', value_name = "NAME")]
    pub(crate) hosts: Option<Vec<String>>,
    /// Who may make an account from a client [default: token]
    #[arg(long, env = "MILLPOND_REGISTRATION", value_enum)]
    pub(crate) registration: Option<Who>,
    /// The token for `--registration token` [default: made at first run]
    #[arg(long, env = "MILLPOND_REGISTRATION_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) registration_token: Option<String>,
    /// Rate limits on logins and the like; `false` only for closed test networks
    #[arg(long, env = "MILLPOND_RATE_LIMITS", value_name = "true|false")]
    pub(crate) rate_limits: Option<bool>,
    /// Largest upload in MiB [default: 100]
    #[arg(long, env = "MILLPOND_MAX_UPLOAD_MIB", value_name = "MIB")]
    pub(crate) max_upload_mib: Option<u64>,
    /// Memory for the database's page cache in MiB [default: 32]
    #[arg(long, env = "MILLPOND_CACHE_MIB", value_name = "MIB")]
    pub(crate) cache_mib: Option<u64>,
    /// Port for direct links, TCP and UDP; nothing listens before there is a contact [default: chosen at first use]
    #[arg(long, env = "MILLPOND_DIRECT_PORT", value_name = "PORT")]
    pub(crate) direct_port: Option<u16>,
    /// Addresses for direct links [default: all of this machine]
    #[arg(long, env = "MILLPOND_DIRECT_ADDRESSES", value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) direct_addresses: Option<Vec<std::net::IpAddr>>,
    /// Relays for a node behind NAT, comma-separated: what `millpond relay` prints as `Circuit relay` [default: none]
    #[arg(long, env = "MILLPOND_DIRECT_RELAYS", value_delimiter = ',', value_name = "MULTIADDR")]
    pub(crate) direct_relays: Option<Vec<String>>,
    /// Let nodes on the same network find this one, and look for them (mDNS) [default: false]
    #[arg(long, env = "MILLPOND_VISIBLE_NEARBY", value_name = "true|false")]
    pub(crate) visible_nearby: Option<bool>,
    #[command(flatten)]
    pub(crate) tor: TorFlags,
    /// The node's name in the DNS, for classic federation; taken at first run, for ever [default: a name made of its key]
    #[arg(long, env = "MILLPOND_SERVER_NAME", value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// Address and port for classic servers, with TLS [default: 0.0.0.0:8448 if there is a certificate]
    #[arg(long, env = "MILLPOND_CLASSIC_LISTEN", value_name = "ADDRESS:PORT", value_parser = socket_address)]
    #[serde(deserialize_with = "listen_in_file")]
    pub(crate) classic_listen: Option<SocketAddr>,
    /// Certificate chain for that, PEM; read again when it changes
    #[arg(long, env = "MILLPOND_TLS_CERTIFICATE", value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "MILLPOND_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Address and port for classic servers behind a reverse proxy that ends the TLS
    #[arg(long, env = "MILLPOND_CLASSIC_PROXIED", value_name = "ADDRESS:PORT", value_parser = socket_address)]
    #[serde(deserialize_with = "listen_in_file")]
    pub(crate) classic_proxied: Option<SocketAddr>,
    /// Where /.well-known/matrix/server sends other servers, if this node serves it, e.g. matrix.example.org:443
    #[arg(long, env = "MILLPOND_CLASSIC_DELEGATE", value_name = "HOST:PORT")]
    pub(crate) classic_delegate: Option<String>,
    /// Servers to ask for the keys of others that do not answer, comma-separated [default: nobody]
    #[arg(long, env = "MILLPOND_CLASSIC_NOTARIES", value_delimiter = ',', value_name = "NAME")]
    pub(crate) classic_notaries: Option<Vec<String>>,
    /// Get the TLS certificate from an ACME server, to whose terms you agree by this [default: false]
    #[arg(long, env = "MILLPOND_ACME", value_name = "true|false")]
    pub(crate) acme: Option<bool>,
    /// The URL of the ACME server's directory [default: Let's Encrypt]
    #[arg(long, env = "MILLPOND_ACME_DIRECTORY", value_name = "URL")]
    pub(crate) acme_directory: Option<String>,
    /// An e-mail address that the ACME server may write to [default: none]
    #[arg(long, env = "MILLPOND_ACME_CONTACT", value_name = "ADDRESS")]
    pub(crate) acme_contact: Option<String>,
    /// Also listen here: the ACME server looks at port 443 of the name
    #[arg(long, env = "MILLPOND_ACME_LISTEN", value_name = "ADDRESS:PORT", value_parser = socket_address)]
    #[serde(deserialize_with = "listen_in_file")]
    pub(crate) acme_listen: Option<SocketAddr>,
    /// Seconds between two attempts to reach a server that does not answer, at most [default: 3600]
    #[arg(long, env = "MILLPOND_CLASSIC_RETRY", value_name = "SECONDS")]
    pub(crate) classic_retry: Option<u64>,
    /// New rooms stay in the overlay unless the client asks for a classic one [default: false]
    #[arg(long, env = "MILLPOND_OVERLAY_ROOMS", value_name = "true|false")]
    pub(crate) overlay_rooms: Option<bool>,
    /// Host mailboxes for your contacts on this device: they are offered them by themselves [default: false]
    #[arg(long, env = "MILLPOND_HOST_MAILBOXES", value_name = "true|false")]
    pub(crate) host_mailboxes: Option<bool>,
    /// Keep mailboxes at contacts who offer it, without asking [default: only at onion services, when no IP address is shown]
    #[arg(long, env = "MILLPOND_ACCEPT_MAILBOXES", value_name = "true|false")]
    pub(crate) accept_mailboxes: Option<bool>,
    /// How mailboxes are used: `instant` keeps a stream to each open, `paced` polls and sends at random times [default: instant]
    #[arg(long, env = "MILLPOND_MODE", value_enum)]
    pub(crate) mode: Option<Pace>,
    /// Servers and users to keep out, comma-separated, with * and ?: their requests and invites are refused
    #[arg(long, env = "MILLPOND_BLOCK", value_delimiter = ',', value_name = "SERVER|USER", value_parser = blocked)]
    #[serde(deserialize_with = "blocked_in_file")]
    pub(crate) block: Option<Vec<Pattern>>,
    /// Rooms with moderation policy rules to follow, comma-separated: a user here must be in each
    #[arg(long, env = "MILLPOND_POLICY_LISTS", value_delimiter = ',', value_name = "!ROOM")]
    pub(crate) policy_lists: Option<Vec<String>>,
    /// Sign, as the policy server of rooms that name this node, what nobody says who is kept out [default: false]
    #[arg(long, env = "MILLPOND_POLICY_SERVER", value_name = "true|false")]
    pub(crate) policy_server: Option<bool>,
    /// URIs of a TURN server for calls, comma-separated
    #[arg(long, env = "MILLPOND_TURN_URIS", value_delimiter = ',', value_name = "URI")]
    pub(crate) turn_uris: Option<Vec<String>>,
    /// The secret shared with the TURN server
    #[arg(long, env = "MILLPOND_TURN_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub(crate) turn_secret: Option<String>,
    /// How many seconds a TURN credential lives [default: 86400]
    #[arg(long, env = "MILLPOND_TURN_TTL", value_name = "SECONDS")]
    pub(crate) turn_ttl: Option<u64>,
    /// LiveKit services for group calls, comma-separated, as https://host/path [default: none]
    #[arg(long, env = "MILLPOND_LIVEKIT", value_delimiter = ',', value_name = "URL")]
    pub(crate) livekit: Option<Vec<String>>,
    /// Whether rooms may say how long their messages live (`m.room.retention`) [default: true]
    #[arg(long, env = "MILLPOND_ROOM_RETENTION", value_name = "true|false")]
    pub(crate) room_retention: Option<bool>,
    /// Empty messages after so many days where the room does not say [default: never]
    #[arg(long, env = "MILLPOND_RETENTION_DAYS", value_name = "DAYS")]
    pub(crate) retention_days: Option<u32>,
    /// Keep messages so many days whatever a room says [default: 0]
    #[arg(long, env = "MILLPOND_RETENTION_MIN_DAYS", value_name = "DAYS")]
    pub(crate) retention_min_days: Option<u32>,
    /// Ask pages on the web for previews of links, which tells them that somebody here has read the link [default: false]
    #[arg(long, env = "MILLPOND_URL_PREVIEWS", value_name = "true|false")]
    pub(crate) url_previews: Option<bool>,
    /// Take place, time and camera out of pictures that are uploaded here [default: false]
    #[arg(long, env = "MILLPOND_STRIP_METADATA", value_name = "true|false")]
    pub(crate) strip_metadata: Option<bool>,
    /// Forget files of other servers so many days after they were fetched [default: never]
    #[arg(long, env = "MILLPOND_REMOTE_MEDIA_DAYS", value_name = "DAYS")]
    pub(crate) remote_media_days: Option<u32>,
    /// Forget the oldest files of other servers beyond so many MiB [default: never]
    #[arg(long, env = "MILLPOND_REMOTE_MEDIA_MIB", value_name = "MIB")]
    pub(crate) remote_media_mib: Option<u64>,
    /// Networks beside the public internet that HTTP requests of the node may go to, comma-separated
    #[arg(long, env = "MILLPOND_ALLOW_NETWORKS", value_delimiter = ',', value_name = "NETWORK", value_parser = network)]
    #[serde(deserialize_with = "networks_in_file")]
    pub(crate) allow_networks: Option<Vec<Network>>,
    /// PEM files with certificates to trust beside the system's, comma-separated
    #[arg(long, env = "MILLPOND_TRUST_CERTIFICATES", value_delimiter = ',', value_name = "FILE")]
    pub(crate) trust_certificates: Option<Vec<PathBuf>>,
    /// The identity server for e-mail addresses, phone numbers and invites by them, as https://host [default: none, and no such things]
    #[arg(long, env = "MILLPOND_IDENTITY_SERVER", value_name = "URL")]
    pub(crate) identity_server: Option<String>,
    /// A token for that server, for validations where a user has none: registration, forgotten passwords
    #[arg(long, env = "MILLPOND_IDENTITY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) identity_token: Option<String>,
    /// Whether clients that only know single sign-on may log in through the node's login page [default: false]
    #[arg(long, env = "MILLPOND_SINGLE_SIGN_ON", value_name = "true|false")]
    pub(crate) single_sign_on: Option<bool>,
    /// What strangers must accept before they register, as NAME VERSION URL, with a | between them [default: nothing]
    #[arg(long, env = "MILLPOND_REGISTRATION_TERMS", value_delimiter = '|', value_name = "TERMS", value_parser = policy)]
    #[serde(deserialize_with = "policies_in_file")]
    pub(crate) registration_terms: Option<Vec<Policy>>,
    /// The secret with which tools make accounts at /_synapse/admin/v1/register [default: none, and no such accounts]
    #[arg(long, env = "MILLPOND_REGISTRATION_SHARED_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub(crate) registration_shared_secret: Option<String>,
    /// A page that says how to reach you, shown to everybody who reaches the port
    #[arg(long, env = "MILLPOND_SUPPORT_PAGE", value_name = "URL")]
    pub(crate) support_page: Option<String>,
    /// An e-mail address under which you can be reached, shown in the same way
    #[arg(long, env = "MILLPOND_SUPPORT_EMAIL", value_name = "ADDRESS")]
    pub(crate) support_email: Option<String>,
    /// A Matrix user id under which you can be reached, shown in the same way
    #[arg(long, env = "MILLPOND_SUPPORT_MATRIX_ID", value_name = "USER")]
    pub(crate) support_matrix_id: Option<String>,
    /// What to log, as `level` or `target=level,...` [default: info]
    #[arg(long, env = "MILLPOND_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// A TOML file with these settings [default: millpond.toml in the data directory, if it is there]
    #[arg(long, env = "MILLPOND_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
}

/// Who may register.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    /// Who shows the registration token
    Token,
    /// Everybody who reaches the port: for closed test networks
    Open,
    /// Nobody: use `millpond account create`
    Closed,
}

/// How mailboxes are used.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// What comes is there in seconds
    Instant,
    /// About once a minute, so that a host sees neither when something is written nor when it is read
    Paced,
}

/// Settings with everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) node: Config,
    /// Where clients reach the node, if not at `listen`.
    pub(crate) public_url: Option<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) classic: Doors,
    pub(crate) log: String,
    /// Whether a mailbox host runs beside the node.
    pub(crate) host_mailboxes: bool,
}

impl Settings {
    /// Fills in the file and the defaults.
    pub(crate) fn decide(self) -> anyhow::Result<Decided> {
        let data_dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => default_data_dir()?,
        };
        let file = match &self.config {
            Some(path) => read(path)?,
            None => {
                let path = data_dir.join("millpond.toml");
                if path.exists() { read(&path)? } else { Self::default() }
            }
        };
        let set = self.or(file);
        let (names, classic) = set.classic()?;
        let mut node = set.node(set.data_dir.clone().unwrap_or(data_dir))?;
        node.classic = names;
        Ok(Decided {
            node,
            public_url: set.public_url()?,
            listen: set.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8008))),
            classic,
            log: set.log.unwrap_or_else(|| "info".to_owned()),
            host_mailboxes: set.host_mailboxes.unwrap_or(false),
        })
    }

    /// These settings, and those of `other` where these say nothing.
    fn or(self, other: Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => { Self { $($field: self.$field.or(other.$field)),* } };
        }
        first!(
            data_dir,
            listen,
            public_url,
            hosts,
            registration,
            registration_token,
            rate_limits,
            max_upload_mib,
            cache_mib,
            direct_port,
            direct_addresses,
            direct_relays,
            visible_nearby,
            tor,
            server_name,
            classic_listen,
            tls_certificate,
            tls_key,
            classic_proxied,
            classic_delegate,
            classic_notaries,
            classic_retry,
            acme,
            acme_directory,
            acme_contact,
            acme_listen,
            overlay_rooms,
            host_mailboxes,
            accept_mailboxes,
            mode,
            block,
            policy_lists,
            policy_server,
            turn_uris,
            turn_secret,
            turn_ttl,
            livekit,
            room_retention,
            retention_days,
            retention_min_days,
            url_previews,
            strip_metadata,
            remote_media_days,
            remote_media_mib,
            allow_networks,
            trust_certificates,
            identity_server,
            identity_token,
            single_sign_on,
            registration_terms,
            registration_shared_secret,
            support_page,
            support_email,
            support_matrix_id,
            log,
            config
        )
    }
}

fn read(path: &Path) -> anyhow::Result<Settings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the settings file {}", path.display()))?;
    // The toml crate's message shows the line, the key and the allowed values.
    toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {}", path.display(), e.to_string().trim_end()))
}

/// `$XDG_DATA_HOME/millpond`, else `~/.local/share/millpond`; on macOS and Windows the folder that is usual there.
pub(crate) fn default_data_dir() -> anyhow::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || from("HOME").context("HOME is not set: say where to keep the data with --data-dir");
    if let Some(dir) = from("XDG_DATA_HOME") {
        return Ok(dir.join("millpond"));
    }
    if cfg!(target_os = "macos") {
        return Ok(home()?.join("Library/Application Support/millpond"));
    }
    if cfg!(windows) {
        let dir =
            from("LOCALAPPDATA").context("LOCALAPPDATA is not set: say where to keep the data with --data-dir")?;
        return Ok(dir.join("millpond"));
    }
    Ok(home()?.join(".local/share/millpond"))
}

#[cfg(test)]
mod tests {
    use millpond_node::config::Registration;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millpond.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let (dir, path) = file("listen = \"127.0.0.1:9000\"\nregistration = \"open\"\n");
        let settings = Settings {
            data_dir: Some(dir.path().to_owned()),
            config: Some(path),
            registration: Some(Who::Closed),
            ..Settings::default()
        };
        let decided = settings.decide().unwrap();
        assert_eq!(decided.listen.port(), 9000);
        assert_eq!(decided.node.registration, Registration::Closed);
        assert!(decided.node.rate_limits);
    }

    #[test]
    fn a_wrong_key_or_value_in_the_file_gets_its_line_and_what_is_allowed() {
        for (text, shown) in [
            ("listen = \"127.0.0.1:1\"\nregistration = \"maybe\"\n", ["line 2", "maybe", "`token`, `open`, `closed`"]),
            ("\nlisten-on = 1\n", ["line 2", "listen-on", "`listen`"]),
            ("rate-limits = \"no\"\n", ["line 1", "rate-limits", "boolean"]),
            ("\n\nlisten = \"localhost\"\n", ["line 3", "localhost", "127.0.0.1:8008"]),
            ("allow-networks = [\"ten\"]\n", ["allow-networks", "ten", "10.0.0.0/8"]),
            ("cache-mib = 0\n", ["cache-mib", "0", "1 to 1048576"]),
        ] {
            let (dir, path) = file(text);
            let settings =
                Settings { data_dir: Some(dir.path().to_owned()), config: Some(path), ..Settings::default() };
            let error = settings.decide().unwrap_err().to_string();
            for part in shown {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
        }
    }
}
