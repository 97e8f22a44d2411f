//! The command line as it is typed; clap checks its shape and writes its help.
//! Must not read files or judge values that need them; the commands do.
//! Called by [`super::main`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::SignedDuration;

use super::diff::DiffArgs;
use super::export::ExportArgs;
use super::import::ImportArgs;
use super::replay::ReplayArgs;
use super::suggest::SuggestArgs;
use super::unused::UnusedArgs;
use crate::kubernetes::probe::Target;

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
    /// Write the policy as rules of another firewall
    Export(Box<ExportArgs>),
    /// Write a policy from the rules of another firewall
    Import(Box<ImportArgs>),
    /// Write Kubernetes objects from the policy: what makes the proxy the only way out
    Generate(Box<GenerateArgs>),
    /// Prove from inside a locked namespace that there is no other way out
    #[command(
        after_help = "Exit codes: 0 all that must hold holds; 1 something does not, or is not proven; 2 wrong usage, \
                      unreadable or invalid input. With --observe: 0 observed."
    )]
    Verify(Box<VerifyArgs>),
    /// Write a policy to begin with, from what Azure says of a cluster
    #[command(
        after_help = "Exit codes: 0 the file is a valid policy; 1 something must be filled in first; 2 wrong usage, unreadable \
                      input, or the file is there already."
    )]
    Init(super::init::InitArgs),
    /// Judge from Azure's own answers whether there is another way in or out
    #[command(
        after_help = "Exit codes: 0 everything passes; 1 something fails or is unknown; 2 wrong usage or unreadable input."
    )]
    Audit(super::audit::AuditArgs),
    /// Judge recorded decisions again by a candidate policy: what would break, and for whom
    #[command(
        after_help = "Exit codes: 0 nothing would break; 1 something would or may, or a record could not be read; 2 wrong \
                      usage, an unreadable log, a log without a record, an invalid policy."
    )]
    Replay(ReplayArgs),
    /// List the maintained lists of destinations, or expand one of them
    #[command(
        after_help = "Exit codes: 0 shown; 1 invalid settings, policy or presets; 2 wrong usage, unreadable input, no such preset."
    )]
    Presets(Box<super::presets::PresetsArgs>),
    /// Say which requests a new policy answers differently, by rule; exit code 1 if any
    #[command(
        after_help = "Exit codes: 0 every request is answered alike; 1 some are not; 2 wrong usage, unreadable or invalid input."
    )]
    Diff(DiffArgs),
    /// Propose `allow` entries for what was denied, only reported, or asked of DNS, each with its evidence
    #[command(
        after_help = "Exit codes: 0 everything was read; 1 a record could not be; 2 wrong usage, an unreadable log, a log \
                      without a record, an invalid policy."
    )]
    Suggest(SuggestArgs),
    /// List rules that decided nothing since a date, from records or from a saved `/policy`
    #[command(
        after_help = "Exit codes: 0 every rule was used, or is too young to tell; 1 there are unused rules, or a record could \
                      not be read; 2 wrong usage, unreadable input, an invalid policy."
    )]
    Unused(UnusedArgs),
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
    /// Exit with 1 if there are warnings that no rule accepts
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
    #[command(flatten)]
    pub(super) jobs: JobArgs,
    /// What to write
    #[arg(value_enum)]
    pub(super) what: Generated,
}

/// What only the Jobs of `verify` need.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "For verify-jobs")]
pub(super) struct JobArgs {
    /// One workload, instead of all with pods in locked namespaces
    #[arg(long, value_name = "NAME")]
    pub(super) workload: Option<String>,
    /// The image of this version, as your registry has it
    #[arg(long, value_name = "IMAGE", default_value = concat!("sluicegate:", env!("CARGO_PKG_VERSION")))]
    pub(super) image: String,
    /// Of the pod inside; for `identity: workload` the one that is federated
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) service_account: String,
    #[command(flatten)]
    pub(super) targets: TargetArgs,
}

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Generated {
    /// Everything below that belongs to a cluster, with a kustomization.yaml
    All,
    /// NetworkPolicies: nothing in or out but what the policy names
    NetworkPolicies,
    /// A patch for the proxy's Service: the ports of workloads
    ServicePorts,
    /// The locked namespaces: Pod Security, no tokens, quota and limits
    Namespaces,
    /// Admission policies: no root, and no hands on the lock but its owners'
    Admission,
    /// Proxy variables of each workload: a kustomize component, from Kubernetes 1.36 on also admission policies
    WorkloadEnv,
    /// The JSON for `az aks create --http-proxy-config`; no part of `all`
    AksHttpProxy,
    /// Jobs that observe for `verify`; no part of `all`, as a Job runs once
    VerifyJobs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) files: FileArgs,
    /// The workload whose pod this is, or plays; with --inside the one that observed
    #[arg(long = "as", value_name = "WORKLOAD", required_unless_present = "inside")]
    pub(super) workload: Option<String>,
    /// Try everything and print what was seen, without a verdict
    #[arg(long, conflicts_with_all = ["inside", "control", "also", "output"])]
    pub(super) observe: bool,
    /// Judge what was observed in a locked pod, and try nothing
    #[arg(long, value_name = "FILE", conflicts_with = "targets")]
    pub(super) inside: Option<PathBuf>,
    /// What was observed as the same workload in a namespace without a lock: only what works there counts as blocked
    #[arg(long, value_name = "FILE")]
    pub(super) control: Option<PathBuf>,
    /// What was observed as another locked workload: what it reaches was there to be reached; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) also: Vec<PathBuf>,
    /// For people, for machines, or for CI
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Report,
    /// Of each lookup, handshake and answer
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// The cluster's DNS; without it that of /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) dns: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) targets: TargetArgs,
}

