//! What the objects of `deploy/` say of each other and of the settings: names, selectors, ports, times, versions.
//! Must not do what kustomize does beyond collecting files; whole builds are a person's to look at.
//! Called by every test run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{documents, files_below, objects, one, root, text};

#[test]
fn every_file_is_in_a_kustomization_and_every_entry_is_a_file() {
    let folder = root().join("deploy");
    let mut listed = BTreeSet::new();
    for path in files_below(&folder) {
        if path.file_name().unwrap() != "kustomization.yaml" {
            continue;
        }
        listed.insert(path.clone());
        for entry in entries(&path) {
            let entry = path.parent().unwrap().join(entry).canonicalize();
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if entry.is_dir() {
                assert!(entry.join("kustomization.yaml").is_file(), "{}", entry.display());
            }
            listed.insert(entry);
        }
    }
    // What the image is made of, and what people read.
    let others = ["rootfs", "sluicegate.yaml", "README.md"].map(|name| folder.join(name));
    let strays: Vec<_> = files_below(&folder)
        .into_iter()
        .filter(|path| !listed.contains(path) && !others.contains(path))
        .collect();
    assert!(strays.is_empty(), "in no kustomization: {strays:?}");
}

#[test]
fn what_is_referred_to_exists() {
    for overlay in ["aks", "kind"] {
        let folder = format!("deploy/overlays/{overlay}");
        let all = together(&root().join(&folder));
        let names = |kind: &str| -> BTreeSet<String> {
            let of_kind = all.iter().filter(|object| text(&object["kind"]) == kind);
            of_kind
                .map(|object| text(&object["metadata"]["name"]).to_owned())
                .collect()
        };
        let pod = &one(&all, "Deployment")["spec"]["template"]["spec"];
        for volume in pod["volumes"].as_array().unwrap() {
            let name = text(&volume["configMap"]["name"]);
            assert!(
                names("ConfigMap").contains(name),
                "{overlay}: no ConfigMap {name:?}: {volume}"
            );
        }
        let volumes: BTreeSet<_> = list(&pod["volumes"]).map(|volume| text(&volume["name"])).collect();
        let container = container(pod);
        for mount in list(&container["volumeMounts"]) {
            assert!(volumes.contains(text(&mount["name"])), "{mount}");
            assert!(
                mount.get("subPath").is_none(),
                "a subPath never sees an update: {mount}"
            );
        }
        assert!(names("ServiceAccount").contains(text(&pod["serviceAccountName"])));
        let namespaces = names("Namespace");
        for object in &all {
            let namespace = text(&object["metadata"]["namespace"]);
            assert!(
                namespaces.contains(namespace) || namespace.is_empty(),
                "{overlay}: {namespace} is not there: {}",
                object["metadata"]
            );
        }
    }
    let components = objects("deploy/components");
    let scaled = &one(&components, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
    let base = objects("deploy/base");
    let deployment = one(&base, "Deployment");
    for field in ["apiVersion", "kind"] {
        assert_eq!(scaled[field], deployment[field]);
    }
    assert_eq!(scaled["name"], deployment["metadata"]["name"]);
}

#[test]
fn selectors_select_the_pods() {
    let base = objects("deploy/base");
    let spec = &one(&base, "Deployment")["spec"];
    let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
    let mut selectors = vec![
        spec["selector"]["matchLabels"].clone(),
        spec["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].clone(),
        one(&base, "Service")["spec"]["selector"].clone(),
        one(&base, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].clone(),
    ];
    let monitors = objects("deploy/monitoring");
    let monitors = monitors.iter().filter(|object| text(&object["kind"]) == "PodMonitor");
    for monitor in monitors {
        selectors.push(monitor["spec"]["selector"]["matchLabels"].clone());
        let namespaces = &monitor["spec"]["namespaceSelector"]["matchNames"];
        assert_eq!(namespaces[0], one(&base, "Namespace")["metadata"]["name"]);
        for endpoint in list(&monitor["spec"]["podMetricsEndpoints"]) {
            port_of(container(&spec["template"]["spec"]), text(&endpoint["port"]));
        }
    }
    assert_eq!(selectors.len(), 6);
    for overlay in ["aks", "kind"] {
        let lock = objects(&format!("deploy/overlays/{overlay}/generated/network-policies"));
        let own = lock
            .iter()
            .filter(|object| text(&object["metadata"]["namespace"]) == "sluicegate");
        let selecting = own.filter_map(|object| object["spec"]["podSelector"].get("matchLabels"));
        let before = selectors.len();
        selectors.extend(selecting.cloned());
        assert!(selectors.len() > before);
    }
    for selector in selectors {
        let selector = selector.as_object().unwrap();
        assert!(!selector.is_empty());
        assert!(is_part(selector, labels), "{selector:?} does not select {labels:?}");
    }
}

#[test]
fn ports_are_those_that_are_bound() {
    let settings = settings("deploy/base/sluicegate.yaml");
    let base = objects("deploy/base");
    let template = &one(&base, "Deployment")["spec"]["template"];
    let container = container(&template["spec"]);
    let health = bound(&settings["health"]);
    let mut expected: BTreeSet<(String, u64)> = list(&settings["listeners"])
        .map(|listener| (text(&listener["name"]).to_owned(), bound(listener)))
        .collect();
    let service = &one(&base, "Service")["spec"]["ports"];
    for port in list(service) {
        let (name, target) = (text(&port["name"]), port["targetPort"].as_u64().unwrap());
        assert!(expected.contains(&(name.to_owned(), target)), "{port}");
        let listener = list(&settings["listeners"]).find(|listener| text(&listener["name"]) == name);
        // A transparent listener is reached on the port that it stands for.
        let own = listener.unwrap()["port"].as_u64().unwrap_or(target);
        assert_eq!(port["port"].as_u64().unwrap(), own, "{port}");
    }
    assert_eq!(list(service).count(), expected.len());
    expected.insert(("health".to_owned(), health));
    let declared = list(&container["ports"]).map(|port| {
        let number = port["containerPort"].as_u64().unwrap();
        (text(&port["name"]).to_owned(), number)
    });
    assert_eq!(declared.collect::<BTreeSet<_>>(), expected);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let port = text(&container[probe]["httpGet"]["port"]);
        assert_eq!(port_of(container, port), health, "{probe}");
    }
    assert_eq!(
        text(&template["metadata"]["annotations"]["prometheus.io/port"]),
        health.to_string()
    );
    let admin = text(&settings["admin"]["bind"]);
    assert!(admin.starts_with("127.0.0.1:"), "admin is for the pod alone: {admin}");

    for overlay in ["aks", "kind"] {
        let folder = format!("deploy/overlays/{overlay}");
        let policy: Value =
            serde_saphyr::from_str(&fs::read_to_string(root().join(&folder).join("policy.yaml")).unwrap()).unwrap();
        let workloads = policy["workloads"].as_object().unwrap().values();
        let own: BTreeSet<_> = workloads.filter_map(|workload| workload["port"].as_u64()).collect();
        let patch = objects(&format!("{folder}/generated"));
        let patched: BTreeSet<_> = list(&one(&patch, "Service")["spec"]["ports"])
            .map(|port| port["targetPort"].as_u64().unwrap())
            .collect();
        assert_eq!(patched, own, "{overlay}");
    }
}

#[test]
fn a_pod_has_the_time_to_drain() {
    let built_in = settings("config/sluicegate.yaml");
    let base = objects("deploy/base");
    let own = settings("deploy/base/sluicegate.yaml");
    let drain = own.pointer("/timeouts/drain").unwrap_or(&built_in["timeouts"]["drain"]);
    let drain: u64 = text(drain).strip_suffix('s').unwrap().parse().unwrap();
    let pod = &one(&base, "Deployment")["spec"]["template"]["spec"];
    let waits = container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
        .as_u64()
        .unwrap();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(
        waits > 0 && grace >= waits + drain + LAST,
        "{grace} s for {waits} s and {drain} s"
    );
}

#[test]
fn a_pod_has_the_memory_for_its_connections() {
    let built_in = settings("config/sluicegate.yaml");
    let own = settings("deploy/base/sluicegate.yaml");
    let connections = own
        .pointer("/limits/connections")
        .unwrap_or(&built_in["limits"]["connections"]);
    let base = objects("deploy/base");
    let limits = &container(&one(&base, "Deployment")["spec"]["template"]["spec"])["resources"]["limits"];
    let memory = text(&limits["memory"]).strip_suffix("Gi").unwrap();
    let memory = memory.parse::<u64>().unwrap() << 30;
    // Over the limit of connections, clients are told; over that of memory, all of them are cut off.
    let needed = connections.as_u64().unwrap() * OPEN_TUNNEL + WITHOUT_TUNNELS;
    assert!(needed <= memory, "{needed} of {memory} bytes");

    // The number of workers is the quota, rounded down.
    let whole: u64 = text(&limits["cpu"]).parse().unwrap();
    assert!(whole > 0);
}

#[test]
fn the_autoscaler_begins_where_the_deployment_does() {
    let components = objects("deploy/components");
    let autoscaler = &one(&components, "HorizontalPodAutoscaler")["spec"];
    let base = objects("deploy/base");
    assert_eq!(autoscaler["minReplicas"], one(&base, "Deployment")["spec"]["replicas"]);
    let budget = &one(&base, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
}

#[test]
fn the_version_is_the_same_everywhere() {
    let mut found = 0;
    for path in files_below(&root().join("deploy")) {
        let content = fs::read_to_string(&path).unwrap();
        let tags = content
            .match_indices("sluicegate:")
            .map(|(at, name)| &content[at + name.len()..]);
        let new = content.split("newTag: ").skip(1);
        for tag in tags.chain(new) {
            let tag = tag.split([' ', '\n', '`', ',', '"']).next().unwrap();
            if tag.starts_with(|first: char| first.is_ascii_digit()) {
                found += 1;
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{}", path.display());
            }
        }
    }
    assert!(found >= 2, "{found}");
}

#[test]
fn the_settings_of_image_and_cluster_differ_in_the_place_of_the_policy_alone() {
    let mut image = settings("deploy/sluicegate.yaml");
    let mut cluster = settings("deploy/base/sluicegate.yaml");
    let mounted = cluster.as_object_mut().unwrap().remove("policy").unwrap();
    image.as_object_mut().unwrap().remove("policy").unwrap();
    assert_eq!(image, cluster);
    let base = objects("deploy/base");
    let pod = &one(&base, "Deployment")["spec"]["template"]["spec"];
    let mounts: Vec<_> = list(&container(pod)["volumeMounts"])
        .map(|mount| &mount["mountPath"])
        .collect();
    assert!(mounts.contains(&&mounted[0]), "{mounted} is not mounted: {mounts:?}");
    let file = Path::new(text(&container(pod)["args"][2]));
    assert!(
        mounts
            .iter()
            .any(|mount| Path::new(text(mount)) == file.parent().unwrap())
    );
}

/// What a kustomization lists: resources, components, patches and the files of config maps.
fn entries(path: &Path) -> Vec<String> {
    let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut entries: Vec<String> = ["resources", "components"]
        .into_iter()
        .flat_map(|key| list(&kustomization[key]))
        .map(|entry| text(entry).to_owned())
        .collect();
    entries.extend(list(&kustomization["patches"]).filter_map(|patch| Some(text(patch.get("path")?).to_owned())));
    for generated in list(&kustomization["configMapGenerator"]) {
        entries.extend(list(&generated["files"]).map(|file| text(file).to_owned()));
    }
    entries
}

/// The objects that a kustomization brings, with its config maps, and without what its patches change.
fn together(folder: &Path) -> Vec<Value> {
    let path = folder.join("kustomization.yaml");
    let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut objects = Vec::new();
    for entry in list(&kustomization["resources"]).chain(list(&kustomization["components"])) {
        let path: PathBuf = folder.join(text(entry));
        if path.is_dir() {
            objects.extend(together(&path));
        } else {
            objects.extend(documents(&path));
        }
    }
    for generated in list(&kustomization["configMapGenerator"]) {
        let metadata = serde_json::json!({"name": generated["name"]});
        objects.push(serde_json::json!({"kind": "ConfigMap", "metadata": metadata}));
    }
    objects
}

fn container(pod: &Value) -> &Value {
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn port_of(container: &Value, name: &str) -> u64 {
    let port = list(&container["ports"]).find(|port| text(&port["name"]) == name);
    port.unwrap_or_else(|| panic!("no port {name}"))["containerPort"]
        .as_u64()
        .unwrap()
}

fn bound(listener: &Value) -> u64 {
    let (_, port) = text(&listener["bind"]).rsplit_once(':').unwrap();
    port.parse().unwrap()
}

fn settings(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_part(part: &Map<String, Value>, whole: &Map<String, Value>) -> bool {
    part.iter().all(|(key, value)| whole.get(key) == Some(value))
}

/// Bytes that an open tunnel takes of the pod's limit while it is idle, measured with the kernel's part of it and rounded up
/// (benches/README.md); then what the pod takes without tunnels, with 100,000 rules, while they are loaded again.
const OPEN_TUNNEL: u64 = 12 << 10;
const WITHOUT_TUNNELS: u64 = 256 << 20;
/// Seconds from the end of the drain to that of the process, at most.
const LAST: u64 = 10;
