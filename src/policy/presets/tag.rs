//! Azure's FQDN tags: which presets stand for one here, and what is said of those that nothing can stand for.
//! Must not give an empty list: a tag that is not known opens nothing and is an error.
//! Called by the compiler, and by who reads rules of Azure Firewall.

use crate::policy::yaml::typed::nearest;

/// Why a tag cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTag {
    pub why: String,
    pub help: String,
    /// Azure has it; its members are not published.
    pub documented: bool,
}

/// The presets that stand for a tag. Microsoft publishes no member list of any, so these are our own open lists.
///
/// # Errors
/// Where no preset stands for it; nothing is ever an empty list.
pub fn fqdn_tag(tag: &str) -> Result<&'static [&'static str], BadTag> {
    if tag == AKS {
        return Ok(AKS_PRESETS);
    }
    if UNPUBLISHED.contains(&tag) {
        return Err(BadTag {
            why: format!("`{tag}` is an Azure tag whose members Microsoft does not publish"),
            help: "write the names that are needed: `mode: report` shows them".to_owned(),
            documented: true,
        });
    }
    let mut names = vec![AKS];
    names.extend(UNPUBLISHED);
    Err(BadTag {
        why: format!("there is no FQDN tag `{tag}`"),
        help: match nearest(tag, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the one tag that can be used here is `{AKS}`"),
        },
        documented: false,
    })
}

const AKS: &str = "AzureKubernetesService";
const AKS_PRESETS: &[&str] = &["aks/core", "aks/node-os-updates"];
/// The others that Azure documents.
const UNPUBLISHED: &[&str] = &[
    "AppServiceEnvironment",
    "AzureBackup",
    "AzureHDInsight",
    "MicrosoftActiveProtectionService",
    "WindowsDiagnostics",
    "WindowsUpdate",
    "WindowsVirtualDesktop",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    #[test]
    fn a_tag_is_a_list_that_is_not_empty_or_an_error() {
        let presets = fqdn_tag(AKS).unwrap();
        assert_eq!(presets, ["aks/core", "aks/node-os-updates"]);
        assert!(presets.iter().all(|name| !preset(name).unwrap().rows.is_empty()));
        for tag in UNPUBLISHED {
            let bad = fqdn_tag(tag).unwrap_err();
            assert!(bad.documented && bad.why.contains("does not publish"), "{}", bad.why);
        }
        for (tag, help) in [
            ("AzureKubernetesServices", "did you mean `AzureKubernetesService`?"),
            ("azurekubernetesservice", "did you mean `AzureKubernetesService`?"),
            ("WindowsUpdates", "did you mean `WindowsUpdate`?"),
            ("", "the one tag that can be used here is `AzureKubernetesService`"),
            (
                "Office365",
                "the one tag that can be used here is `AzureKubernetesService`",
            ),
        ] {
            let bad = fqdn_tag(tag).unwrap_err();
            assert_eq!((bad.help.as_str(), bad.documented), (help, false), "{tag}");
        }
    }
}
