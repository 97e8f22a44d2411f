//! The token exchange of a federated identity, as an Azure SDK does it, through the proxy.
//! Must not send the federated token to anyone whose certificate is not checked, nor print what comes back.
//! Called for workloads with `identity: workload`.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::context::Context;
use super::opener::printable;
use super::stream::{self, Stream};
use super::{Came, proxied, untried};
use crate::kubernetes::judge::Outcome;
use crate::kubernetes::probe::Target;
use crate::name::{Authority, Port};

pub(super) async fn request(context: &Context, proxy: &Target, scope: &str) -> Came {
    let (identity, roots) = match Identity::read().and_then(|identity| Ok((identity, roots()?))) {
        Ok(both) => both,
        Err(why) => return untried(why),
    };
    let mut stream = match stream::to_proxy(context, proxy).await {
        Ok(stream) => stream,
        Err(why) => return proxied::no_proxy(why),
    };
    let port = identity.authority.port.unwrap_or(Port::HTTPS);
    if let Err(came) = proxied::tunnel(context, &mut stream, &identity.authority.host, port).await {
        return came;
    }
    match identity.exchange(context, stream, roots, scope).await {
        Ok(answer) => said(&answer),
        Err(error) => (Outcome::Connected, format!("no answer from the authority: {error}")),
    }
}

/// What the webhook of Microsoft Entra Workload ID gives to a pod.
struct Identity {
    authority: Authority,
    tenant: String,
    client: String,
    token: String,
}

impl Identity {
    fn read() -> Result<Self, String> {
        let variable = |name: &str| {
            let value = env::var(name).ok().filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name} is not set"))
        };
        let url = variable("AZURE_AUTHORITY_HOST")?;
        let host = url
            .strip_prefix("https://")
            .ok_or("AZURE_AUTHORITY_HOST must begin with https://")?;
        let authority = host.trim_end_matches('/');
        let file = variable("AZURE_FEDERATED_TOKEN_FILE")?;
        Ok(Self {
            authority: Authority::parse(authority.as_bytes())
                .map_err(|error| format!("AZURE_AUTHORITY_HOST: {error}"))?,
            tenant: variable("AZURE_TENANT_ID")?,
            client: variable("AZURE_CLIENT_ID")?,
            token: fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?,
        })
    }

    /// OAuth 2 client credentials with an assertion (RFC 7523, section 2.2).
    async fn exchange(
        &self,
        context: &Context,
        stream: Box<dyn Stream>,
        roots: RootCertStore,
        scope: &str,
    ) -> io::Result<Vec<u8>> {
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = stream::server_name(&self.authority.host)?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = context.within(connector.connect(name, stream)).await?;
        let fields = [
            ("client_id", &*self.client),
            ("scope", scope),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", self.token.trim()),
            ("grant_type", "client_credentials"),
        ];
        let form: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        let form = form.join("&");
        let head = format!(
            "POST /{}/oauth2/v2.0/token HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nUser-Agent: sluicegate-verify\r\nConnection: close\r\n\r\n",
            escaped(&self.tenant),
            self.authority.host,
            form.len()
        );
        let answer = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(form.as_bytes()).await?;
            let mut answer = stream::head(&mut stream).await?;
            let length = content_length(&answer).unwrap_or(ANSWER).min(ANSWER);
            let read = (&mut stream).take(length).read_to_end(&mut answer).await;
            // Many servers close without a word.
            match read {
                Err(error) if answer.is_empty() => Err(error),
                _ => Ok(answer),
            }
        };
        context.within(answer).await
    }
}

/// Without one the answer ends with the connection.
fn content_length(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    value.trim().parse().ok()
}

/// A token is there, or the authority's own code says why not.
fn said(answer: &[u8]) -> Came {
    let line = printable(answer.split(|byte| *byte == b'\r').next().unwrap_or_default());
    let text = String::from_utf8_lossy(answer);
    if line.split(' ').nth(1) == Some("200") && text.contains("\"access_token\"") {
        return (Outcome::Answered, "an access token was issued".to_owned());
    }
    let code = text.find("AADSTS").map(|start| {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        format!(", {}", &rest[..end])
    });
    (
        Outcome::Connected,
        format!("the authority gave no token: {line}{}", code.unwrap_or_default()),
    )
}

/// Those that the image holds, or that were named.
fn roots() -> Result<RootCertStore, String> {
    let named = env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
    let file = named.unwrap_or_else(|| ROOTS.into());
    let shown = file.to_string_lossy().into_owned();
    let certificates = CertificateDer::pem_file_iter(&file).map_err(|error| format!("{shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(format!("{shown} holds no CA certificate"));
    }
    Ok(roots)
}

/// For a form (application/x-www-form-urlencoded).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const ANSWER: u64 = 64 * 1024;
