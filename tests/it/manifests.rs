//! Every Kubernetes object that the repository holds or generates: a type loses nothing of it, and its values are sound.
//! Must not know what an object is for; reviewers read the golden files for that.
//! Called by every test run; `tools` is a ring of its own, of programs that are not ours.

mod semantics;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::{apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, core::v1 as core};
use k8s_openapi::api::{networking::v1 as networking, policy::v1 as policy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What an object says is what its type knows: a field that is misspelt would be dropped by an API server.
#[test]
fn no_field_is_lost_in_its_type() {
    let objects = objects();
    assert!(objects.len() > 100, "only {} objects were found", objects.len());
    let mut wrong = String::new();
    for (path, object) in &objects {
        match round_trip(object) {
            Ok(same) if same == *object => {}
            Ok(other) => wrong += &format!("{}: {object}\nbecomes {other}\n", path.display()),
            Err(error) => wrong += &format!("{}: {error}\n", path.display()),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_schemas_do_not_check_is_sound() {
    let mut wrong = String::new();
    for (path, object) in objects() {
        for problem in semantics::problems(&object) {
            wrong += &format!("{}: {problem}\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The only kind without a type and a schema: exactly the shape that is used, and nothing beside it.
#[test]
fn cilium_policies_have_their_shape() {
    let objects = objects();
    let of_cilium: Vec<_> = objects.iter().filter(|(_, object)| object["kind"] == CILIUM).collect();
    assert!(!of_cilium.is_empty());
    for (path, object) in of_cilium {
        let spec = &object["spec"];
        let at = path.display();
        assert_eq!(object["apiVersion"], "cilium.io/v2", "{at}");
        assert_eq!(keys(object), ["apiVersion", "kind", "metadata", "spec"], "{at}");
        assert_eq!(keys(spec), ["egress", "endpointSelector"], "{at}");
        assert!(
            matches!(&*keys(&spec["endpointSelector"]), [] | ["matchLabels"]),
            "{at}"
        );
        for way in spec["egress"].as_array().unwrap() {
            assert_eq!(keys(way), ["toEntities", "toPorts"], "{at}");
            for ports in way["toPorts"].as_array().unwrap() {
                assert_eq!(keys(ports), ["ports"], "{at}");
                for port in ports["ports"].as_array().unwrap() {
                    assert_eq!(keys(port), ["port", "protocol"], "{at}");
                    assert!(port["port"].is_string(), "{at}: Cilium writes ports as text");
                }
            }
        }
    }
}

/// A kind for which nothing would be tested is noticed.
#[test]
fn a_kind_that_nobody_knows_is_refused() {
    assert!(round_trip(&serde_json::json!({"apiVersion": "v1", "kind": "Thing"})).is_err());
    let misspelt = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"},
        "spec": {"podSelectr": {}, "policyTypes": ["Egress"]},
    });
    assert_ne!(round_trip(&misspelt).unwrap(), misspelt);
}

/// Every document of every file, with its path; but what kustomize reads and no API server sees.
fn objects() -> Vec<(PathBuf, Value)> {
    let mut all = Vec::new();
    for folder in ["tests/golden/kubernetes", "deploy"] {
        for path in yaml_files(&root().join(folder)) {
            // What the proxy reads; a namespace's lock may be called like its settings.
            let is_ours = path.ends_with("policy.yaml")
                || (path.ends_with("sluicegate.yaml") && !path.ends_with("network-policies/sluicegate.yaml"));
            if is_ours {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let documents = documents.into_iter().filter(|document| {
                let kind = document["kind"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{}: no kind", path.display()));
                // Objects of Prometheus' operators are judged by `deploy::monitoring`.
                !["Component", "Kustomization", "PodMonitor", "PrometheusRule"].contains(&kind)
            });
            all.extend(documents.map(|document| (path.clone(), document)));
        }
    }
    all
}

fn round_trip(object: &Value) -> Result<Value, String> {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
        let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(&typed).unwrap())
    }
    match object["kind"].as_str().unwrap_or_default() {
        "ConfigMap" => through::<core::ConfigMap>(object),
        "CronJob" => through::<batch::CronJob>(object),
        "Deployment" => through::<apps::Deployment>(object),
        "HorizontalPodAutoscaler" => through::<autoscaling::HorizontalPodAutoscaler>(object),
        "Job" => through::<batch::Job>(object),
        "LimitRange" => through::<core::LimitRange>(object),
        "MutatingAdmissionPolicy" => through::<admission::MutatingAdmissionPolicy>(object),
        "MutatingAdmissionPolicyBinding" => through::<admission::MutatingAdmissionPolicyBinding>(object),
        "Namespace" => through::<core::Namespace>(object),
        "NetworkPolicy" => through::<networking::NetworkPolicy>(object),
        "PodDisruptionBudget" => through::<policy::PodDisruptionBudget>(object),
        "ResourceQuota" => through::<core::ResourceQuota>(object),
        "Service" => through::<core::Service>(object),
        "ServiceAccount" => through::<core::ServiceAccount>(object),
        "ValidatingAdmissionPolicy" => through::<admission::ValidatingAdmissionPolicy>(object),
        "ValidatingAdmissionPolicyBinding" => through::<admission::ValidatingAdmissionPolicyBinding>(object),
        // Its shape has a test of its own.
        CILIUM => Ok(object.clone()),
        other => Err(format!("no type is known for {other}")),
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .map(|fields| fields.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const CILIUM: &str = "CiliumNetworkPolicy";
