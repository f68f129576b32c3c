//! The key files: `keys/identity`, `keys/signing`, `keys/intro` under the data directory, 0600, each 32 bytes in unpadded
//! base64 on one line; `keys/signing` has the generation before it.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use data_encoding::BASE64_NOPAD;
use millpond_mailbox::{
    identity::IdentityKey,
    key_document::{DocumentKeys, KeyDocument},
    signing_key::{Generation, SigningKey},
    xwing::XWingSecret,
};
use millpond_matrix::signing::Ed25519KeyPair;
use ruma::{OwnedServerName, ServerName};
use zeroize::Zeroizing;

/// Why the node's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder cannot be read or written.
    #[error("cannot {doing} the key file {path}: {source}")]
    Io {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "the key file {path} is damaged: it should hold {wanted}; restore it from a backup - without it this node is not itself"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
    },
    /// The node has a name already.
    #[error(
        "this node is {found} and stays it: its users' ids hold that name; for {wanted} make a new node with its own data directory"
    )]
    OtherName {
        /// Its name.
        found: String,
        /// What the settings say.
        wanted: OwnedServerName,
    },
    /// A name of onion form is its key and nothing that can be chosen.
    #[error("{0} cannot be chosen as a name: names under .onion are made from keys")]
    NotOfTheDns(OwnedServerName),
    /// The keys are there and make no valid key document.
    #[error("the node's keys make no valid key document: {0}")]
    Document(String),
}

