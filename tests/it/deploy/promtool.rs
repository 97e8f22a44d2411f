//! What Prometheus' own checker makes of the alerts and the panels: their types, and when the alerts fire.
//! Must not need a server. The cases stand in `tests/alerts.yaml`.
//! Called by `tests/run`, which fetches promtool.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::monitoring::panel_expressions;
use super::root;
use crate::clients::tools;

/// The file of rules is made as the object itself says, for those who have no operator.
#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let object = fs::read_to_string(root().join(RULES)).unwrap();
    let line = object.lines().find_map(|line| line.strip_prefix("#   sed ")).unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("sed {line}")])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success());
    fs::write(folder.path().join("rules.yaml"), &output.stdout).unwrap();
    fs::copy(root().join("tests/alerts.yaml"), folder.path().join("alerts.yaml")).unwrap();
    let promtool = |words: &[&str]| {
        let mut command = Command::new(tools().join("promtool"));
        said(command.args(words).current_dir(folder.path()))
    };
    promtool(&["check", "rules", "rules.yaml"]).unwrap();
    promtool(&["test", "rules", "alerts.yaml"]).unwrap();

    // Grafana's expressions as rules: their types are checked, too.
    let mut panels = String::from("groups:\n  - name: panels\n    rules:\n");
    for (number, expression) in panel_expressions().into_iter().enumerate() {
        let _ = writeln!(
            panels,
            "      - {{record: panel_{number}, expr: {}}}",
            serde_json::json!(expression)
        );
    }
    fs::write(folder.path().join("panels.yaml"), &panels).unwrap();
    promtool(&["check", "rules", "panels.yaml"]).unwrap();

    // It does judge: a threshold moved makes a case fail.
    let other = String::from_utf8(output.stdout)
        .unwrap()
        .replace("< 3 * 86400", "< 1 * 86400");
    fs::write(folder.path().join("rules.yaml"), other).unwrap();
    let failed = promtool(&["test", "rules", "alerts.yaml"]).unwrap_err();
    assert!(failed.contains("SluicegateReportModeEnds"), "{failed}");
}

fn said(command: &mut Command) -> Result<(), String> {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

const RULES: &str = "deploy/monitoring/prometheusrule.yaml";
