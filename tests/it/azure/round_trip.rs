//! In, out and in again: the second policy says what the first one does.
//! Must not compare less than whole documents, except where the first one has no groups: Azure's policies always have.
//! Called by `tests/run`.

use std::fs;
use std::path::{Path, PathBuf};

use sluicegate::policy::SourceText;
use sluicegate::policy::document::Document;

use super::Desk;
use super::dice::Dice;
use super::imported::import;
use super::made_up::{SOURCES, template};

#[test]
fn made_up_rules_come_back_as_they_went() {
    for seed in 0..FILES {
        let rules = template(&mut Dice::new(seed)).to_string();
        let trip = Trip::new(&format!("file {seed}"), Vec::new());
        let file = trip.desk.file("rules.json", &rules);
        import(&trip.desk, &[file], &["--sources", SOURCES], "first.yaml");
        assert!(trip.comes_back(), "file {seed} could not be said in Azure");
    }
}

/// Those of the corpus, and the one that the README uses. Azure knows no pods, no IPv6, and not every name.
#[test]
fn samples_come_back_as_they_went() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("tests/corpus/azure/import/valid")).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.push(root.join("config/examples/azure"));
    let mut unsayable = Vec::new();
    let (mut same, mut incomplete) = (0, 0);
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let (files, words) = arguments(&folder);
        if words.iter().any(|word| word.contains("cluster-facts")) {
            // Nothing to export yet: such a policy is not valid.
            incomplete += 1;
            continue;
        }
        let mut words: Vec<_> = words.iter().map(String::as_str).collect();
        let facts = Some(folder.join("policy.yaml")).filter(|path| path.exists());
        let mut trip = Trip::new(&name, facts.into_iter().collect());
        let facts = folder.join("cluster.yaml");
        if facts.exists() {
            words.extend(["--policy", facts.to_str().unwrap()]);
            trip.facts.push(facts.clone());
        }
        import(&trip.desk, &files, &words, "first.yaml");
        if trip.comes_back() {
            same += 1;
        } else {
            unsayable.push(name);
        }
    }
    let of_pods = [
        "deny-of-everyone-with-star-mapped",
        "kube-selectors",
        "ranges-within-ranges",
    ];
    let (of_pods, others): (Vec<_>, Vec<_>) = unsayable.iter().partition(|name| of_pods.contains(&name.as_str()));
    assert_eq!(of_pods.len(), 3, "{of_pods:?}");
    assert_eq!(others, ["odd-names", "service-tags-given"]);
    assert!(same > 20 && incomplete <= 1, "{same} {incomplete}");
}

/// What a folder of the corpus means, as words of a command line.
fn arguments(folder: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let (mut files, mut words) = (Vec::new(), Vec::new());
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let shown = path.to_str().unwrap().to_owned();
        match name {
            "expected.yaml" | "report.txt" | "cluster.yaml" => {}
            "args" => {
                let text = fs::read_to_string(&path).unwrap();
                words.extend(text.lines().flat_map(|line| line.splitn(2, ' ')).map(str::to_owned));
            }
            "policy.yaml" => words.extend(["--policy".to_owned(), shown]),
            "service-tags.json" => words.extend(["--service-tags".to_owned(), shown]),
            _ if name.starts_with("parent") => words.extend(["--parent".to_owned(), shown]),
            _ if name.starts_with("ip-groups") => words.extend(["--ip-groups".to_owned(), shown]),
            _ => files.push(path),
        }
    }
    if folder.ends_with("config/examples/azure") {
        words.extend([
            "--sources".to_owned(),
            "10.224.0.0/16=nodes,10.225.0.0/16=shop".to_owned(),
        ]);
    }
    (files, words)
}

/// One way there and back.
struct Trip {
    desk: Desk,
    what: String,
    /// Files that both policies refer to.
    facts: Vec<PathBuf>,
}

impl Trip {
    fn new(what: &str, facts: Vec<PathBuf>) -> Self {
        Self {
            desk: Desk::new(),
            what: what.to_owned(),
            facts,
        }
    }

    /// Exports `first.yaml`, imports that, and compares. No, if something had to be left out on the way.
    fn comes_back(&self) -> bool {
        let first = self.document("first.yaml");
        let policies = [&self.facts[..], &[self.desk.path("first.yaml")]].concat();
        let mut words = vec!["-o", "again.json", "--parent-output", "parent-again.json"];
        let accept = self.desk.export(&policies, &words).to_accept();
        let kinds: Vec<_> = accept.split(',').filter(|kind| !kind.is_empty()).collect();
        if kinds.iter().any(|kind| !SAYABLE.contains(kind)) {
            return false;
        }
        if !accept.is_empty() {
            words.extend(["--accept", &accept]);
        }
        let exported = self.desk.export(&policies, &words);
        if exported.kinds().iter().any(|kind| kind == "limit") {
            return false;
        }
        assert_eq!(exported.code, 0, "{}\n{}", self.what, exported.err);
        // An IP group of the template is a workload.
        let known = first
            .workloads
            .iter()
            .filter(|workload| !workload.value.cidrs.is_empty());
        let sources: Vec<_> = known.map(|workload| format!("{0}={0}", workload.value.name)).collect();
        let sources = sources.join(",");
        let mut words = Vec::new();
        if !sources.is_empty() {
            words.extend(["--sources", &sources]);
        }
        let parent = self.desk.path("parent-again.json");
        if parent.exists() {
            words.extend(["--parent", parent.to_str().unwrap()]);
        }
        for facts in &self.facts {
            words.extend(["--policy", facts.to_str().unwrap()]);
        }
        import(&self.desk, &[self.desk.path("again.json")], &words, "second.yaml");
        let mut second = self.document("second.yaml");
        if first.groups.is_empty() {
            second.groups.clear();
            for collection in &mut second.collections {
                collection.value.group = None;
            }
        }
        if first != second {
            let [first, second, again] = ["first.yaml", "second.yaml", "again.json"]
                .map(|name| fs::read_to_string(self.desk.path(name)).unwrap());
            panic!(
                "{} went as\n{first}\nand came back as\n{second}\nthrough\n{again}",
                self.what
            );
        }
        true
    }

    fn document(&self, name: &str) -> Document {
        let paths = [&self.facts[..], &[self.desk.path(name)]].concat();
        let texts: Vec<_> = paths
            .iter()
            .map(|path| SourceText {
                name: path.file_name().unwrap().to_str().unwrap().into(),
                text: fs::read_to_string(path).unwrap().into(),
            })
            .collect();
        Document::read(&texts).unwrap_or_else(|problems| panic!("{}: {problems:?}", self.what))
    }
}

/// What has to be accepted, and is carried over as it is.
const SAYABLE: [&str; 2] = ["network-fqdn", "shadows-application-rules"];
const FILES: u64 = 25;
