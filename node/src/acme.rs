//! The certificate of the TLS door, from an ACME server (RFC 8555). That the name is ours is shown at that door itself, by
//! TLS-ALPN-01 (RFC 8737): the server connects to port 443 of the name, and is answered there or where that port leads.
//!
//! Account, key and certificate are files in `acme/` of the data directory; the door reads the pair again when it changes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PublicKeyData as _};
use tokio_util::sync::CancellationToken;
use x509_parser::pem::parse_x509_pem;

use crate::{Core, Error, config, identity::write_private};

mod http;

/// How long the server may take to look at the door, and to make the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));
/// After an order that came to nothing: servers count failures, and let few through in an hour.
const BACK_OFF: Duration = Duration::from_secs(15 * 60);
/// The same when the server was not reached at all, as at a start without a network.
const BACK_OFF_UNHEARD: Duration = Duration::from_secs(30);
const BACK_OFF_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often the certificate is looked at: a device that was suspended has missed its time.
const LOOK: Duration = Duration::from_secs(6 * 3600);

/// The certificate's keeper. Cloning is cheap.
#[derive(Clone)]
pub struct Acme {
    core: Core,
    challenges: Challenges,
}

/// What the door shows to an ACME server that looks.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<HashMap<String, Arc<Proof>>>>);

/// A certificate that proves a name to an ACME server, and to nobody else.
pub struct Proof {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("the ACME server: {0}")]
    Server(#[from] instant_acme::Error),
    #[error("it offers no TLS-ALPN-01 challenge for the name")]
    NoChallenge,
    #[error("it did not find the name proven: it connects to port 443 of the name, which must lead to this node")]
    NotProven,
    #[error("making a key: {0}")]
    Key(#[from] rcgen::Error),
    #[error("a file of the certificate: {0}")]
    File(#[from] io::Error),
    #[error("the account file cannot be read: {0}")]
    Account(#[from] serde_json::Error),
}

impl OrderError {
    fn was_not_heard(&self) -> bool {
        matches!(self, Self::Server(instant_acme::Error::Other(_)))
    }
}

impl Challenges {
    /// What proves a name, while that is asked.
    pub fn proof(&self, name: &str) -> Option<Arc<Proof>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name.to_lowercase()).cloned()
    }

    fn show(&self, name: &str, proof: Proof) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_lowercase(), Arc::new(proof));
    }

    fn hide(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.to_lowercase());
    }
}

impl Acme {
    /// The service; it does nothing unless the settings ask for it.
    pub fn new(core: Core) -> Self {
        Self { core, challenges: Challenges::default() }
    }

    fn settings(&self) -> Option<&config::Acme> {
        self.core.config().classic.as_ref().and_then(|classic| classic.acme.as_ref())
    }

    fn folder(&self) -> PathBuf {
        self.core.config().data_dir.join("acme")
    }

    /// What the door shows to an ACME server.
    pub fn challenges(&self) -> Challenges {
        self.challenges.clone()
    }

