//! Generated objects and the files they stand in: labels, names, one canonical YAML text.
//! Must not know what an object is for; same objects, same bytes.
//! Called by every generator, which hands over k8s-openapi types, and by `generate`, which writes the text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

/// One Kubernetes object, with its keys in alphabetical order.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Value);

/// One file of output; its path is relative to the output directory.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub path: String,
    /// Comment lines at its top.
    pub header: Vec<String>,
    /// Each is a YAML document of its own.
    pub objects: Vec<Object>,
    pub form: Form,
}

/// What a file is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Objects that `kubectl apply` takes.
    Applied,
    /// YAML for other tools; the kustomization does not list it.
    Aside,
    /// One value as JSON, which has no comments.
    Json,
}

/// The list by which `kubectl apply -k` finds the files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kustomization<'a> {
    api_version: &'static str,
    kind: &'static str,
    resources: Vec<&'a str>,
}

impl Object {
    /// Takes a k8s-openapi type, or one of ours for kinds that it does not have.
    #[expect(
        clippy::expect_used,
        reason = "the types have string keys and no serializer of their own that could fail"
    )]
    pub(super) fn of(object: &impl Serialize) -> Self {
        Self(serde_json::to_value(object).expect("Kubernetes types become JSON"))
    }

    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl File {
    /// A kustomization that takes in all of the others.
    pub(super) fn kustomization(files: &[Self]) -> Self {
        let applied = files.iter().filter(|file| file.form == Form::Applied);
        let list = Kustomization {
            api_version: "kustomize.config.k8s.io/v1beta1",
            kind: "Kustomization",
            resources: applied.map(|file| &*file.path).collect(),
        };
        Self {
            path: "kustomization.yaml".to_owned(),
            header: [
                "What `sluicegate generate all` wrote beside this file, for `kubectl apply -k`. What is not in the list, such as",
                "a patch, belongs into other kustomizations; each file says into which.",
                "Never `kubectl delete -k`: it would delete the namespaces with everything in them. Each file says how to",
                "remove what it holds.",
            ]
            .map(str::to_owned)
            .into(),
            objects: vec![Object::of(&list)],
            form: Form::Aside,
        }
    }

    /// The text: the header as comments, then each object as a YAML document; or the JSON.
    ///
    /// # Errors
    /// Only for values that YAML cannot hold; none of our types has one.
    pub fn text(&self) -> Result<String, serde_saphyr::ser::Error> {
        let mut text = String::new();
        if self.form == Form::Json {
            for object in &self.objects {
                let _ = writeln!(text, "{:#}", object.0);
            }
            return Ok(text);
        }
        for line in &self.header {
            let _ = writeln!(text, "{}", format!("# {line}").trim_end());
        }
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        for object in &self.objects {
            text += "---\n";
            text += &serde_saphyr::to_string_with_options(&object.0, options.clone())?;
        }
        Ok(text)
    }
}

/// Metadata of a generated object: the label by which one command removes all of them, and a line for people.
pub(super) fn metadata(namespace: &str, name: impl Into<String>, purpose: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.to_owned()),
        labels: Some(managed()),
        annotations: Some(BTreeMap::from([(PURPOSE.to_owned(), purpose.into())])),
        ..ObjectMeta::default()
    }
}

/// The same for an object that stands in no namespace.
pub(super) fn cluster_metadata(name: impl Into<String>, purpose: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        namespace: None,
        ..metadata("", name, purpose)
    }
}

/// Metadata of an object that was there before, or that holds more than ours: no command that removes what was
/// generated may find it.
pub(super) fn unmanaged(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        labels: None,
        ..metadata
    }
}

/// The label that every generated object carries.
pub(super) fn managed() -> BTreeMap<String, String> {
    BTreeMap::from([(MANAGED_BY.to_owned(), "sluicegate".to_owned())])
}

/// A Kubernetes recommended label.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const PURPOSE: &str = "sluicegate/purpose";
