//! What schemas do not check and an API server would refuse: ports, ranges, names, labels, quantities, references.
//! Must not need a cluster. Sources: the validation rules of the Kubernetes API, RFC 1123, RFC 6335.
//! Called for every object, and for samples that are wrong in one place each.

use ipnet::IpNet;
use serde_json::{Value, json};

/// Everything that is wrong with an object.
pub(super) fn problems(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (kind, metadata) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]);
    let name = metadata["name"].as_str().unwrap_or_default();
    let name_fits = if ["Namespace", "Service"].contains(&kind) {
        is_label(name)
    } else {
        is_subdomain(name)
    };
    if !name_fits {
        found.push(format!("`{name}` cannot be the name of a {kind}"));
    }
    if metadata["namespace"]
        .as_str()
        .is_some_and(|namespace| !is_label(namespace))
    {
        found.push(format!(
            "{name}: not the name of a namespace: {}",
            metadata["namespace"]
        ));
    }
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let bytes: usize = annotations
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > 256 * 1024 {
        found.push(format!("{name}: {bytes} bytes of annotations"));
    }
    for_each(object, "", &mut |path, key, value| {
        found.extend(field(path, key, value).map(|problem| format!("{name}: {path}: {problem}: {value}")));
    });
    match kind {
        "ConfigMap" => {
            let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key);
            let bad = keys.filter(|key| key.len() > 253 || !all(key, "-._"));
            found.extend(bad.map(|key| format!("{name}: `{key}` cannot be a key of a ConfigMap")));
        }
        "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicy" => admission(name, &object["spec"], &mut found),
        "NetworkPolicy" => policy(name, &object["spec"], &mut found),
        _ => {}
    }
    found
}

/// What is wrong with one field, by what it is called.
fn field(path: &str, key: &str, value: &Value) -> Option<&'static str> {
    let text = value.as_str();
    let bad_labels = || {
        value.as_object().is_some_and(|labels| {
            labels
                .iter()
                .any(|(key, value)| !is_label_key(key) || !value.as_str().is_some_and(is_label_value))
        })
    };
    let bad = match key {
        "port" | "targetPort" | "containerPort" | "hostPort" | "endPort" if value.is_object() => false,
        "port" | "targetPort" | "containerPort" | "hostPort" | "endPort" => {
            let number = value.as_i64().or_else(|| text.and_then(|text| text.parse().ok()));
            !number.map_or_else(|| text.is_some_and(is_port_name), |port| (1..=65535).contains(&port))
        }
        "cidr" => text.is_none_or(|text| !is_range(text)),
        "labels" | "matchLabels" => bad_labels(),
        "selector" if path.ends_with("spec.selector") && value.get("matchLabels").is_none() => bad_labels(),
        "annotations" => value
            .as_object()
            .is_some_and(|all| all.keys().any(|key| !is_label_key(key))),
        "matchExpressions" => value.as_array().into_iter().flatten().any(|asked| {
            let values = asked["values"].as_array().map_or(0, Vec::len);
            let operator = asked["operator"].as_str().unwrap_or_default();
            let fits = match operator {
                "In" | "NotIn" => values > 0,
                "Exists" | "DoesNotExist" => values == 0,
                _ => false,
            };
            !fits || !asked["key"].as_str().is_some_and(is_label_key)
        }),
        "hard" | "requests" | "limits" | "default" | "defaultRequest" => value.as_object().is_some_and(|amounts| {
            amounts
                .iter()
                .any(|(key, amount)| !is_label_key(key) || !amount.as_str().is_some_and(is_quantity))
        }),
        "protocol" => !["TCP", "UDP", "SCTP"].contains(&text.unwrap_or_default()),
        _ => false,
    };
    bad.then_some("an API server would refuse this")
}