    /// The files of certificate and key; none unless the settings ask for ACME. Before the first certificate is there, one that
    /// nobody trusts holds its place, so that the door can open.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn files(&self) -> io::Result<Option<(PathBuf, PathBuf)>> {
        let Some(settings) = self.settings() else { return Ok(None) };
        let folder = self.folder();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        // Two files: a kill between them leaves the new key beside the old certificate, and no door would open with that.
        if !fit(&certificate, &key) {
            make_folder(&folder)?;
            let pair = KeyPair::generate().map_err(io::Error::other)?;
            let params = CertificateParams::new(vec![settings.name.clone()]).map_err(io::Error::other)?;
            let placeholder = params.self_signed(&pair).map_err(io::Error::other)?;
            write_private(&key, pair.serialize_pem().as_bytes())?;
            write_private(&certificate, placeholder.pem().as_bytes())?;
        }
        Ok(Some((certificate, key)))
    }

    /// Gets the certificate, and a new one in time, until told to stop.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        let Some(settings) = self.settings().cloned() else {
            stop.cancelled().await;
            return Ok(());
        };
        let mut failures = 0;
        let renewing = async {
            loop {
                let wait = match due_in(&self.folder().join("certificate.pem"), SystemTime::now()) {
                    Some(wait) => wait.min(LOOK),
                    None => match self.renew(&settings).await {
                        Ok(()) => {
                            tracing::info!("there is a new TLS certificate");
                            failures = 0;
                            Duration::ZERO
                        }
                        Err(error) => {
                            tracing::warn!(%error, "no new TLS certificate; trying again later");
                            let first = if error.was_not_heard() { BACK_OFF_UNHEARD } else { BACK_OFF };
                            failures += 1;
                            first.saturating_mul(1 << (failures - 1_u32).min(10)).min(BACK_OFF_MAX)
                        }
                    },
                };
                tokio::time::sleep(wait).await;
            }
        };
        stop.run_until_cancelled(renewing).await.unwrap_or(Ok(()))
    }

    async fn renew(&self, settings: &config::Acme) -> Result<(), OrderError> {
        let account = self.account(settings).await?;
        let names = [Identifier::Dns(settings.name.clone())];
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let proven = self.prove(settings, &mut order).await;
        self.challenges.hide(&settings.name);
        proven?;
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![settings.name.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&pair)?.der()).await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        // The door takes the pair when both files fit together: with the key alone it keeps the old one.
        write_private(&self.folder().join("key.pem"), pair.serialize_pem().as_bytes())?;
        write_private(&self.folder().join("certificate.pem"), chain.as_bytes())?;
        Ok(())
    }

    /// Shows the server that the name is ours.
    async fn prove(&self, settings: &config::Acme, order: &mut Order) -> Result<(), OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => return Err(OrderError::NotProven),
            }
            let mut challenge = authorization.challenge(ChallengeType::TlsAlpn01).ok_or(OrderError::NoChallenge)?;
            let digest = challenge.key_authorization().digest();
            self.challenges.show(&settings.name, proof(&settings.name, digest.as_ref())?);
            challenge.set_ready().await?;
        }
        match order.poll_ready(&PATIENCE).await? {
            OrderStatus::Ready | OrderStatus::Valid => Ok(()),
            _ => Err(OrderError::NotProven),
        }
    }

    /// The account of last time, or a new one.
    async fn account(&self, settings: &config::Acme) -> Result<Account, OrderError> {
        let client = || Account::builder_with_http(Box::new(http::Client(self.core.egress().clone())));
        let path = self.folder().join("account.json");
        match fs::read(&path) {
            Ok(kept) => {
                let kept: Kept = serde_json::from_slice(&kept)?;
                if kept.directory == settings.directory {
                    return Ok(client().from_credentials(kept.credentials).await?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let contact = settings.contact.as_ref().map(|address| format!("mailto:{address}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = client().create(&wanted, settings.directory.clone(), None).await?;
        let kept = Kept { directory: settings.directory.clone(), credentials };
        write_private(&path, &serde_json::to_vec(&kept)?)?;
        Ok(account)
    }
}

/// The account file.
#[derive(serde::Deserialize, serde::Serialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

/// The certificate that a challenge asks for.
fn proof(name: &str, digest: &[u8]) -> Result<Proof, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?.der().to_vec();
    Ok(Proof { certificate, key: key.serialize_der() })
}

/// How long a certificate need not be renewed: until two thirds of its life are over. None: now, as for one that holds a
/// place or cannot be read.
fn due_in(certificate: &Path, now: SystemTime) -> Option<Duration> {
    let (_, pem) = parse_x509_pem(&fs::read(certificate).ok()?).ok()?;
    let certificate = pem.parse_x509().ok()?;
    if certificate.issuer() == certificate.subject() {
        return None;
    }
    let at = |seconds: i64| UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?));
    let from = at(certificate.validity().not_before.timestamp())?;
    let until = at(certificate.validity().not_after.timestamp())?;
    let due = from + until.duration_since(from).ok()? / 3 * 2;
    due.duration_since(now).ok().filter(|left| !left.is_zero())
}

/// Whether both files are there and the certificate is for the key.
fn fit(certificate: &Path, key: &Path) -> bool {
    let (Ok(certificate), Ok(key)) = (fs::read(certificate), fs::read_to_string(key)) else { return false };
    let (Ok((_, pem)), Ok(key)) = (parse_x509_pem(&certificate), KeyPair::from_pem(&key)) else { return false };
    pem.parse_x509().is_ok_and(|certificate| certificate.public_key().raw == key.subject_public_key_info())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa, Issuer, date_time_ymd};

    use super::*;

    #[test]
    fn a_key_beside_the_certificate_of_another_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        assert!(!fit(&certificate, &key));
        let (old, new) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let params = CertificateParams::new(vec!["pond.example".to_owned()]).unwrap();
        std::fs::write(&certificate, params.self_signed(&old).unwrap().pem()).unwrap();
        std::fs::write(&key, old.serialize_pem()).unwrap();
        assert!(fit(&certificate, &key));
        std::fs::write(&key, new.serialize_pem()).unwrap();
        assert!(!fit(&certificate, &key), "as a kill between the two files leaves it");
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate.pem");
        let now = |day| SystemTime::from(date_time_ymd(2026, 1, day));
        assert_eq!(due_in(&path, now(1)), None);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pond.example".to_owned()]).unwrap();
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        assert_eq!(due_in(&path, now(1)), None, "a certificate of its own making holds a place only");
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 1, 31));
        let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
        std::fs::write(&path, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        assert_eq!(due_in(&path, now(11)), Some(Duration::from_secs(10 * 86_400)));
        assert_eq!(due_in(&path, now(21)), None);
    }
}
