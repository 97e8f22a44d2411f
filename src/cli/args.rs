//! The command line as it is typed; clap checks its shape and writes its help.
//! Must not read files or judge values that need them; the commands do.
//! Called by [`super::main`].

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// An egress-filtering forward proxy: what the allowlist names gets out, nothing else does.
///
/// Without a command it runs. Without any file it runs on a small built-in policy, for clients on this machine only.
#[derive(Debug, Parser)]
#[command(
    name = "sluicegate",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 yes, valid, allowed; 1 no, invalid, denied, cannot start; 2 wrong usage or unreadable \
                  input, also where other input is invalid."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy (also what no command means)
    Run(RunArgs),
    /// Compile the settings and the policy, lint them and run the policy's own `expect` rows
    Check(CheckArgs),
    /// Say whether a destination is allowed, by which rule, or what is missing
    #[command(
        after_help = "Exit codes: 0 allowed; 1 denied; 2 no answer: wrong usage, unreadable or invalid settings or policy."
    )]
    Explain(ExplainArgs),
    /// Write Kubernetes objects from the policy: what makes the proxy the only way out
    Generate(GenerateArgs),
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) files: FileArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// Exit with 1 if there are warnings
    #[arg(long)]
    pub(super) deny_warnings: bool,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// Who asks: a workload of the policy, or an address
    #[arg(long, value_name = "WORKLOAD|ADDRESS")]
    pub(super) from: Option<String>,
    /// The name in the ClientHello, or `none`; without it the destination's
    #[arg(long, value_name = "NAME|none")]
    pub(super) sni: Option<String>,
    /// Ask DNS for an allowed name, and judge each address
    #[arg(long)]
    pub(super) resolve: bool,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    /// As in the policy: `api.github.com`, `http://ocsp.digicert.com`, `tcp://smtp.example.net:587`
    pub(super) destination: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// Write files here instead of one text to stdout
    #[arg(short = 'd', long, value_name = "DIR")]
    pub(super) output_dir: Option<PathBuf>,
    /// What to write
    #[arg(value_enum)]
    pub(super) what: Generated,
}

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Generated {
    /// Everything below, with a kustomization.yaml
    All,
    /// NetworkPolicies: nothing in or out but what the policy names
    NetworkPolicies,
    /// A patch for the proxy's Service: the ports of workloads
    ServicePorts,
    /// The locked namespaces: Pod Security, no tokens, quota and limits
    Namespaces,
    /// Admission policies: no root, and no hands on the lock but its owners'
    Admission,
}

/// Where settings and policy come from.
#[derive(Debug, ClapArgs)]
pub(super) struct FileArgs {
    /// Settings file; without it the built-in settings hold
    #[arg(short, long, value_name = "FILE", env = "SLUICEGATE_CONFIG", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Policy file, or directory of *.yaml; replaces `policy` of the settings, may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) policy: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[default]
    Text,
    Json,
}
