//! `audit`: whether the cluster, and what its workloads use, is set up so that the lock means something.
//! Must not decide what is right; the library does. It reads files, asks nobody, and prints.
//! Called by [`super::main`].

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::azure::audit::{Check, File, Verdict, audit};
use crate::azure::resource;

use super::Exit;
use super::args::Report;
use super::azure_file;
use super::output::Terminal;
use super::report::{Row, Verdicts};

#[derive(Debug, ClapArgs)]
pub(super) struct AuditArgs {
    /// What `az aks show`, `az sql server show`, `az sql server firewall-rule list`, `az sql server conn-policy show`,
    /// `az storage account show`, `az acr show`, `az keyvault show`, `az network public-ip show` print with `-o json`, or
    /// their lists; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The address from which the proxy leaves, for the API server's list; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    egress_address: Vec<IpAddr>,
    /// For people, for machines, or for CI
    #[arg(long, value_enum, default_value_t)]
    output: Report,
}

/// Audits.
pub(super) fn run(args: &AuditArgs, terminal: &mut Terminal) -> Exit {
    let mut files = Vec::new();
    let mut wrong = Vec::new();
    for file in &args.files {
        let name = azure_file::name(file);
        let parsed =
            azure_file::read(file).and_then(|text| resource::parse(&text).map_err(|error| format!("{name}: {error}")));
        match parsed {
            Ok(value) => files.push(File { name, value }),
            Err(why) => wrong.push(why),
        }
    }
    let checks = match audit(&files, &args.egress_address) {
        Ok(checks) if wrong.is_empty() => checks,
        refused => {
            let refused = refused.err().unwrap_or_default();
            wrong.extend(
                refused
                    .into_iter()
                    .map(|refused| format!("{}: {}", refused.name, refused.why)),
            );
            for why in wrong {
                terminal.say(&format!("error: {why}"));
            }
            return Exit::Unusable;
        }
    };
    if checks.is_empty() {
        terminal.say("error: nothing that is given can be judged alone: add what `az ... show` prints of its server");
        return Exit::Unusable;
    }
    let verdicts = verdicts(&checks);
    terminal.result(&match args.output {
        Report::Text => verdicts.table(),
        Report::Json => as_json(&checks, verdicts.holds()),
        Report::Junit => verdicts.junit(),
    });
    if verdicts.holds() { Exit::Yes } else { Exit::No }
}

fn verdicts(checks: &[Check]) -> Verdicts<'_> {
    let row = |check| {
        let Check {
            id,
            criterion,
            verdict,
            seen,
            why,
            mend,
        }: &Check = check;
        Row {
            id,
            criterion: *criterion,
            verdict: verdict.as_str(),
            holds: *verdict == Verdict::Pass,
            fails: *verdict != Verdict::Pass,
            evidence: seen,
            proves: why,
            advice: mend.as_deref(),
        }
    };
    Verdicts {
        title: "audit".to_owned(),
        preface: "",
        rows: checks.iter().map(row).collect(),
    }
}

fn as_json(checks: &[Check], holds: bool) -> String {
    let each = checks.iter().map(|check| {
        let mut shown = json!(check);
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("serves".to_owned(), json!(check.criterion.as_str()));
        }
        shown
    });
    format!("{:#}", json!({"holds": holds, "checks": each.collect::<Vec<_>>()}))
}
