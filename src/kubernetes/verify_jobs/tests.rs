//! The Jobs of the golden policy, for a reviewer to read, and what must hold of their pods whatever the policy says.
//! Must not compare with anything that the generator made in the same run. `UPDATE_GOLDEN=1` writes the files anew.
//! Called by every test run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::policy::SourceText;
use crate::policy::problem::render;

#[test]
fn the_golden_files_hold() {
    let files = generated(&policy(), "poi", None).unwrap();
    let mut paths: Vec<_> = files.iter().map(|file| golden().join(&file.path)).collect();
    for (file, path) in files.iter().zip(&paths) {
        let text = file.text().unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &text).unwrap();
        }
        let expected = fs::read_to_string(path).unwrap_or_default();
        let changed = text.lines().zip(expected.lines()).find(|(new, old)| new != old);
        assert!(expected == text, "{} differs, first at {changed:?}", path.display());
    }
    paths.sort();
    let mut there: Vec<_> = fs::read_dir(golden().join("verify-jobs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    there.sort();
    assert_eq!(there, paths, "nothing generates the rest");
}

#[test]
fn the_pods_are_the_workloads_and_get_no_traffic() {
    for file in generated(&policy(), "trips-account", None).unwrap() {
        let jobs: Vec<Job> = objects(&file, "Job");
        let [inside, control] = &*jobs else { panic!("{jobs:?}") };
        for job in &jobs {
            let pod = &job.spec.as_ref().unwrap().template;
            let spec = pod.spec.as_ref().unwrap();
            let gates = spec.readiness_gates.as_ref().unwrap();
            assert_eq!(gates.len(), 1, "ready pods become endpoints");
            assert_eq!(spec.automount_service_account_token, Some(false));
            assert_eq!(spec.security_context.as_ref().unwrap().run_as_non_root, Some(true));
            assert_eq!(
                (
                    job.spec.as_ref().unwrap().backoff_limit,
                    &*spec.restart_policy.clone().unwrap()
                ),
                (Some(0), "Never")
            );
        }
        let template = |job: &Job| job.spec.as_ref().unwrap().template.clone();
        let labels = |job: &Job| template(job).metadata.unwrap().labels.unwrap();
        let account = |job: &Job| template(job).spec.unwrap().service_account_name.unwrap();
        let args = |job: &Job| template(job).spec.unwrap().containers[0].args.clone();
        assert_eq!((&*account(inside), &*account(control)), ("trips-account", "default"));
        assert_eq!(args(inside), args(control), "both try the same");
        assert_eq!(inside.metadata.name, control.metadata.name);
        assert_eq!(control.metadata.namespace.as_deref(), Some("sluicegate-verify"));
        let is_trips = file.path.ends_with("trips.yaml");
        assert_eq!(labels(inside).get("app").is_some_and(|app| app == "trips"), is_trips);
        assert_eq!(labels(inside).contains_key(FEDERATED), is_trips);
        assert!(!labels(control).contains_key("app") && !labels(control).contains_key(FEDERATED));
    }
}

/// Both pods read the same policy and the same targets, and those are the ones that were given.
#[test]
fn the_files_say_what_was_given() {
    let text = policy();
    for file in generated(&text, "default", Some("trips")).unwrap() {
        let maps: Vec<ConfigMap> = objects(&file, "ConfigMap");
        let [inside, control] = &*maps else { panic!("{maps:?}") };
        assert_eq!(inside.data, control.data);
        let data = inside.data.as_ref().unwrap();
        assert_eq!(data["policy-000-policy.yaml"], text);
        assert_eq!(serde_json::from_str::<Targets>(&data[TARGETS]).unwrap(), targets());
    }
}

/// No field is lost or misspelt on the way through the types.
#[test]
fn objects_survive_their_types() {
    for file in generated(&policy(), "default", None).unwrap() {
        for object in &file.objects {
            let value = object.value().clone();
            let again = match value["kind"].as_str().unwrap() {
                "Job" => serde_json::to_value(serde_json::from_value::<Job>(value.clone()).unwrap()),
                "ConfigMap" => serde_json::to_value(serde_json::from_value::<ConfigMap>(value.clone()).unwrap()),
                "Namespace" => serde_json::to_value(serde_json::from_value::<Namespace>(value.clone()).unwrap()),
                other => panic!("{other}"),
            };
            assert_eq!(again.unwrap(), value);
        }
    }
}

#[test]
fn what_cannot_be_generated_is_said() {
    let long = "x".repeat(46);
    let big = format!("{}\n# {}\n", policy(), "x".repeat(CONFIG_MAP));
    for (text, workload, said) in [
        (
            policy(),
            Some("ingress"),
            "`ingress` is no workload with pods in a locked namespace",
        ),
        (
            policy().replace(
                "  poi: {",
                &format!("  {long}: {{namespace: geo, pods: {{app: long}}}}\n  poi: {{"),
            ),
            None,
            "at most 45 characters",
        ),
        (big, None, "and a ConfigMap holds 1048576"),
    ] {
        let error = generated(&text, "default", workload).unwrap_err();
        assert!(error.contains(said), "{}", &error[..error.len().min(2000)]);
    }
}

fn objects<T: serde::de::DeserializeOwned>(file: &File, kind: &str) -> Vec<T> {
    let values = file
        .objects
        .iter()
        .map(Object::value)
        .filter(|value| value["kind"] == kind);
    values
        .map(|value: &Value| serde_json::from_value(value.clone()).unwrap())
        .collect()
}

fn generated(text: &str, service_account: &str, workload: Option<&str>) -> Result<Vec<File>, String> {
    let texts = [SourceText {
        name: "config/policy.yaml".into(),
        text: text.into(),
    }];
    let mut problems = Problems::new(&texts);
    let document = Document::read_noting(&mut problems);
    let jobs = Jobs {
        workload,
        image: "registry.example.com/sluicegate:0.0.0",
        service_account,
        targets: &targets(),
    };
    let files = verify_jobs(&document, jobs, &mut problems);
    if problems.has_errors() {
        return Err(render(&problems.into_sorted(), &texts, false));
    }
    Ok(files)
}

fn targets() -> Targets {
    Targets {
        nodes: vec!["10.224.0.5".parse().unwrap()],
        ..Targets::default()
    }
}

fn policy() -> String {
    fs::read_to_string(golden().join("policy.yaml")).unwrap()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubernetes")
}
