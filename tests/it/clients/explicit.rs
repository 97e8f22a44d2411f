//! Clients that are told of the proxy by a variable, a flag or an option.
//! Must not need anything but what a user would set; each command is what the README recommends.
//! Called by `tests/run`.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use super::files::{Files, image};
use super::{Shop, bare, run, script, tools};
use crate::support::origin::{Origin, pages};
use crate::support::setup::Setup;

const DENIED: &str = "Denied by sluicegate (no_rule)";

#[test]
fn curl() {
    let client = |shop: &Shop, host: &str| {
        let mut curl = shop.client("curl");
        curl.args(["-sS", "-v", &shop.url(host, "/page")]);
        curl
    };
    Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &["403", DENIED]);
}

#[test]
fn curl_says_403_without_being_asked() {
    let client = |shop: &Shop, host: &str| {
        let mut curl = shop.client("curl");
        curl.args(["-sS", &shop.url(host, "/page")]);
        curl
    };
    Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &["403"]);
}

#[test]
fn curl_shows_the_page_of_a_plain_request() {
    let shop = Shop::start(Arc::new(pages));
    let mut curl = shop.client("curl");
    curl.args(["-sS", "http://denied.test/page"]);
    let said = run(curl);
    for part in ["http://denied.test", "no_rule", "- http://denied.test"] {
        assert!(said.text.contains(part), "{}", said.text);
    }
}

#[test]
fn wget() {
    let client = |shop: &Shop, host: &str| {
        let mut wget = shop.client("wget");
        wget.args(["-nv", "-t", "1", "-O", "-", "--ca-certificate"])
            .arg(&shop.bundle)
            .arg(shop.url(host, "/page"));
        wget
    };
    Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &[DENIED]);
}

#[test]
fn git() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut git = bare("git", folder.path());
        git.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t.test",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args);
        let said = run(git);
        assert!(said.ok, "{}", said.text);
    };
    git(&["init", "-q", "work"]);
    git(&["-C", "work", "commit", "-q", "--allow-empty", "-m", "one"]);
    git(&["clone", "-q", "--bare", "work", "repo.git"]);
    git(&["-C", "repo.git", "update-server-info"]);
    let client = |shop: &Shop, host: &str| {
        let mut git = shop.client("git");
        git.args(["ls-remote", &shop.url(host, "/repo.git")]);
        git
    };
    let files = Files::default().folder("/repo.git", &folder.path().join("repo.git"));
    Shop::files(files).both(client, "refs/heads/main", &["403"]);
}

#[test]
fn pip() {
    let python = tools().join("venv/bin/python");
    let folder = tempfile::tempdir().unwrap();
    let mut make = bare(python.to_str().unwrap(), folder.path());
    make.arg(script("wheel.py"));
    let written = run(make);
    assert!(written.ok, "{}", written.text);
    let wheel = "tiny-1.0-py3-none-any.whl";
    let files = Files::default()
        .with(
            "/simple/tiny/",
            "text/html",
            format!("<a href=\"/{wheel}\">{wheel}</a>"),
        )
        .with(
            &format!("/{wheel}"),
            "application/zip",
            fs::read(folder.path().join(wheel)).unwrap(),
        );
    let client = |shop: &Shop, host: &str| {
        let mut pip = shop.client(python.to_str().unwrap());
        pip.args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--retries",
            "1",
        ]);
        pip.args(["--index-url", &shop.url(host, "/simple/"), "tiny"]);
        pip
    };
    Shop::files(files).both(client, "Successfully downloaded tiny", &["403", DENIED]);
}

#[test]
fn npm() {
    let package = r#"{"name":"tiny","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny","version":"1.0.0",
        "description":"a tiny package","dist":{"tarball":"https://api.allowed.test/tiny.tgz","shasum":"0"}}}}"#;
    let client = |shop: &Shop, host: &str| {
        let mut npm = shop.client("npm");
        npm.args([
            "view",
            "tiny",
            "description",
            "--fetch-retries=0",
            "--no-update-notifier",
            "--registry",
            &shop.url(host, "/"),
        ]);
        npm.arg("--cafile").arg(&shop.bundle);
        npm
    };
    Shop::files(Files::default().with("/tiny", "application/json", package)).both(client, "a tiny package", &["403"]);
}

