//! `verify` against the real proxy: what probes see of it, what the verdict makes of two pods, the token exchange.
//! Must not play a cluster: policies are enforced in the lab; here, what is blocked is written into the observations.
//! Called by `tests/run`.

mod cluster;
mod verdicts;

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::ca::Ca;
use crate::support::origin::{Origin, Reply, Site};
use crate::support::proxy::free_port;
use crate::support::setup::Setup;
use crate::support::world::Origins;

use cluster::{Cluster, run};

#[test]
fn probes_see_what_there_is() {
    let cluster = Cluster::start();
    let seen = cluster.observe(&[]);
    let (tls, http) = (cluster.origins.https.port(), cluster.origins.http.port());
    let (inner, dns) = (cluster.inner.address, cluster.origins.dns.address);
    let proxy = &cluster.proxy;
    for (id, outcome, detail) in [
        (format!("L13 early {inner}"), "answered", "try 1: answered"),
        (format!("L01 tcp {inner}"), "answered", "answered: HTTP/1.1"),
        (format!("L02 dns/udp {dns}"), "answered", "bytes"),
        (format!("L02 dns/tcp {dns}"), "answered", "bytes"),
        ("L10 tcp [::1]:9".to_owned(), "nothing", "refused"),
        (format!("L03 metadata {inner}"), "answered", "HTTP/1.1 200 OK"),
        ("L04 wireserver 127.0.0.1:32526".to_owned(), "nothing", "refused"),
        (format!("L05 node port {inner}"), "answered", ""),
        ("L12 names denied.test".to_owned(), "answered", "127.0.0.1"),
        (
            "works: DNS".to_owned(),
            "answered",
            "proxy.sluicegate.test is 127.0.0.1",
        ),
        (format!("L06 API server by Service 127.0.0.1:{tls}"), "answered", ""),
        (format!("L07 poi {inner}"), "answered", ""),
        (format!("L07 maps {inner}"), "answered", ""),
        (format!("direct {inner}"), "answered", ""),
        ("root: this pod".to_owned(), "untried", "no pod"),
        (format!("L08 proxy port {}", cluster.trips), "answered", "HTTP/1.1 400"),
        (
            format!("L08 proxy port {}", proxy.at("admin").port()),
            "answered",
            "HTTP/1.1",
        ),
        (
            format!("expect allow tls://api.allowed.test:{tls}"),
            "answered",
            "ServerHello",
        ),
        (
            format!("expect allow http://plain.allowed.test:{http}"),
            "answered",
            "HTTP/1.1 200",
        ),
        ("expect deny tls://denied.test:443".to_owned(), "denied", "(no_rule)"),
        (
            format!("expect deny http://plain.allowed.test:{tls}"),
            "denied",
            "(port)",
        ),
        (
            "L06 API server through the proxy api.cluster.test".to_owned(),
            "denied",
            "(deny_rule)",
        ),
        (
            "L09 address through the proxy 10.0.0.1:443".to_owned(),
            "denied",
            "(ip_literal)",
        ),
        (format!("L09 address through the proxy {inner}"), "denied", "403"),
        (
            format!("L09 another name inside a tunnel to api.allowed.test:{tls}"),
            "denied",
            "alert access_denied",
        ),
        (
            "SQL by a public name sluicegate-verify.database.windows.net:1433".to_owned(),
            "denied",
            "(no_rule)",
        ),
        (
            "works: token of the workload's identity".to_owned(),
            "untried",
            "AZURE_AUTHORITY_HOST is not set",
        ),
        ("L16 pods with hostNetwork".to_owned(), "untried", "not enforceable"),
    ] {
        let all = seen["seen"].as_array().unwrap();
        let Some(one) = all.iter().find(|one| one["id"] == *id) else {
            panic!("{id} was not tried: {seen:#}")
        };
        assert_eq!(one["outcome"], outcome, "{one}");
        assert!(one["detail"].as_str().unwrap().contains(detail), "{one}");
    }
    assert_eq!(seen["workload"], "trips");
    // The secret-free hello is the only thing that the origins saw of a tunnel.
    assert!(cluster.origins.https.requests().is_empty());
}

