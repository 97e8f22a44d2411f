//! A connection to the proxy, in TLS where its listener wants that, and the heads of answers.
//! Must not check the proxy's certificate: nothing secret is said to it, only through it.
//! Called by attempts through the proxy.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, IpAddr as TlsAddress, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::context::Context;
use crate::kubernetes::probe::Target;
use crate::name::Host;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection to the proxy.
pub(super) enum NoProxy {
    /// Its name is not known.
    Unresolved(String),
    Unreachable(io::Error),
    /// There is a connection, and no TLS on it.
    NoTls(io::Error),
}

/// Connects to the first address of the proxy that accepts.
pub(super) async fn to_proxy(context: &Context, proxy: &Target) -> Result<Box<dyn Stream>, NoProxy> {
    let addresses = context.resolve(proxy).await.map_err(NoProxy::Unresolved)?;
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match context.connect(address).await {
            Ok(stream) if context.tls => {
                return secured(context, &proxy.host, stream).await.map_err(NoProxy::NoTls);
            }
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => last = error,
        }
    }
    Err(NoProxy::Unreachable(last))
}

async fn secured(context: &Context, host: &Host, stream: impl Stream + 'static) -> io::Result<Box<dyn Stream>> {
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = context.within(connector.connect(server_name(host)?, stream)).await?;
    Ok(Box::new(stream))
}

pub(super) fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other),
        Host::Address(address) => Ok(ServerName::IpAddress(TlsAddress::from(*address))),
    }
}

/// Reads up to the empty line, or as much as there is.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the tunnel.
    while head.len() < HEAD && !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const HEAD: usize = 16 * 1024;