/// Against what is tried. Each of these replaces what a file of targets says.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Targets")]
pub(super) struct TargetArgs {
    /// Targets as JSON, as `--observe` prints them
    #[arg(long, value_name = "FILE")]
    pub(super) targets: Option<PathBuf>,
    /// Public addresses that answer TCP, on port 443 QUIC too, instead of 1.1.1.1:443 and :80; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) public: Vec<SocketAddr>,
    /// A public DNS server, instead of 1.1.1.1:53
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) public_dns: Option<SocketAddr>,
    /// A public NTP server, instead of 162.159.200.123:123
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) public_ntp: Option<SocketAddr>,
    /// A public IPv6 address, instead of `[2606:4700:4700::1111]:443`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) public_v6: Option<SocketAddr>,
    /// The metadata service, instead of 169.254.169.254:80
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) metadata: Option<SocketAddr>,
    /// Azure's platform address, instead of 168.63.129.16
    #[arg(long, value_name = "ADDRESS")]
    pub(super) wire_server: Option<IpAddr>,
    /// The API server's Service, instead of `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) api_server: Option<SocketAddr>,
    /// Nodes other than the pod's own: the kubelet and SSH, or one port; may be repeated
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = node)]
    pub(super) node: Vec<Node>,
    /// The pod's own node, instead of `NODE_IP`
    #[arg(long, value_name = "ADDRESS")]
    pub(super) own_node: Option<IpAddr>,
    /// Where a workload is called, if not at NAME.NAMESPACE.svc.cluster.local; may be repeated
    #[arg(long, value_name = "NAME=HOST:PORT", value_parser = named_target)]
    pub(super) target: Vec<(String, Target)>,
    /// Public addresses of the cluster's own ingress; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) hairpin: Vec<SocketAddr>,
    /// A name outside of the cluster that exists, instead of example.com
    #[arg(long, value_name = "NAME")]
    pub(super) outside_name: Option<String>,
    /// How often the first seconds are tried, ten times a second, instead of 50
    #[arg(long, value_name = "COUNT")]
    pub(super) early: Option<u16>,
    /// Where the proxy is, instead of its Service; its ports are those of the settings and the policy
    #[arg(long, value_name = "HOST")]
    pub(super) proxy: Option<String>,
}

/// A node, all of it or one port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Whole(IpAddr),
    Port(SocketAddr),
}

/// How verdicts are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Report {
    #[default]
    Text,
    Json,
    /// JUnit XML
    Junit,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "write a number and a unit, such as 500ms or 3s";
    let read: SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let read = Duration::try_from(read).map_err(|_| wanted.to_owned())?;
    if read.is_zero() || read > LONGEST {
        return Err("between 1ms and 1m".to_owned());
    }
    Ok(read)
}

fn node(text: &str) -> Result<Node, String> {
    if let Ok(address) = text.parse() {
        return Ok(Node::Whole(address));
    }
    let port = text
        .parse()
        .map_err(|_| "write `10.224.0.4` or `10.224.0.4:30080`".to_owned());
    port.map(Node::Port)
}

fn named_target(text: &str) -> Result<(String, Target), String> {
    let (name, target) = text.split_once('=').ok_or("write `poi=10.0.3.4:8080`")?;
    Ok((name.to_owned(), target.parse()?))
}

/// Of one step of a probe.
const LONGEST: Duration = Duration::from_mins(1);

/// Where settings and policy come from.
#[derive(Debug, ClapArgs)]
pub(super) struct FileArgs {
    /// Settings file; without it the built-in settings hold
    #[arg(short, long, value_name = "FILE", env = "SLUICEGATE_CONFIG", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Policy file, or directory of *.yaml; replaces `policy` of the settings, may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) policy: Vec<PathBuf>,
    /// Directory whose FOLDER/NAME.yaml replace or add to the built-in presets, instead of `presets` of the settings
    #[arg(long, value_name = "DIR")]
    pub(super) presets: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[default]
    Text,
    Json,
}
