//! The generated admission policies, judged: requests of the corpus, and who refuses each.
//! Must not know what a policy means; it evaluates what was written, as far as an API server would without its libraries.
//! Called by every test run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use cel::{Context, Program};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{generated, policy};

#[test]
fn every_request_of_the_corpus_is_judged_as_it_says() {
    let corpus: Corpus =
        serde_saphyr::from_str(include_str!("../../../tests/corpus/kubernetes/admission.yaml")).unwrap();
    let rules = rules();
    let (mut wrong, mut refusing) = (String::new(), BTreeSet::new());
    assert!(
        corpus.requests.len() > 60,
        "only {} requests were read",
        corpus.requests.len()
    );
    for request in &corpus.requests {
        let refused: Vec<_> = rules.iter().filter_map(|rule| rule.refuses(request, &corpus)).collect();
        let by: Vec<_> = refused.iter().map(|(name, _)| &**name).collect();
        refusing.extend(refused.iter().map(|(name, said)| format!("{name}: {said}")));
        if by != request.refused_by {
            let expected = &request.refused_by;
            let _ = writeln!(wrong, "{}: refused by {refused:?}, expected {expected:?}", request.id);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // Every line that can refuse has refused something: one that never does is not tested.
    for rule in &rules {
        for validation in &rule.validations {
            let said = format!("{}: {}", rule.name, validation["message"].as_str().unwrap());
            assert!(refusing.contains(&said), "no request shows that this refuses: {said}");
        }
    }
}

/// A validation that cannot be evaluated refuses; here it would hide a slip, so no request may lead to one.
#[test]
fn an_expression_that_fails_refuses() {
    let mut rule = rules().remove(0);
    rule.validations = vec![json!({"expression": "object.spec.missing", "message": "m"})];
    let corpus: Corpus =
        serde_saphyr::from_str(include_str!("../../../tests/corpus/kubernetes/admission.yaml")).unwrap();
    let request = corpus
        .requests
        .iter()
        .find(|request| request.resource == "pods")
        .unwrap();
    assert!(rule.refuses(request, &corpus).unwrap().1.starts_with("failed"));
}

/// What this repository deploys is not what it refuses: the proxy's pods, and those that verify the lock.
#[test]
fn our_own_pods_pass() {
    let corpus: Corpus =
        serde_saphyr::from_str(include_str!("../../../tests/corpus/kubernetes/admission.yaml")).unwrap();
    let rules = rules();
    let mut count = 0;
    for folder in ["deploy/base", "tests/golden/kubernetes/verify-jobs"] {
        for path in super::walk(&super::root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                let Some(template) = object.pointer("/spec/template") else {
                    continue;
                };
                let request = Request {
                    id: path.display().to_string(),
                    who: "replicaSets".to_owned(),
                    operation: "CREATE".to_owned(),
                    group: String::new(),
                    version: v1(),
                    resource: "pods".to_owned(),
                    sub_resource: String::new(),
                    namespace: object["metadata"]["namespace"]
                        .as_str()
                        .unwrap_or("sluicegate")
                        .to_owned(),
                    name: String::new(),
                    object: template.clone(),
                    old_object: Value::Null,
                    refused_by: Vec::new(),
                };
                let refused: Vec<_> = rules
                    .iter()
                    .filter_map(|rule| rule.refuses(&request, &corpus))
                    .collect();
                assert!(refused.is_empty(), "{}: {refused:?}", request.id);
                count += 1;
            }
        }
    }
    assert!(count >= 3, "only {count} templates were found");
}

/// Only an API server knows the types that a mutation makes; that it is an expression can be seen here.
#[test]
fn mutations_are_expressions() {
    let files = generated(&policy()).unwrap();
    let mut count = 0;
    for object in files.iter().flat_map(|file| &file.objects) {
        for mutation in object.value()["spec"]["mutations"].as_array().into_iter().flatten() {
            let text = mutation["applyConfiguration"]["expression"].as_str().unwrap();
            Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            count += 1;
        }
    }
    assert_eq!(count, 6);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    users: BTreeMap<String, Value>,
    requests: Vec<Request>,
}

/// A request as the API server shows it to its policies; the fields are described in the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    id: String,
    who: String,
    operation: String,
    #[serde(default)]
    group: String,
    #[serde(default = "v1")]
    version: String,
    resource: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    refused_by: Vec<String>,
}

fn v1() -> String {
    "v1".to_owned()
}

/// A policy that a binding of its own denies with.
#[derive(Debug)]
struct Rule {
    name: String,
    constraints: Value,
    conditions: Vec<Value>,
    variables: Vec<Value>,
    validations: Vec<Value>,
}

