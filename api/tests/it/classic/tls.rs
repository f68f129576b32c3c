//! Certificates for servers on loopback, of an authority that is made for the test.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use millpond_api::{Certificates, Listener};
use millpond_node::config::{self, Config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ruma::OwnedServerName;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority, in a folder.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A place at which a server may listen.
pub struct Place {
    /// `127.0.0.1:PORT`.
    pub name: OwnedServerName,
    listener: TcpListener,
    /// Certificate and key, PEM.
    files: (PathBuf, PathBuf),
}

impl Authority {
    pub fn new() -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.path().join("ca.pem")).unwrap()
    }

    /// A free port with a certificate for its address.
    pub async fn place(&self) -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Place { name: address.to_string().try_into().unwrap(), listener, files: self.files(address) }
    }

    fn files(&self, address: SocketAddr) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![address.ip().to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind| self.folder.path().join(format!("{}.{kind}", address.port()));
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("crt"), path("key"))
    }

    /// Lets a node go to places here, and trust this authority.
    pub fn trusted(&self, config: &mut Config) {
        config.egress.allow = vec!["127.0.0.1/32".parse().unwrap()];
        config.egress.roots = vec![self.folder.path().join("ca.pem")];
    }

    /// The settings of a node that has this name.
    pub fn named(&self, config: &mut Config, name: &OwnedServerName) {
        self.trusted(config);
        config.classic = Some(config::Classic::new(name.clone()));
    }
}

impl Place {
    /// The door of a node that lives here.
    pub fn door(self) -> Listener {
        let (certificate, key) = self.files;
        Listener::Tls(self.listener, Certificates::load(certificate, key).unwrap())
    }

    /// What a server of another kind lives by.
    pub fn bare(self) -> (TcpListener, TlsAcceptor) {
        let chain = CertificateDer::pem_file_iter(&self.files.0).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&self.files.1).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        (self.listener, TlsAcceptor::from(Arc::new(config)))
    }
}
