//! The certificate of the TLS listener: read from PEM files, and again when they change, so that a renewed certificate needs
//! no restart.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use millpond_node::acme::Challenges;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// Certificate and key of the TLS listener. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Files>, Challenges);

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or holds something else.
    #[error("cannot read {what} from {path}: {why}")]
    File {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was wrong.
        why: String,
    },
    /// The two do not belong together, or are of a kind that nobody uses.
    #[error("the TLS certificate and its key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

#[derive(Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    pair: Arc<CertifiedKey>,
    of: Modified,
    looked: Instant,
}

/// When the two files were changed last.
type Modified = (Option<SystemTime>, Option<SystemTime>);

/// The protocol by which an ACME server looks for a proof.
const ACME: &[u8] = b"acme-tls/1";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(30);

impl Certificates {
    /// Reads a certificate chain and its private key, both PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load(chain: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let of = (modified(&chain), modified(&key));
        let pair = Arc::new(read(&chain, &key)?);
        let now = RwLock::new(Loaded { pair, of, looked: Instant::now() });
        Ok(Self(Arc::new(Files { chain, key, now }), Challenges::default()))
    }

    /// The same, which also proves names to an ACME server.
    #[must_use]
    pub fn with_challenges(self, challenges: Challenges) -> Self {
        Self(self.0, challenges)
    }

    /// What ends the TLS of connections.
    pub(super) fn acceptor(self) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has the usual cipher suites");
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Files {
    /// Reads the files again if they changed; a half-written pair leaves the old one in use.
    fn current(&self) -> Arc<CertifiedKey> {
        {
            let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
            if now.looked.elapsed() < LOOK {
                return now.pair.clone();
            }
        }
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        now.looked = Instant::now();
        let of = (modified(&self.chain), modified(&self.key));
        if of != now.of {
            match read(&self.chain, &self.key) {
                Ok(pair) => {
                    now.pair = Arc::new(pair);
                    now.of = of;
                    tracing::info!("the TLS certificate was renewed");
                }
                Err(error) => tracing::warn!(%error, "the changed TLS certificate is not used; the old one stays"),
            }
        }
        now.pair.clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_acme = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME));
        if !is_acme {
            return Some(self.0.current());
        }
        // An ACME server offers this protocol alone, and sees the proof or nothing (RFC 8737, section 3).
        let proof = self.1.proof(hello.server_name()?)?;
        let key = PrivateKeyDer::Pkcs8(proof.key.clone().into());
        let key = provider().key_provider.load_private_key(key).ok()?;
        // Not `from_der`: it reads the certificate, whose extension is critical and known to ACME servers only.
        Some(Arc::new(CertifiedKey::new(vec![proof.certificate.clone().into()], key)))
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let failed = |what, path: &Path, why: String| CertificateError::File { what, path: path.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed("the certificate", chain, e.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("the certificate", chain, "it holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| failed("the private key", key, e.to_string()))?;
    Ok(CertifiedKey::from_der(certificates, key, &provider())?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}