fn policy(name: &str, spec: &Value, found: &mut Vec<String>) {
    for (direction, peers) in [("egress", "to"), ("ingress", "from")] {
        for way in spec[direction].as_array().into_iter().flatten() {
            // An absent or empty list is "everybody", which no generated policy means.
            if way[peers].as_array().is_none_or(Vec::is_empty) {
                found.push(format!("{name}: a way of {direction} is for everybody"));
            }
            for peer in way[peers].as_array().into_iter().flatten() {
                let kinds = ["ipBlock", "namespaceSelector", "podSelector"];
                let given = kinds.iter().filter(|kind| !peer[**kind].is_null()).count();
                if given == 0 || (!peer["ipBlock"].is_null() && given > 1) {
                    found.push(format!("{name}: not a peer: {peer}"));
                }
                let Some(range) = peer["ipBlock"]["cidr"]
                    .as_str()
                    .and_then(|range| range.parse::<IpNet>().ok())
                else {
                    continue;
                };
                for except in peer["ipBlock"]["except"].as_array().into_iter().flatten() {
                    let except = except.as_str().filter(|text| is_range(text));
                    let inner = except.and_then(|text| text.parse::<IpNet>().ok());
                    if inner.is_none_or(|inner| inner == range || !range.contains(&inner)) {
                        found.push(format!("{name}: {except:?} is not strictly within {range}"));
                    }
                }
            }
            for port in way["ports"].as_array().into_iter().flatten() {
                let ends = port["endPort"].as_i64().zip(port["port"].as_i64());
                if !port["endPort"].is_null() && ends.is_none_or(|(last, first)| last < first) {
                    found.push(format!("{name}: not a range of ports: {port}"));
                }
            }
        }
    }
}

fn admission(name: &str, spec: &Value, found: &mut Vec<String>) {
    let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for variable in list("variables") {
        let name_of = variable["name"].as_str().unwrap_or_default().to_owned();
        if !is_identifier(&name_of) || seen.contains(&name_of) {
            found.push(format!("{name}: a variable cannot be called `{name_of}`"));
        }
        seen.push(name_of);
    }
    for condition in list("matchConditions") {
        let name_of = condition["name"].as_str().unwrap_or_default().to_owned();
        if !is_label_key(&name_of) || seen.contains(&name_of) {
            found.push(format!("{name}: a condition cannot be called `{name_of}`"));
        }
        // They are judged before there are variables.
        if condition["expression"]
            .as_str()
            .is_some_and(|text| text.contains("variables."))
        {
            found.push(format!("{name}: the condition `{name_of}` uses a variable"));
        }
        seen.push(name_of);
    }
    for validation in list("validations") {
        let message = validation["message"].as_str().unwrap_or_default();
        if message.trim().is_empty() || message.contains('\n') {
            found.push(format!("{name}: not one line: {message:?}"));
        }
    }
    let mut expressions = Vec::new();
    for_each(spec, "", &mut |_, key, value| {
        if key == "expression" {
            expressions.push(value.as_str().unwrap_or_default().to_owned());
        }
    });
    if expressions.is_empty() || expressions.iter().any(|text| text.trim().is_empty()) {
        found.push(format!("{name}: an expression is empty"));
    }
    for rule in spec["matchConstraints"]["resourceRules"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let items = |key: &str| -> Vec<&str> {
            let items = rule[key].as_array().into_iter().flatten();
            items.map(|item| item.as_str().unwrap_or_default()).collect()
        };
        let operations = ["CONNECT", "CREATE", "DELETE", "UPDATE", "*"];
        let listed = items("operations");
        if listed.is_empty() || listed.iter().any(|item| !operations.contains(item)) {
            found.push(format!("{name}: not operations: {listed:?}"));
        }
        for key in ["apiGroups", "apiVersions", "resources"] {
            let items = items(key);
            if items.is_empty() || (items.contains(&"*") && items.len() > 1) {
                found.push(format!("{name}: {key} are nothing, or `*` and more: {items:?}"));
            }
        }
        let resources = items("resources");
        let is_overlap = |item: &&&str| {
            let (resource, sub) = item.split_once('/').unwrap_or((item, ""));
            let whole = format!("{resource}/*");
            (**item == "*/*" && resources.len() > 1) || (!["", "*"].contains(&sub) && resources.contains(&&*whole))
        };
        if let Some(item) = resources.iter().find(is_overlap) {
            found.push(format!("{name}: `{item}` overlaps others of {resources:?}"));
        }
    }
}

/// Calls for every field, with the path to it.
fn for_each(value: &Value, path: &str, call: &mut impl FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let path = format!("{path}.{key}");
                call(&path, key, field);
                // What is inside are names that somebody chose.
                if !["annotations", "data", "labels", "matchLabels"].contains(&key.as_str()) {
                    for_each(field, &path, call);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| for_each(item, path, call)),
        _ => {}
    }
}

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63 && edge(text.bytes().next()) && edge(text.bytes().last()) && all(text, "-._")
}

/// RFC 6335, section 5.1.
fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_label(text) && !text.contains("--") && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// Without bits behind its prefix, which engines read differently.
fn is_range(text: &str) -> bool {
    text.parse::<IpNet>()
        .is_ok_and(|range| range.trunc() == range && text.contains('/'))
}

