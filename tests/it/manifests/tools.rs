//! What programs that are not ours make of the objects: the schemas of Kubernetes, and kustomize.
//! Must not need a cluster or a network.
//! Called by `tests/run`, which installs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{CILIUM, objects, root};
use crate::clients::tools;

/// Strictly: a field that no schema knows is refused.
#[test]
fn every_object_passes_the_schemas_of_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut text = String::new();
    for (_, object) in objects() {
        // Cilium's kinds are in no schema of Kubernetes. A patch is half an object.
        let is_patch = object["kind"] == "Service" && object["spec"]["selector"].is_null();
        if object["kind"] == CILIUM || is_patch {
            continue;
        }
        text += &format!("---\n{object}\n");
        count += 1;
    }
    let all = folder.path().join("all.yaml");
    fs::write(&all, text).unwrap();
    let said = validate(&all);
    assert!(said.status.success(), "{}", shown(&said));
    assert_eq!(shown(&said).matches(" passed for resource ").count(), count);

    let wrong = folder.path().join("wrong.yaml");
    let misspelt = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dta": {}});
    fs::write(&wrong, misspelt.to_string()).unwrap();
    assert!(!validate(&wrong).status.success(), "a misspelt field passes");
}

/// Every container of what carries the workload's labels gets the variables, whatever it is called and has already;
/// nothing else changes.
#[test]
fn the_component_adds_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let component = root().join("tests/golden/kubernetes/cilium/workload-env/trips");
    copy(&component, &folder.path().join("trips"));
    let over = folder.path().join("over");
    fs::create_dir(&over).unwrap();
    let labels = json!({"app": "trips", "team": "a"});
    let bare = json!({"containers": [{"name": "first", "image": "i"}, {"name": "second", "image": "i", "env": [
        {"name": "OTHER", "value": "kept"}, {"name": "HTTP_PROXY", "value": "http://mine"},
    ]}], "initContainers": [{"name": "init", "image": "i"}]});
    let carrier = |api: &str, kind: &str, labels: &Value| {
        let spec = match kind {
            "Pod" => bare.clone(),
            "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": bare}}}}),
            _ => json!({"template": {"metadata": {"labels": {"app": "trips"}}, "spec": bare}}),
        };
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": kind.to_lowercase(), "labels": labels}, "spec": spec})
    };
    let mut given = Vec::new();
    for (api, kind) in [
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "CronJob"),
        ("batch/v1", "Job"),
        ("v1", "Pod"),
    ] {
        given.push(carrier(api, kind, &labels));
    }
    let mut other = carrier("apps/v1", "Deployment", &json!({"app": "poi"}));
    other["metadata"]["name"] = json!("other");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "trips", "labels": labels}, "spec": {"ports": [{"port": 80}]}});
    let untouched = [other, service];
    let resources: Vec<_> = given.iter().chain(&untouched).map(Value::to_string).collect();
    fs::write(over.join("given.yaml"), resources.join("\n---\n")).unwrap();
    fs::write(
        over.join("kustomization.yaml"),
        "resources: [given.yaml]\ncomponents: [../trips]\n",
    )
    .unwrap();

    let built = kustomize(&over);
    let of = |kind: &str, name: &str| {
        let found = built
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}")).clone()
    };
    let values = of("ConfigMap", "sluicegate-env-trips");
    assert_eq!(
        values["data"]["HTTPS_PROXY"],
        "http://sluicegate.sluicegate.svc.cluster.local:3201"
    );
    for object in &given {
        let kind = object["kind"].as_str().unwrap();
        let built = of(kind, &kind.to_lowercase());
        let spec = ["/spec/jobTemplate/spec/template/spec", "/spec/template/spec", "/spec"]
            .iter()
            .find_map(|path| built.pointer(path).filter(|spec| !spec["containers"].is_null()))
            .unwrap();
        for container in spec["containers"].as_array().unwrap() {
            let env = container["env"].as_array().unwrap();
            for (name, value) in values["data"].as_object().unwrap() {
                let same: Vec<_> = env.iter().filter(|variable| variable["name"] == json!(name)).collect();
                assert_eq!(same, [&json!({"name": name, "value": value})], "{kind} {container}");
            }
            let others = usize::from(container["name"] == "second");
            assert_eq!(env.len(), 6 + others, "{kind} {container}");
        }
        assert_eq!(spec["initContainers"], bare["initContainers"]);
    }
    for object in &untouched {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert_eq!(of(object["kind"].as_str().unwrap(), name), *object);
    }
}

/// What `generate all` writes and what `deploy` holds is something that `kubectl apply -k` can read.
#[test]
fn every_kustomization_builds() {
    for engine in ["azure-npm", "calico", "cilium"] {
        let built = kustomize(&root().join("tests/golden/kubernetes").join(engine));
        for kind in [
            "MutatingAdmissionPolicy",
            "Namespace",
            "NetworkPolicy",
            "ValidatingAdmissionPolicy",
        ] {
            assert!(built.iter().any(|object| object["kind"] == kind), "{engine}: no {kind}");
        }
    }
    for overlay in ["aks", "kind"] {
        let built = kustomize(&root().join("deploy/overlays").join(overlay));
        assert!(built.iter().any(|object| object["kind"] == "Deployment"), "{overlay}");
    }
}

fn validate(file: &Path) -> Output {
    let program = tools().join("venv/bin/kubernetes-validate");
    let mut command = Command::new(&program);
    command.args(["--strict", "-k", "1.36"]).arg(file);
    let problem = |error| panic!("{}: {error}; run tests/run to install it", program.display());
    command.output().unwrap_or_else(problem)
}

fn kustomize(folder: &Path) -> Vec<Value> {
    let mut command = Command::new(tools().join("kubectl"));
    command.arg("kustomize").arg(folder);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("kubectl: {error}; run tests/run to fetch it"));
    assert!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
