//! The process: allocator, command line in, exit code out.
//! Must not hold logic; everything is in the library, where tests reach it.
//! Called by people, by CI and by Kubernetes.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives back what a burst has taken, which the C library's does not: there one long-lived record above the freed
/// memory keeps all of it. `.cargo/config.toml` configures it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
