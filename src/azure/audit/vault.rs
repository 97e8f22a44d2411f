//! Key vaults: who gets in from outside the virtual network.
//! Must not take Azure's defaults for closed.
//! Called by the audit.

use super::{Check, Subject, public_access};
use crate::criterion::Criterion;

pub(super) fn check(subject: &Subject<'_>, checks: &mut Vec<Check>) {
    let mend = format!(
        "az keyvault update {} --public-network-access Disabled",
        subject.target()
    );
    subject.report(checks, PUBLIC, public_access(subject, "networkAcls", mend));
}

const PUBLIC: (&str, Criterion, &str) = (
    "public-access",
    Criterion::Stores,
    "secrets that a workload reads can be read from nowhere else",
);
