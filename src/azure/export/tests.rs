//! Policies with what becomes of them in Azure, and what is said about it.
//! Must not judge what a template does; an independent model does, in the tests of the binary.
//! Called by the test run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::azure::report::{Kind, Report, Weight};
use crate::policy::document::Document;
use crate::policy::golden::compare;
use crate::policy::{Generation, SourceText, load, render};

use super::{Exported, Input, Options, export};

/// Beside each policy stand the report without any `--accept` (`.txt`) and the template once all is accepted (`.json`;
/// none where nobody can accept what is wrong). `UPDATE_CORPUS=1` writes both, for a person to read before they are
/// committed.
#[test]
fn every_policy_becomes_what_is_written_down() {
    let mut differences = String::new();
    for case in cases() {
        let refused = exported(&case, &[]);
        differences += &compare(&case.with_extension("txt"), &refused.report.render(false));
        let (accepted, again) = (exported(&case, Kind::ALL), exported(&case, Kind::ALL));
        assert_eq!(
            accepted.template,
            again.template,
            "{}: not the same twice",
            case.display()
        );
        if accepted.report.is_refused() {
            assert!(!case.with_extension("json").exists(), "{}", case.display());
            continue;
        }
        differences += &compare(&case.with_extension("json"), &accepted.template);
        differences += &compare(
            &case.with_extension("parent.json"),
            &accepted.parent.unwrap_or_default(),
        );
    }
    assert!(differences.is_empty(), "{differences}");
}

/// No kind that export notes is without a case.
#[test]
fn every_kind_of_export_has_a_case() {
    let mut seen: Vec<_> = cases()
        .iter()
        .flat_map(|case| exported(case, &[]).report.findings().to_vec())
        .map(|finding| finding.kind)
        .collect();
    seen.sort_unstable();
    seen.dedup();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whatever stops an export, nothing that was to be accepted passes unaccepted.
#[test]
fn what_asks_stops() {
    for case in cases() {
        let report = exported(&case, &[]).report;
        let asks = report
            .findings()
            .iter()
            .any(|finding| finding.kind.weight() <= Weight::Ask);
        assert_eq!(report.is_refused(), asks, "{}", case.display());
    }
}

fn exported(case: &Path, accept: &[Kind]) -> Exported {
    let texts = [SourceText {
        name: case.file_name().unwrap().to_str().unwrap().into(),
        text: fs::read_to_string(case).unwrap().into(),
    }];
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let loaded = load(&texts, now, Generation(1), None)
        .unwrap_or_else(|problems| panic!("{}", render(&problems, &texts, false)));
    let document = Document::read(&texts).unwrap();
    let input = Input {
        document: &document,
        policy: &loaded.policy,
        texts: &texts,
        not_carried: &loaded.not_carried,
    };
    let options = Options {
        name: "sluicegate",
        priority: None,
        now,
    };
    export(&input, &options, Report::accepting(accept.iter().copied()))
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/azure/export");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// What export can say.
const KINDS: [Kind; 18] = [
    Kind::NoRules,
    Kind::NetworkFqdn,
    Kind::Shadows,
    Kind::AddressRule,
    Kind::FqdnTagList,
    Kind::Limit,
    Kind::InLabelWildcard,
    Kind::WorkloadSource,
    Kind::Until,
    Kind::Sni,
    Kind::ReportOnly,
    Kind::PortRange,
    Kind::TcpWildcard,
    Kind::Ipv6,
    Kind::Order,
    Kind::Expired,
    Kind::Addresses,
    Kind::SqlOnly,
];
