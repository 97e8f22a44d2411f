//! The certificates of an `https://` proxy listener, read again when their files change.
//! Must not serve a half-written pair: what does not load leaves the last good one in use, and says so.
//! Called at start for each TLS listener, by every accept, and by the app's refresh timer.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::settings::Tls;

/// The TLS side of one listener.
pub(crate) struct Certificates {
    files: Tls,
    current: ArcSwap<ServerConfig>,
    /// What the files held when they were last looked at, good or not.
    seen: Mutex<Contents>,
}

/// Why certificates cannot be used. Names the file, for a person.
#[derive(Debug, Error)]
pub(crate) enum BadCertificates {
    #[error("cannot read {file}: {cause}")]
    Unreadable { file: String, cause: io::Error },
    #[error("{file} holds no {what} in PEM form ({cause})")]
    NotPem {
        file: String,
        what: &'static str,
        cause: String,
    },
    #[error("{file}: {cause}")]
    Unusable { file: String, cause: String },
}

#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Certificates {
    /// # Errors
    /// The first file that cannot be read or used.
    pub(crate) fn load(files: &Tls) -> Result<Self, BadCertificates> {
        let contents = Contents::read(files)?;
        let config = contents.config(files)?;
        Ok(Self {
            files: files.clone(),
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(contents),
        })
    }

    /// For the next handshake. Handshakes under way keep what they began with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Looks at the files; `true` if a changed set is in use from now on.
    ///
    /// # Errors
    /// The files have changed and cannot be used; said once for each change.
    pub(crate) fn refresh(&self) -> Result<bool, BadCertificates> {
        let contents = Contents::read(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == contents {
            return Ok(false);
        }
        let config = contents.config(&self.files);
        *seen = contents;
        self.current.store(Arc::new(config?));
        Ok(true)
    }
}

impl Contents {
    fn read(files: &Tls) -> Result<Self, BadCertificates> {
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn config(&self, files: &Tls) -> Result<ServerConfig, BadCertificates> {
        let chain = certificates(&files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| BadCertificates::NotPem {
            file: name(&files.key),
            what: "private key",
            cause: error.to_string(),
        })?;
        let builder = ServerConfig::builder();
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(file), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file, pem)? {
                    roots.add(certificate).map_err(|error| unusable(file, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| unusable(file, &error))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&files.cert, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadCertificates> {
    let bad = |cause: String| BadCertificates::NotPem {
        file: name(file),
        what: "certificate",
        cause,
    };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if all.is_empty() {
        Err(bad("none found".to_owned()))
    } else {
        Ok(all)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, BadCertificates> {
    std::fs::read(file).map_err(|cause| BadCertificates::Unreadable {
        file: name(file),
        cause,
    })
}

fn unusable(file: &Path, error: &dyn fmt::Display) -> BadCertificates {
    BadCertificates::Unusable {
        file: name(file),
        cause: error.to_string(),
    }
}

fn name(file: &Path) -> String {
    file.display().to_string()
}
