//! The presets that the program brings: the files below `config/presets`, each read when it is first asked for.
//! Must not fail: the files are part of the program, and a test reads each.
//! Called by the library of presets.

use std::sync::{Arc, OnceLock};

use super::{Preset, read};
use crate::policy::document::Text;
use crate::policy::problem::{Problems, SourceText};

/// The names of all of them, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.name)
}

/// One by its name.
pub fn preset(name: &str) -> Option<Arc<Preset>> {
    let file = FILES.iter().find(|file| file.name == name)?;
    file.parsed.get_or_init(|| file.read()).clone()
}

struct File {
    name: &'static str,
    text: &'static str,
    parsed: OnceLock<Option<Arc<Preset>>>,
}

impl File {
    const fn new(name: &'static str, text: &'static str) -> Self {
        let parsed = OnceLock::new();
        Self { name, text, parsed }
    }

    fn read(&self) -> Option<Arc<Preset>> {
        let texts = [self.source()];
        let mut problems = Problems::new(&texts);
        let preset = read::file(0, &Text::from(self.name), self.text, &mut problems);
        preset.filter(|_| !problems.has_errors()).map(Arc::new)
    }

    fn source(&self) -> SourceText {
        SourceText {
            name: self.name.into(),
            text: self.text.into(),
        }
    }
}

macro_rules! aks {
    ($($name:literal)*) => {
        [$(File::new(
            concat!("aks/", $name),
            include_str!(concat!("../../../config/presets/aks/", $name, ".yaml")),
        ),)*]
    };
}

static FILES: [File; 22] = aks! {
    "acr" "app-sample" "arc" "azure-monitor" "azure-policy" "backup" "cluster-extensions" "core" "cost-analysis" "dapr"
    "defender" "flux" "gpu" "key-vault-csi" "known-noise" "marketplace" "network-insights-agent" "node-os-updates" "pki"
    "undocumented" "windows" "workload-identity"
};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::policy::problem::render;

    #[test]
    fn every_file_is_embedded_and_readable() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/presets/aks");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .map(|path| format!("aks/{}", path.file_stem().unwrap().to_str().unwrap()))
            .collect();
        files.sort();
        assert_eq!(names().collect::<Vec<_>>(), files);
        for file in &FILES {
            let texts = [file.source()];
            let mut problems = Problems::new(&texts);
            read::file(0, &file.name.into(), file.text, &mut problems);
            let problems = problems.into_sorted();
            assert!(problems.is_empty(), "{}", render(&problems, &texts, false));
            let preset = preset(file.name).unwrap();
            assert!(!preset.about.is_empty() && preset.read.is_some(), "{}", file.name);
        }
    }
}