#[test]
fn apt() {
    let files = Files::default().with(
        "/deb/./Packages",
        "text/plain",
        "Package: tiny\nVersion: 1.0\nArchitecture: all\n\n",
    );
    let files = files.with(
        "/deb/Packages",
        "text/plain",
        "Package: tiny\nVersion: 1.0\nArchitecture: all\n\n",
    );
    let client = |shop: &Shop, host: &str| {
        let root = shop.proxy.path(&format!("apt-{host}"));
        for folder in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let list = root.join("sources.list");
        fs::write(&list, format!("deb [trusted=yes] {} ./\n", shop.url(host, "/deb"))).unwrap();
        let proxy = format!("http://{}", shop.proxy.address());
        // Given as the configuration itself, so that neither the host's sources nor its hooks take part.
        let settings = [
            ("Dir::Etc::main", "/dev/null".to_owned()),
            ("Dir::Etc::parts", "/dev/null".to_owned()),
            ("Dir::Etc::sourcelist", list.display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", root.join("lists").display().to_string()),
            ("Dir::Cache", root.join("cache").display().to_string()),
            ("Acquire::https::Proxy", proxy),
            ("Acquire::https::CaInfo", shop.bundle.display().to_string()),
            ("Acquire::Retries", "0".to_owned()),
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        let text = settings.iter().fold(String::new(), |text, (key, value)| {
            text + &format!("{key} \"{value}\";\n")
        });
        let file = root.join("apt.conf");
        fs::write(&file, text).unwrap();
        let mut apt = shop.client("apt-get");
        apt.env("APT_CONFIG", file);
        apt.arg("update");
        apt
    };
    Shop::files(files).both(client, "Reading package lists", &["403", DENIED]);
}

#[test]
fn skopeo() {
    let client = |shop: &Shop, host: &str| {
        let mut skopeo = shop.client("skopeo");
        skopeo.args(["inspect", &format!("docker://{host}:{}/x:1", shop.origin.port())]);
        skopeo
    };
    Shop::files(image()).both(client, "\"Architecture\": \"amd64\"", &[DENIED]);
}

#[test]
fn python_requests_httpx_and_aiohttp() {
    for library in ["requests", "httpx", "aiohttp"] {
        let client = |shop: &Shop, host: &str| {
            let mut python = shop.client(tools().join("venv/bin/python").to_str().unwrap());
            python.arg(script("fetch.py")).args([library, &shop.url(host, "/page")]);
            python
        };
        Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &["403", DENIED]);
    }
}

#[test]
fn node_with_undicis_agent() {
    let client = |shop: &Shop, host: &str| {
        let mut node = shop.client("node");
        node.env("TOOLS", tools())
            .arg(script("undici.mjs"))
            .arg(shop.url(host, "/page"));
        node
    };
    Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &["403"]);
}

#[test]
fn java_with_its_flags() {
    let client = |shop: &Shop, host: &str| {
        let mut java = shop.client("java");
        java.args(trusting(&shop.bundle));
        java.arg("-Dhttps.proxyHost=127.0.0.1")
            .arg(format!("-Dhttps.proxyPort={}", shop.proxy.address().port()));
        java.arg(script("Fetch.java")).arg(shop.url(host, "/page"));
        java
    };
    Shop::start(Arc::new(pages)).both(client, "/page of api.allowed.test", &["403", DENIED]);
}

#[test]
fn a_mail_client_under_an_https_rule_is_told_in_the_record() {
    let dns = crate::support::dns::Dns::start();
    dns.set("mail.allowed.test", [[127, 0, 0, 1]]);
    let mail = Origin::banner("220 mail.allowed.test ESMTP\r\n");
    let policy = format!(
        "allow: [{{to: [\"https://mail.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        mail.port()
    );
    let proxy = Setup::new(&policy).dns(&dns).start();
    let mut curl = bare("curl", proxy.folder.path());
    curl.args([
        "-sS",
        "--max-time",
        "30",
        "--proxytunnel",
        "-x",
        &format!("http://{}", proxy.address()),
    ]);
    curl.args([
        "--mail-from",
        "a@a.test",
        &format!("smtp://mail.allowed.test:{}", mail.port()),
    ]);
    assert!(!run(curl).ok);
    let record = proxy.nth_decision(0);
    assert_eq!(record.text("action"), "deny");
    assert!(record.text("detail").contains("tcp://"), "{}", record.0);
}

/// Flags that make Java trust the authority in a PEM file.
pub fn trusting(bundle: &std::path::Path) -> [String; 2] {
    let store = bundle.with_extension("p12");
    if !store.exists() {
        let mut keytool = Command::new("keytool");
        keytool.args([
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-storetype",
            "PKCS12",
            "-storepass",
            "changeit",
        ]);
        keytool.arg("-keystore").arg(&store).arg("-file").arg(bundle);
        let made = run(keytool);
        assert!(made.ok, "{}", made.text);
    }
    [
        format!("-Djavax.net.ssl.trustStore={}", store.display()),
        "-Djavax.net.ssl.trustStorePassword=changeit".to_owned(),
    ]
}
