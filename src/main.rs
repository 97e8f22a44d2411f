//! The process: command line in, exit code out.
//! Must not hold logic; everything is in the library, where tests reach it.
//! Called by people, by CI and by Kubernetes.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