#[test]
fn it_is_printed_for_people_and_for_ci() {
    let cluster = Cluster::start();
    let ended = cluster.verify(&[], &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.out.contains("without a control nothing counts as blocked"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("\nmanaged identities keep working\n! not proven "),
        "{}",
        ended.out
    );
    assert!(ended.out.contains(" OPEN, "), "{}", ended.out);
    let ended = cluster.verify(&["--output", "junit"], &[]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .out
            .starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("<testcase classname=\"nothing runs as root\" name=\"root: this pod\">\n      <skipped message=\"not covered"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("<failure type=\"OPEN\" message=\"OPEN: answered"),
        "{}",
        ended.out
    );
}

/// The token goes to the authority alone, through the proxy, and only where its certificate is good.
#[test]
fn a_federated_token_is_exchanged() {
    let cluster = Cluster::start();
    let site: Site = Arc::new(|request| match request.target() {
        "/tenant-1/oauth2/v2.0/token" => Reply::ok("{\"token_type\":\"Bearer\",\"access_token\":\"ey.secret\"}"),
        _ => Reply::ok("{\"error\":\"invalid\",\"error_description\":\"AADSTS700016: no such application\"}"),
    });
    let config = cluster.origins.ca.server_config(&["login.wild.test"]);
    let authority = Origin::https_at("127.0.0.1:0", config, site);
    let policy = fs::read_to_string(cluster.proxy.path("policy.yaml")).unwrap();
    let port = format!("https://login.wild.test:{}", cluster.origins.https.port());
    let new = format!("https://login.wild.test:{}", authority.port());
    cluster.proxy.reload(&policy.replace(&port, &new));
    fs::write(cluster.proxy.path("token"), "federated&token\n").unwrap();
    fs::write(cluster.proxy.path("ca.pem"), cluster.origins.ca.pem()).unwrap();
    fs::write(cluster.proxy.path("other.pem"), Ca::new("another").pem()).unwrap();
    let token = |roots: &str, tenant: &str| {
        let host = format!("{new}/");
        let seen = cluster.observe(&[
            ("AZURE_AUTHORITY_HOST", &host),
            ("AZURE_FEDERATED_TOKEN_FILE", "token"),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_TENANT_ID", tenant),
            ("SSL_CERT_FILE", roots),
        ]);
        let all = seen["seen"].as_array().unwrap();
        let one = all
            .iter()
            .find(|one| one["id"].as_str().unwrap().starts_with("works: token"));
        let one = one.unwrap().clone();
        assert!(!seen.to_string().contains("ey.secret") && !seen.to_string().contains("federated&token"));
        (
            one["outcome"].as_str().unwrap().to_owned(),
            one["detail"].as_str().unwrap().to_owned(),
        )
    };
    let (outcome, detail) = token("other.pem", "tenant-1");
    assert_eq!(outcome, "connected", "{detail}");
    assert!(
        authority.requests().is_empty(),
        "the token went to someone without a good certificate"
    );

    let (outcome, detail) = token("ca.pem", "tenant-1");
    assert_eq!(outcome, "answered", "{detail}");
    let request = &authority.requests()[0];
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(
        body.contains("client_id=client-1&scope=https%3A%2F%2Fmanagement.azure.com%2F.default&"),
        "{body}"
    );
    assert!(
        body.contains("&client_assertion=federated%26token&grant_type=client_credentials"),
        "{body}"
    );

    let (outcome, detail) = token("ca.pem", "tenant-2");
    assert_eq!(outcome, "connected");
    assert!(detail.ends_with(", AADSTS700016"), "{detail}");
    assert_eq!(token("missing.pem", "tenant-1").0, "untried");
}

#[test]
fn what_makes_no_sense_is_2() {
    let cluster = Cluster::start();
    let seen = cluster.observe(&[]);
    fs::write(cluster.proxy.path("seen.json"), seen.to_string()).unwrap();
    fs::write(cluster.proxy.path("no.json"), "{}").unwrap();
    for (words, said) in [
        (&["--as", "nobody"][..], "`nobody` is no workload with pods"),
        (&[], "--as <WORKLOAD>"),
        (&["--as", "trips", "--node", "node1"], "10.224.0.4:30080"),
        (&["--as", "trips", "--timeout", "0s"], "between 1ms and 1m"),
        (&["--as", "trips", "--proxy", "a b"], "--proxy: `a b`"),
        (
            &["--as", "trips", "--observe", "--control", "seen.json"],
            "cannot be used with",
        ),
        (
            &["--as", "poi", "--inside", "seen.json"],
            "observations of `trips`, not of `poi`",
        ),
        (&["--inside", "no.json"], "no.json: missing field"),
        (&["--inside", "missing.json"], "missing.json: No such file"),
        (
            &["--inside", "seen.json", "--control", "no.json"],
            "no.json: missing field",
        ),
    ] {
        let ended = cluster.run(&[&["verify", "--policy", "policy.yaml"], words].concat(), &[]);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{words:?} {ended:?}");
        assert!(ended.err.contains(said), "{words:?}: {}", ended.err);
    }
    let ended = cluster.run(&["verify", "--as", "trips", "--policy", "missing.yaml"], &[]);
    assert_eq!(ended.code, 2, "{ended:?}");
}

/// The Jobs run with nothing but what their ConfigMap holds.
#[test]
fn the_jobs_observe_with_their_own_files() {
    let cluster = Cluster::start();
    let first = cluster.observe(&[]);
    fs::write(cluster.proxy.path("given.json"), first["targets"].to_string()).unwrap();
    let words = [
        "generate",
        "verify-jobs",
        "--policy",
        "policy.yaml",
        "--targets",
        "given.json",
        "--workload",
        "trips",
    ];
    let ended = cluster.run(&words, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let objects: Vec<Value> = ended
        .out
        .split("---\n")
        .skip(1)
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let pod = &of_kind("Job")["spec"]["template"]["spec"];
    let root = cluster.proxy.path("mounted");
    for item in pod["volumes"][0]["configMap"]["items"].as_array().unwrap() {
        let path = root.join(item["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            path,
            of_kind("ConfigMap")["data"][item["key"].as_str().unwrap()]
                .as_str()
                .unwrap(),
        )
        .unwrap();
    }
    let container = &pod["containers"][0];
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let dns = cluster.origins.dns.address.to_string();
    let args: Vec<_> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let args: Vec<_> = args
        .iter()
        .map(|word| word.replace(mount, root.to_str().unwrap()))
        .collect();
    let mut words: Vec<&str> = args.iter().map(String::as_str).collect();
    words.extend(["--dns", &dns, "--timeout", "2s"]);
    let ended = cluster.run(
        &words,
        &[("NODE_IP", "192.0.2.1"), ("KUBERNETES_SERVICE_HOST", "127.0.0.1")],
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    let seen: Value = serde_json::from_str(&ended.out).unwrap();
    let ids = |seen: &Value| {
        let all = seen["seen"].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let extra: Vec<_> = ids(&seen).difference(&ids(&first)).cloned().collect();
    assert_eq!(extra, ["L05 own node kubelet 10250"]);
    assert_eq!(ids(&first).difference(&ids(&seen)).count(), 0);
}

/// A proxy whose listeners speak TLS is spoken to in TLS, whoever signed its certificate.
#[test]
fn an_https_proxy_is_seen_through() {
    let origins = Origins::start();
    let (trips, tls) = (free_port(), origins.https.port());
    let policy = format!(
        "workloads:\n  trips: {{namespace: api, pods: {{app: trips}}, port: {trips}}}\nallow:\n  - {{to: \
         [\"https://api.allowed.test:{tls}\"], addresses: [127.0.0.0/8]}}\nexpect:\n  - {{from: trips, allow: \
         \"https://api.allowed.test:{tls}\"}}\n  - {{from: trips, deny: \"https://denied.test\"}}\n"
    );
    let files = json!({"cert": "proxy.crt", "key": "proxy.key"});
    let listeners = json!([{"name": "proxy", "mode": "explicit", "bind": "127.0.0.1:0", "tls": files}]);
    let setup = Setup::new(&policy)
        .dns(&origins.dns)
        .set("listeners", listeners.clone());
    let issued = Ca::new("nobody knows it").server(&["proxy.test"]);
    issued.write(
        &setup.folder.path().join("proxy.crt"),
        &setup.folder.path().join("proxy.key"),
    );
    let proxy = setup.start();
    fs::write(proxy.path("verify.yaml"), json!({"listeners": listeners}).to_string()).unwrap();
    let dns = origins.dns.address.to_string();
    let flags = "verify -c verify.yaml --policy policy.yaml --as trips --observe --proxy 127.0.0.1 --timeout 2s --early 0 --public \
                 127.0.0.1:9 --public-dns 127.0.0.1:9 --public-ntp 127.0.0.1:9 --metadata 127.0.0.1:9 --wire-server 127.0.0.1 \
                 --public-v6 [::1]:9 --dns";
    let words: Vec<_> = flags.split_whitespace().chain([&*dns]).collect();
    let ended = run(proxy.folder.path(), &words, &[]);
    let seen: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    for (id, outcome) in [
        (format!("L08 proxy port {trips}"), "answered"),
        (format!("expect allow tls://api.allowed.test:{tls}"), "answered"),
        ("expect deny tls://denied.test:443".to_owned(), "denied"),
        (
            format!("L09 another name inside a tunnel to api.allowed.test:{tls}"),
            "denied",
        ),
    ] {
        let mut all = seen["seen"].as_array().unwrap().iter();
        let one = all.find(|one| one["id"] == *id).unwrap();
        assert_eq!(one["outcome"], outcome, "{one}");
    }
}

/// DNS that does not answer is no proof of anything, and not an end of the command either.
#[test]
fn without_dns_there_are_verdicts_all_the_same() {
    let cluster = Cluster::start();
    cluster.origins.dns.kill(true);
    let seen = cluster.observe(&[]);
    let find = |start: &str| {
        let mut all = seen["seen"].as_array().unwrap().iter();
        let one = all.find(|one| one["id"].as_str().unwrap().starts_with(start));
        one.unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(find("works: DNS"), "nothing");
    assert_eq!(find("expect allow"), "untried");
}