/// The node's name in the DNS: the one in `keys/server_name`, or `wanted` at first run, when there are no keys yet.
pub(super) fn dns_name(data_dir: &Path, wanted: Option<&ServerName>) -> Result<Option<OwnedServerName>, KeyFileError> {
    if let Some(wanted) = wanted.filter(|wanted| wanted.host().to_ascii_lowercase().ends_with(".onion")) {
        return Err(KeyFileError::NotOfTheDns(wanted.to_owned()));
    }
    let path = data_dir.join("keys/server_name");
    let kept = match fs::read_to_string(&path) {
        Ok(text) => Some(
            OwnedServerName::try_from(text.trim_end())
                .map_err(|_| KeyFileError::Damaged { path: path.clone(), wanted: "a server name" })?,
        ),
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(KeyFileError::Io { doing: "read", path, source }),
    };
    match (kept, wanted) {
        (Some(kept), Some(wanted)) if kept != wanted => {
            Err(KeyFileError::OtherName { found: kept.to_string(), wanted: wanted.to_owned() })
        }
        (Some(kept), _) => Ok(Some(kept)),
        (None, Some(wanted)) if data_dir.join("keys/identity").exists() => {
            Err(KeyFileError::OtherName { found: "named by its key".to_owned(), wanted: wanted.to_owned() })
        }
        (None, Some(wanted)) => {
            make_folder(&data_dir.join("keys"))?;
            write_private(&path, format!("{wanted}\n").as_bytes()).map_err(|source| KeyFileError::Io {
                doing: "write",
                path,
                source,
            })?;
            Ok(Some(wanted.to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn make_folder(folder: &Path) -> Result<(), KeyFileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(folder);
    made.map_err(|source| KeyFileError::Io { doing: "make the folder of", path: folder.to_owned(), source })
}

pub(super) fn load_or_create(data_dir: &Path) -> Result<(IdentityKey, SigningKey, XWingSecret), KeyFileError> {
    let folder = data_dir.join("keys");
    make_folder(&folder)?;
    let (_, identity) = load_or_create_seed(&folder.join("identity"), None)?;
    let (generation, signing) = load_or_create_seed(&folder.join("signing"), Some(Generation::FIRST))?;
    let (_, intro) = load_or_create_seed(&folder.join("intro"), None)?;
    let generation = generation.unwrap_or(Generation::FIRST);
    let keys = (
        IdentityKey::from_seed(&identity),
        SigningKey::from_seed(generation, &signing),
        XWingSecret::from_bytes(*intro),
    );
    Ok(keys)
}

pub(super) fn peer_key(data_dir: &Path) -> Result<[u8; 32], KeyFileError> {
    let (_, seed) = load_or_create_seed(&data_dir.join("keys/peer"), None)?;
    Ok(*seed)
}

pub(super) fn policy_key(data_dir: &Path) -> Result<Ed25519KeyPair, KeyFileError> {
    let (_, seed) = load_or_create_seed(&data_dir.join("keys/policy"), None)?;
    Ok(pair(&seed, "policy_server"))
}

type Seed = Zeroizing<[u8; 32]>;

fn load_or_create_seed(path: &Path, first: Option<Generation>) -> Result<(Option<Generation>, Seed), KeyFileError> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&Zeroizing::new(text), first.is_some()).ok_or_else(|| KeyFileError::Damaged {
            path: path.to_owned(),
            wanted: if first.is_some() { "a generation and 43 base64 characters" } else { "43 base64 characters" },
        }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let seed = Zeroizing::new(rand::random::<[u8; 32]>());
            let text = Zeroizing::new(BASE64_NOPAD.encode(&*seed));
            let line = Zeroizing::new(match first {
                Some(generation) => format!("{} {}\n", generation.0, *text),
                None => format!("{}\n", *text),
            });
            write_private(path, line.as_bytes()).map_err(|source| KeyFileError::Io {
                doing: "write",
                path: path.to_owned(),
                source,
            })?;
            Ok((first, seed))
        }
        Err(source) => Err(KeyFileError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

fn parse(text: &str, with_generation: bool) -> Option<(Option<Generation>, Seed)> {
    let text = text.trim_end();
    let (generation, seed) = match text.split_once(' ') {
        Some((generation, seed)) if with_generation => (Some(Generation(generation.parse().ok()?)), seed),
        None if !with_generation => (None, text),
        _ => return None,
    };
    let bytes = Zeroizing::new(BASE64_NOPAD.decode(seed.as_bytes()).ok()?);
    Some((generation, Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?)))
}

/// Writes a new file that only its owner can read, so that it is whole on the disk or not there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn document(
    identity: &IdentityKey,
    signing: &SigningKey,
    intro: &XWingSecret,
    dns_name: Option<&ServerName>,
) -> Result<KeyDocument, KeyFileError> {
    let keys = DocumentKeys {
        generation: signing.generation(),
        current: &[signing],
        old: &BTreeMap::new(),
        intro_key: Some(&intro.public()),
    };
    let built = match dns_name {
        Some(name) => KeyDocument::build_claiming(identity, &keys, name.as_str()),
        None => KeyDocument::build(identity, &keys),
    };
    built.map_err(|e| KeyFileError::Document(e.to_string()))
}

/// The same key in ruma's type: it takes PKCS#8, whose version 1 form for Ed25519 is a fixed head and the seed (RFC 8410).
pub(super) fn ruma_key(signing: &SigningKey) -> Ed25519KeyPair {
    let id = signing.key_id();
    pair(&signing.to_seed(), id.as_str().strip_prefix("ed25519:").unwrap_or(id.as_str()))
}

fn pair(seed: &[u8; 32], version: &str) -> Ed25519KeyPair {
    let mut der = Zeroizing::new(PKCS8_HEAD.to_vec());
    der.extend_from_slice(seed);
    Ed25519KeyPair::from_der(&der, version.to_owned()).expect("32 bytes after the head are a PKCS#8 document")
}

const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

#[cfg(test)]
mod tests {
    use super::super::Identity;

    #[test]
    fn the_node_is_the_same_after_a_restart_and_its_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(dir.path()).unwrap();
        let second = Identity::load_or_create(dir.path()).unwrap();
        assert_eq!(first.server_name(), second.server_name());
        assert_eq!(first.key_document().as_bytes(), second.key_document().as_bytes());
        assert_eq!(first.signing_key().public_key(), second.signing_key().public_key());
        #[cfg(unix)]
        for name in ["identity", "signing", "intro"] {
            use std::os::unix::fs::MetadataExt;
            let mode = std::fs::metadata(dir.path().join("keys").join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_name_of_the_dns_is_taken_at_first_run_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let name = ruma::server_name!("pond.example");
        let first = Identity::load_or_create_named(dir.path(), Some(name)).unwrap();
        assert!(first.is_dns_named() && first.server_name() == name);
        assert_eq!(Identity::load_or_create(dir.path()).unwrap().server_name(), name);
        let other = Identity::load_or_create_named(dir.path(), Some(ruma::server_name!("other.example")));
        assert!(other.is_err_and(|error| error.to_string().contains("this node is pond.example")));
        let by_key = tempfile::tempdir().unwrap();
        assert!(!Identity::load_or_create(by_key.path()).unwrap().is_dns_named());
        assert!(Identity::load_or_create_named(by_key.path(), Some(name)).is_err());
        let onion = ruma::server_name!("abc.onion");
        assert!(Identity::load_or_create_named(tempfile::tempdir().unwrap().path(), Some(onion)).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_named_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_create(dir.path()).unwrap();
        let path = dir.path().join("keys/signing");
        std::fs::write(&path, "not a key").unwrap();
        let Err(error) = Identity::load_or_create(dir.path()) else { panic!("accepted a damaged key") };
        assert!(error.to_string().contains("keys/signing"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn a_standard_verifier_accepts_the_key_document() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        let object = serde_json::from_slice(identity.key_document().as_bytes()).unwrap();
        let key = ruma::serde::Base64::new(identity.signing_key().public_key().to_vec());
        let id = format!("ed25519:{}", identity.signing_key().version());
        let keys =
            millpond_matrix::signing::PublicKeyMap::from([(identity.server_name().to_string(), [(id, key)].into())]);
        millpond_matrix::signing::verify_json(&keys, &object).unwrap();
    }

    #[test]
    fn ruma_signs_with_the_key_of_the_document() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        let keys: Vec<_> = identity.key_document().verify_keys().iter().collect();
        let [(id, key)] = keys[..] else { panic!("one key expected") };
        assert_eq!(key.as_bytes(), &identity.signing_key().public_key());
        assert_eq!(id.as_str(), format!("ed25519:{}", identity.signing_key().version()));
    }
}