fn is_quantity(text: &str) -> bool {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffixes = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    number.parse::<f64>().is_ok() && suffixes.contains(&suffix)
}

fn is_identifier(text: &str) -> bool {
    let reserved = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    all(text, "_") && !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() && !reserved.contains(&text)
}

fn all(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

#[test]
fn each_check_can_fail() {
    let sound = json!({
        "kind": "NetworkPolicy", "metadata": {"name": "a", "namespace": "b", "labels": {"x.y/z": "v"}},
        "spec": {
            "podSelector": {"matchLabels": {"app": "a"}},
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 80, "endPort": 90}]}],
        },
    });
    assert_eq!(problems(&sound), [""; 0]);
    let long = "a".repeat(64);
    for (pointer, value) in [
        ("/metadata/name", json!("A")),
        ("/metadata/name", json!(vec!["a"; 130].join("."))),
        ("/metadata/namespace", json!("a.b")),
        ("/metadata/namespace", json!(long)),
        ("/metadata/labels", json!({"x.y/z": long})),
        ("/metadata/labels", json!({"x/y/z": "v"})),
        ("/metadata/annotations", json!({"-x": "v"})),
        ("/metadata/annotations", json!({"x": "v".repeat(300_000)})),
        ("/spec/podSelector/matchLabels", json!({"app": "a b"})),
        (
            "/spec/podSelector/matchExpressions",
            json!([{"key": "a", "operator": "In", "values": []}]),
        ),
        (
            "/spec/podSelector/matchExpressions",
            json!([{"key": "a", "operator": "Is", "values": ["a"]}]),
        ),
        ("/spec/egress/0/to", json!([])),
        ("/spec/egress/0/to/0", json!({})),
        ("/spec/egress/0/to/0/podSelector", json!({})),
        ("/spec/egress/0/to/0/ipBlock/cidr", json!("10.0.0.1/8")),
        ("/spec/egress/0/to/0/ipBlock/cidr", json!("10.0.0.0")),
        ("/spec/egress/0/to/0/ipBlock/except", json!(["11.0.0.0/16"])),
        ("/spec/egress/0/to/0/ipBlock/except", json!(["10.0.0.0/8"])),
        ("/spec/egress/0/ports/0/port", json!(0)),
        ("/spec/egress/0/ports/0/port", json!(99999)),
        ("/spec/egress/0/ports/0/port", json!("a-name-that-is-too-long")),
        ("/spec/egress/0/ports/0/endPort", json!(70)),
        ("/spec/egress/0/ports/0/protocol", json!("tcp")),
    ] {
        assert!(
            !problems(&with(&sound, pointer, value.clone())).is_empty(),
            "{pointer}: {value}"
        );
    }
    let quota = json!({"kind": "ResourceQuota", "metadata": {"name": "a"}, "spec": {"hard": {"cpu": "8"}}});
    assert_eq!(problems(&quota), [""; 0]);
    assert!(!problems(&with(&quota, "/spec/hard/cpu", json!("8 cores"))).is_empty());
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a/b": ""}});
    assert!(!problems(&map).is_empty());
    let rule = json!({
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "a"},
        "spec": {
            "matchConditions": [{"name": "c", "expression": "true"}],
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods", "pods/*"],
            }]},
            "validations": [{"expression": "true", "message": "m"}],
            "variables": [{"name": "v", "expression": "true"}],
        },
    });
    assert_eq!(problems(&rule), [""; 0]);
    let resources = "/spec/matchConstraints/resourceRules/0/resources";
    for (pointer, value) in [
        ("/spec/variables/0/name", json!("namespace")),
        ("/spec/variables/0/name", json!("a-b")),
        ("/spec/matchConditions/0/name", json!("v")),
        ("/spec/matchConditions/0/name", json!("not an owner")),
        ("/spec/matchConditions/0/expression", json!("variables.v")),
        ("/spec/validations/0/message", json!("a\nb")),
        ("/spec/validations/0/expression", json!("")),
        ("/spec/matchConstraints/resourceRules/0/operations", json!(["DESTROY"])),
        ("/spec/matchConstraints/resourceRules/0/apiGroups", json!(["*", "apps"])),
        (resources, json!([])),
        (resources, json!(["pods/*", "pods/exec"])),
        (resources, json!(["*/*", "pods"])),
    ] {
        assert!(
            !problems(&with(&rule, pointer, value.clone())).is_empty(),
            "{pointer}: {value}"
        );
    }
}

/// A copy with another value at a place, where there may have been none.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        other => panic!("{other}"),
    }
    object
}
