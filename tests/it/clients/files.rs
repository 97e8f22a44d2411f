//! Sites made of files: a git repository, a Python index, an npm registry, an apt repository, an image registry.
//! Must not be cleverer than a folder behind a web server, but for the content type that image clients insist on.
//! Called by the tests of the clients that read them.

use std::collections::HashMap;
use std::path::Path;

use crate::support::http::Message;
use crate::support::origin::Reply;

#[derive(Debug, Default)]
pub struct Files {
    files: HashMap<String, (String, Vec<u8>)>,
}

impl Files {
    pub fn with(mut self, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), (kind.to_owned(), body.into()));
        self
    }

    /// Everything below a folder, under `prefix`.
    pub fn folder(mut self, prefix: &str, folder: &Path) -> Self {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
            self = if path.is_dir() {
                self.folder(&name, &path)
            } else {
                let body = std::fs::read(&path).unwrap();
                self.with(&name, "application/octet-stream", body)
            };
        }
        self
    }

    pub fn reply(&self, request: &Message) -> Reply {
        let path = request.target().split('?').next().unwrap_or_default();
        match self.files.get(path) {
            Some((kind, body)) => Reply::ok(body.clone()).with("Content-Type", kind),
            None => Reply::not_found(),
        }
    }
}

/// An image of one empty layer, as `x:1`, the way a registry serves it.
pub fn image() -> Files {
    let config =
        r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;
    let digest = |bytes: &[u8]| {
        let digest = rustls::crypto::aws_lc_rs::default_provider()
            .cipher_suites
            .iter()
            .filter_map(|suite| suite.tls13().map(|suite| suite.common.hash_provider))
            .find(|hash| hash.output_len() == 32)
            .unwrap_or_else(|| panic!("no SHA-256"))
            .hash(bytes);
        digest
            .as_ref()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[]}}"#,
        digest(config.as_bytes()),
        config.len()
    );
    Files::default()
        .with("/v2/", "application/json", "{}")
        .with("/v2/x/tags/list", "application/json", r#"{"name":"x","tags":["1"]}"#)
        .with(
            &format!("/v2/x/blobs/sha256:{}", digest(config.as_bytes())),
            "application/json",
            config,
        )
        .with(
            &format!("/v2/x/manifests/sha256:{}", digest(manifest.as_bytes())),
            kind,
            manifest.clone(),
        )
        .with("/v2/x/manifests/1", kind, manifest)
}