fn rules() -> Vec<Rule> {
    let files = generated(&policy()).unwrap();
    let file = files.iter().find(|file| file.path == "admission.yaml").unwrap();
    let of = |kind: &str| {
        let objects = file.objects.iter().map(|object| object.value().clone());
        objects.filter(|object| object["kind"] == kind).collect::<Vec<_>>()
    };
    let bindings = of("ValidatingAdmissionPolicyBinding");
    let policies = of("ValidatingAdmissionPolicy");
    assert_eq!(bindings.len(), policies.len());
    let rule = |policy: &Value| {
        let (name, spec) = (policy["metadata"]["name"].as_str().unwrap(), &policy["spec"]);
        let bound = bindings
            .iter()
            .find(|binding| binding["spec"]["policyName"] == name)
            .unwrap();
        assert_eq!(bound["spec"]["validationActions"], json!(["Deny"]));
        assert_eq!(spec["failurePolicy"], "Fail");
        let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
        Rule {
            name: name.to_owned(),
            constraints: spec["matchConstraints"].clone(),
            conditions: list("matchConditions"),
            variables: list("variables"),
            validations: list("validations"),
        }
    };
    policies.iter().map(rule).collect()
}

impl Rule {
    /// Its name, and what it says.
    fn refuses(&self, request: &Request, corpus: &Corpus) -> Option<(String, String)> {
        if !self.is_about(request) {
            return None;
        }
        let mut context = request.context(corpus);
        for condition in &self.conditions {
            match evaluate(&condition["expression"], &context) {
                Ok(cel::Value::Bool(false)) => return None,
                Ok(cel::Value::Bool(true)) => {}
                other => return Some((self.name.clone(), format!("failed: {}: {other:?}", condition["name"]))),
            }
        }
        let mut variables: HashMap<String, cel::Value> = HashMap::new();
        for variable in &self.variables {
            // What fails is absent, and whoever uses it fails in turn: variables are lazy.
            if let Ok(value) = evaluate(&variable["expression"], &context) {
                variables.insert(variable["name"].as_str().unwrap().to_owned(), value);
            }
            context.add_variable_from_value("variables", variables.clone());
        }
        self.validations.iter().find_map(|validation| {
            let said = match evaluate(&validation["expression"], &context) {
                Ok(cel::Value::Bool(true)) => return None,
                Ok(cel::Value::Bool(false)) => validation["message"].as_str().unwrap().to_owned(),
                other => format!("failed: {other:?}"),
            };
            Some((self.name.clone(), said))
        })
    }

    fn is_about(&self, request: &Request) -> bool {
        let is_namespace = request.resource == "namespaces";
        let named = if is_namespace {
            &request.name
        } else {
            &request.namespace
        };
        let selector = &self.constraints["namespaceSelector"];
        for asked in selector["matchExpressions"].as_array().into_iter().flatten() {
            assert_eq!(asked["key"], "kubernetes.io/metadata.name");
            let listed = asked["values"].as_array().unwrap().contains(&json!(named));
            let matches = match asked["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                other => panic!("{other}"),
            };
            // What stands in no namespace is never left out by a selector of namespaces.
            if !matches && !named.is_empty() {
                return false;
            }
        }
        let stands_in_one = !is_namespace && !request.namespace.is_empty();
        self.constraints["resourceRules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| {
                let has = |key: &str, value: &str| {
                    let items = rule[key].as_array().unwrap();
                    items.iter().any(|item| item == value || item == "*")
                };
                let resources = rule["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|item| item.as_str().unwrap());
                let resource = resources.into_iter().any(|item| {
                    let (resource, sub) = item.split_once('/').unwrap_or((item, ""));
                    let everything = item == "*/*";
                    let sub_fits =
                        sub == request.sub_resource || (sub == "*" && (everything || !request.sub_resource.is_empty()));
                    (resource == "*" || resource == request.resource) && sub_fits
                });
                has("apiGroups", &request.group)
                    && has("apiVersions", &request.version)
                    && has("operations", &request.operation)
                    && resource
                    && (rule["scope"] != "Namespaced" || stands_in_one)
            })
    }
}

impl Request {
    fn context(&self, corpus: &Corpus) -> Context<'static, 'static> {
        let user = corpus
            .users
            .get(&self.who)
            .unwrap_or_else(|| panic!("{}: nobody is {}", self.id, self.who));
        let mut request = json!({
            "operation": self.operation,
            "resource": {"group": self.group, "version": self.version, "resource": self.resource},
            "subResource": self.sub_resource,
            "userInfo": user,
        });
        for (key, value) in [("namespace", &self.namespace), ("name", &self.name)] {
            request[key] = json!(value);
        }
        let mut context = Context::default();
        context.add_variable_from_value("request", value(&request));
        context.add_variable_from_value("object", value(&self.object));
        context.add_variable_from_value("oldObject", value(&self.old_object));
        context
    }
}

fn evaluate(expression: &Value, context: &Context<'_, '_>) -> Result<cel::Value, String> {
    let text = expression.as_str().unwrap();
    let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    program.execute(context).map_err(|error| format!("{error:?}"))
}

/// Numbers of JSON are `int` for an API server.
fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => number.as_i64().unwrap().into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| (key.clone(), value(field)));
            fields.collect::<HashMap<_, _>>().into()
        }
    }
}
