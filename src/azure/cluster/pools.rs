//! Node pools: what they run, where they stand, whom they ask for names.
//! Must not take a size for a GPU because it looks alike.
//! Called by the reader of a cluster.

use serde_json::Value;

use crate::azure::resource::{Resource, plain};

#[derive(Debug)]
pub(super) struct Pool<'j> {
    resource: Resource<'j>,
    pub(super) name: String,
    pub(super) windows: bool,
    /// Of its machines; one pool can have several.
    pub(super) sizes: Vec<&'j str>,
}

/// Who makes the GPU of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gpu {
    Nvidia,
    Amd,
}

/// What a pool says of the resolver on its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocalDns {
    On,
    Off,
    /// The output does not say what has become of this.
    Mode(String),
    Unsaid,
}

pub(super) fn read(cluster: Resource<'_>) -> Vec<Pool<'_>> {
    let items = cluster.items("agentPoolProfiles").iter().filter_map(Resource::of);
    items.map(Pool::of).collect()
}

impl<'j> Pool<'j> {
    fn of(resource: Resource<'j>) -> Self {
        let os = resource.text("osType").unwrap_or_default();
        let mut sizes: Vec<_> = resource.text("vmSize").into_iter().collect();
        // Pools of single machines name their sizes one by one.
        for scale in ["manual", "autoscale"] {
            let path = format!("virtualMachinesProfile.scale.{scale}");
            let field = resource.field(&path);
            let alone = match field.look {
                crate::azure::resource::Look::Value(value @ Value::Object(_)) => Resource::of(value),
                _ => None,
            };
            let listed = field.items().unwrap_or_default().iter().filter_map(Resource::of);
            sizes.extend(listed.chain(alone).filter_map(|one| one.text("size")));
        }
        Self {
            resource,
            name: plain(resource.text("name").unwrap_or("?")),
            windows: os.eq_ignore_ascii_case("windows"),
            sizes,
        }
    }

    pub(super) fn gpu(&self) -> Option<Gpu> {
        self.sizes.iter().find_map(|size| gpu(size))
    }

    /// Whether AKS installs the driver; it does unless it is told not to.
    pub(super) fn has_own_driver(&self) -> bool {
        let driver = self.resource.text("gpuProfile.driver");
        driver.is_some_and(|driver| driver.eq_ignore_ascii_case("none"))
    }

    pub(super) fn os_sku(&self) -> &'j str {
        self.resource.text("osSku").unwrap_or_default()
    }

    pub(super) fn subnet(&self) -> Option<&'j str> {
        self.resource.text("vnetSubnetId")
    }

    pub(super) fn pod_subnet(&self) -> Option<&'j str> {
        self.resource.text("podSubnetId")
    }

    pub(super) fn local_dns(&self) -> LocalDns {
        let state = self.resource.field("localDnsProfile.state").word();
        let mode = self.resource.field("localDnsProfile.mode").word();
        match (state.as_deref(), mode.as_deref()) {
            (Some("enabled"), _) | (None, Some("required")) => LocalDns::On,
            (Some("disabled"), _) | (None, Some("disabled")) => LocalDns::Off,
            (None, None) => LocalDns::Unsaid,
            (state, mode) => LocalDns::Mode(plain(&format!(
                "mode {}, state {}",
                mode.unwrap_or("unsaid"),
                state.unwrap_or("unsaid")
            ))),
        }
    }
}

/// By the names that Azure gives: `Standard_NC24ads_A100_v4`. NP is an FPGA.
fn gpu(size: &str) -> Option<Gpu> {
    let lower = size.to_ascii_lowercase();
    let name = lower.strip_prefix("standard_")?;
    if name.contains("mi300x") || name.starts_with("ng") || (name.starts_with("nv") && name.contains("as_v4")) {
        return Some(Gpu::Amd);
    }
    let family = ["nc", "nd", "nv"].iter().any(|family| name.starts_with(family));
    family.then_some(Gpu::Nvidia)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_a_gpu() {
        for (size, made) in [
            ("Standard_NC24ads_A100_v4", Some(Gpu::Nvidia)),
            ("Standard_ND96isr_H100_v5", Some(Gpu::Nvidia)),
            ("Standard_NV36ads_A10_v5", Some(Gpu::Nvidia)),
            ("standard_nc6s_v3", Some(Gpu::Nvidia)),
            ("Standard_ND96isr_MI300X_v5", Some(Gpu::Amd)),
            ("Standard_NG8ads_V620_v1", Some(Gpu::Amd)),
            ("Standard_NV4as_v4", Some(Gpu::Amd)),
            ("Standard_NP10s", None),
            ("Standard_D4s_v5", None),
            ("Standard_N", None),
            ("", None),
        ] {
            assert_eq!(gpu(size), made, "{size}");
        }
    }
}
