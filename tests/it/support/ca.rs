//! A certificate authority of a test's own, and TLS configurations that know it.
//! Must not check anything: the proxy never looks into TLS, the clients do.
//! Called by the TLS origins, by tests of the TLS listener, and by real clients through PEM files.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

#[derive(Debug)]
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Issued {
    pub cert: rcgen::Certificate,
    pub key: KeyPair,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client.
    pub fn client(&self, name: &str) -> Issued {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.extended_key_usages = vec![usage];
        // Java wants to see whose key signed it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert, key }
    }

    /// A server with a certificate for these names.
    pub fn server_config(&self, names: &[&str]) -> Arc<ServerConfig> {
        let issued = self.server(names);
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], issued.private_key());
        Arc::new(config.unwrap())
    }

    /// A client that trusts this authority and shows no certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::new(
            ClientConfig::builder()
                .with_root_certificates(self.roots())
                .with_no_client_auth(),
        )
    }

    /// A client that trusts this authority and shows `own`.
    pub fn client_config_with(&self, own: &Issued) -> Arc<ClientConfig> {
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![own.cert.der().clone()], own.private_key());
        Arc::new(config.unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

impl Issued {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// Writes both as PEM, each by a rename, so that a reader sees a whole file.
    pub fn write(&self, cert: &Path, key: &Path) {
        for (path, pem) in [(key, self.key.serialize_pem()), (cert, self.cert.pem())] {
            let whole = path.with_extension("new");
            std::fs::write(&whole, pem).unwrap();
            std::fs::rename(whole, path).unwrap();
        }
    }
}
