//! What the people who run the cluster must be able to show, in their words.
//! Must not know who proves it: attempts from inside a pod, or the settings of Azure.
//! Called by whoever reports on it.

use serde::Serialize;

/// One thing that must be shown; reports group by it, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    NamedServices,
    ApiServer,
    NoRoot,
    LeastEgress,
    Identities,
    Sql,
    Stores,
}

impl Criterion {
    /// In their words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamedServices => "services reach only those services that are named for them",
            Self::ApiServer => "the Kubernetes API server is reached neither directly nor through the proxy",
            Self::NoRoot => "nothing runs as root",
            Self::LeastEgress => "egress is limited to what is necessary",
            Self::Identities => "managed identities keep working",
            Self::Sql => "SQL is reachable only from inside the virtual network",
            Self::Stores => "storage, registries and vaults are reachable only from inside the virtual network",
        }
    }
}
