//! Transparent listeners with original destinations, by REDIRECT and by TPROXY, for clients that know no proxy.
//! Must not use a variable or a flag in the clients: they believe to speak to the servers themselves.
//! Called by `tests/run` as root.

use super::{ATTACKER, Lab, SERVER4};
use crate::clients::explicit::trusting;
use crate::clients::script;
use crate::support::dns::{Answer, SERVFAIL};
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

const POLICY: &str = "allow: [\"*.allowed.test\", \"http://*.allowed.test\"]\n";

/// Sends the pod's connections to ports 443, 8443 and 80 to the proxy; the pod reaches nothing else but its DNS.
fn steer(lab: &Lab, original: &str) {
    let (hook, tls, http) = match original {
        "redirect" => (
            "type nat hook prerouting priority dstnat",
            "redirect to :15443",
            "redirect to :15080",
        ),
        _ => (
            "type filter hook prerouting priority mangle",
            "meta nfproto ipv4 tproxy ip to :15443 meta mark set 1 accept",
            "meta nfproto ipv4 tproxy ip to :15080 meta mark set 1 accept",
        ),
    };
    let six = |rule: &str| rule.replace("ipv4", "ipv6").replace("tproxy ip ", "tproxy ip6 ");
    let mut rules = String::new();
    let mut line = |rule: &str| rules += &format!("  iifname \"pod0\" tcp dport {rule}\n");
    line(&format!("{{ 443, 8443 }} {tls}"));
    line(&format!("80 {http}"));
    if original == "tproxy" {
        line(&format!("{{ 443, 8443 }} {}", six(tls)));
        line(&format!("80 {}", six(http)));
    }
    lab.gate.nft(&format!(
        "table inet steer {{\n chain in {{\n  {hook}; policy accept;\n{rules} }}\n}}\ntable inet wall {{\n chain forward {{\n  \
         type filter hook forward priority filter; policy drop;\n }}\n}}\n"
    ));
    if original == "tproxy" {
        for family in ["-4", "-6"] {
            lab.gate.ip(&[family, "rule", "add", "fwmark", "1", "lookup", "100"]);
            let all = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
            lab.gate
                .ip(&[family, "route", "add", "local", all, "dev", "lo", "table", "100"]);
        }
        for device in ["all", "pod0"] {
            lab.gate.sysctl(&format!("net.ipv4.conf.{device}.rp_filter=0"));
        }
    }
}

fn start(original: &str) -> (Lab, Proxy) {
    let lab = Lab::start();
    steer(&lab, original);
    let proxy = lab.proxy(original, POLICY);
    (lab, proxy)
}

/// Every client, both address families, allowed and denied.
fn clients_without_settings(original: &str) {
    let (lab, proxy) = start(original);
    let trust = trusting(&proxy.path("ca.pem"));
    let fetch = |client: &str, url: &str| match client {
        "curl" => lab.curl(&proxy, &[url]),
        "node" => lab.client(&proxy, "node", &[script("fetch.mjs").to_str().unwrap(), url]),
        _ => lab.client(
            &proxy,
            "java",
            &[&trust[0], &trust[1], script("Fetch.java").to_str().unwrap(), url],
        ),
    };
    let mut number = 0;
    for client in ["curl", "node", "java"] {
        for name in ["four.allowed.test", "six.allowed.test", "denied.test"] {
            let said = fetch(client, &format!("https://{name}/page"));
            let record = proxy.nth_decision(number);
            number += 1;
            assert_eq!(
                (record.host(), record.number("port"), record.text("listener")),
                (name, 443, "tls"),
                "{}",
                said.text
            );
            if name == "denied.test" {
                assert!(!said.ok, "{client}: {}", said.text);
                assert_eq!(record.verdict(), "deny no_rule");
                // What the alert access_denied is called there.
                let readable = said.text.to_lowercase();
                assert!(
                    readable.contains("access denied") || readable.contains("access_denied"),
                    "{client}: {}",
                    said.text
                );
                continue;
            }
            assert!(
                said.ok && said.text.contains(&format!("/page of {name}")),
                "{client} {name}: {}",
                said.text
            );
            assert_eq!(record.verdict(), "allow rule");
            let source = if name.starts_with("six") {
                "fd44::2"
            } else {
                "10.244.0.2"
            };
            assert_eq!(record.text("source"), source, "{}", record.0);
        }
    }
    for name in ["four.allowed.test", "six.allowed.test"] {
        let said = fetch("curl", &format!("http://{name}/page"));
        assert!(said.text.contains(&format!("/page of {name}")), "{}", said.text);
    }
    assert_eq!(lab.http.each_ref().map(Origin::accepted), [1, 1]);
    let said = fetch("curl", "http://denied.test/page");
    assert!(
        said.text.contains("no_rule") && said.text.contains("- http://denied.test"),
        "{}",
        said.text
    );
}

#[test]
fn clients_without_settings_by_redirect() {
    clients_without_settings("redirect");
}

#[test]
fn clients_without_settings_by_tproxy() {
    clients_without_settings("tproxy");
}

#[test]
fn e39_the_name_decides_where_and_the_dialled_address_never_does() {
    for original in ["redirect", "tproxy"] {
        let (lab, proxy) = start(original);
        let elsewhere = format!("four.allowed.test:443:{ATTACKER}");
        let said = lab.curl(&proxy, &["--resolve", &elsewhere, "https://four.allowed.test/page"]);
        assert!(
            said.ok && said.text.contains("/page of four.allowed.test"),
            "{}",
            said.text
        );
        let record = proxy.nth_decision(0);
        assert_eq!(record.text("address"), SERVER4);
        assert_eq!((lab.attacker.accepted(), lab.https[0].accepted()), (0, 1));
    }
}

#[test]
fn e40_without_dns_the_original_destination_is_no_way_out() {
    let (lab, proxy) = start("redirect");
    lab.dns.script("four.allowed.test", [Answer::rcode(SERVFAIL)]);
    let known = format!("four.allowed.test:443:{SERVER4}");
    let said = lab.curl(&proxy, &["--resolve", &known, "https://four.allowed.test/page"]);
    assert!(!said.ok, "{}", said.text);
    assert_eq!(proxy.nth_decision(0).verdict(), "deny dns");
    assert_eq!(lab.https[0].accepted(), 0);
}

#[test]
fn e41_the_original_port_is_the_port_that_is_judged() {
    for original in ["redirect", "tproxy"] {
        let (lab, proxy) = start(original);
        let said = lab.curl(&proxy, &["https://four.allowed.test:8443/page"]);
        assert!(!said.ok, "{}", said.text);
        let record = proxy.nth_decision(0);
        assert_eq!((record.verdict().as_str(), record.number("port")), ("deny port", 8443));
    }
}

#[test]
fn a_connection_that_nobody_redirected_is_refused() {
    let (lab, proxy) = start("redirect");
    // Straight to the listener: its "original destination" is the proxy itself.
    let straight = "four.allowed.test:15443:10.244.0.1";
    let said = lab.curl(&proxy, &["--resolve", straight, "https://four.allowed.test:15443/page"]);
    assert!(!said.ok, "{}", said.text);
    let record = proxy.nth_decision(0);
    assert_eq!(record.text("action"), "deny", "{}", record.0);
    assert_eq!(lab.https[0].accepted(), 0);
}
