//! The proxy that is measured: its settings and policy, a running one, what its metrics say.
//! Must have everything on that it has on in production: records, metrics, address guard, the look into the tunnel.
//! Called by the questions.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::lab::{Lab, ZONE};
use crate::origin::Origin;
use crate::process::Process;

#[derive(Debug)]
pub(crate) struct Sluicegate {
    pub(crate) process: Process,
    /// The explicit listener.
    pub(crate) proxy: SocketAddr,
    /// The transparent one.
    pub(crate) tls: SocketAddr,
    health: SocketAddr,
    records: PathBuf,
}

impl Sluicegate {
    /// Starts the proxy on these settings and waits until it is ready.
    pub(crate) async fn start(binary: &Path, settings: &Path) -> anyhow::Result<Self> {
        // Each has its own, also of several with the same settings.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let records = settings.with_extension(format!("{number}.records"));
        let mut command = Command::new(binary);
        command
            .args(["run", "-c"])
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(File::create(&records)?)
            .stderr(Stdio::piped());
        let mut process = Process::spawn("sluicegate", &mut command)?;
        let lines = lines(&mut process)?;
        let (mut proxy, mut tls, mut health) = (None, None, None);
        let mut said = String::new();
        while proxy.is_none() || tls.is_none() || health.is_none() {
            let line = lines
                .recv_timeout(PATIENCE)
                .with_context(|| format!("sluicegate does not say where it listens; it says:\n{said}"))?;
            match listening(&line) {
                Some(("proxy", address)) => proxy = Some(address),
                Some(("tls", address)) => tls = Some(address),
                Some(("health", address)) => health = Some(address),
                _ => {}
            }
            said.push_str(&line);
            said.push('\n');
        }
        let started = Self {
            process,
            proxy: proxy.context("no proxy")?,
            tls: tls.context("no tls")?,
            health: health.context("no health")?,
            records,
        };
        let deadline = Instant::now() + PATIENCE;
        while started.ask("/readyz").await?.0 != 200 {
            ensure!(Instant::now() < deadline, "sluicegate does not become ready");
            // Not long: how soon it is ready is a question of its own.
            sleep(Duration::from_millis(1)).await;
        }
        Ok(started)
    }

    /// The sum of a metric over all its labels that contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let (status, text) = self.ask("/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}");
        let mut sum = None;
        for line in text.lines() {
            let Some((key, value)) = line.rsplit_once(' ') else {
                continue;
            };
            if key.split('{').next() == Some(name) && key.contains(label) {
                let value: f64 = value.parse()?;
                *sum.get_or_insert(0.0) += value;
            }
        }
        sum.with_context(|| format!("there is no metric {name} with {label}"))
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_metric(&self, name: &str, label: &str, wanted: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name, label).await?;
            if value.to_string() == wanted.to_string() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{name} is {value}, not {wanted}");
            sleep(AGAIN).await;
        }
    }

    /// Waits until that many records have come out.
    pub(crate) async fn wait_records(&self, wanted: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let written = BufReader::new(File::open(&self.records)?).lines().count();
            if written == wanted {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{written} records were written, not {wanted}"
            );
            sleep(AGAIN).await;
        }
    }

    async fn ask(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.health).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.health
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, answer))
    }
}

/// Writes settings whose policy has that many rules, the last of which opens the lab. Returns the settings file.
///
/// The policy has a directory of its own: that is watched, and whatever else happened in it would be work.
pub(crate) fn write_settings(lab: &Lab, rules: usize) -> anyhow::Result<PathBuf> {
    write_settings_for(lab, &rules.to_string(), &policy_text(rules, &lab.origin))
}

/// Writes settings for a policy. Returns the settings file.
pub(crate) fn write_settings_for(lab: &Lab, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let policy = policy_file(lab, name);
    fs::create_dir_all(policy.parent().context("no directory")?)?;
    fs::write(&policy, text)?;
    let settings = lab.dir.path().join(format!("sluicegate-{name}.yaml"));
    let text = format!(
        "listeners:\n  - {{name: proxy, mode: explicit, bind: \"127.0.0.1:0\"}}\n  \
           - {{name: tls, mode: tls, bind: \"127.0.0.1:0\", port: {port}}}\n\
         admin: {{bind: \"127.0.0.1:0\"}}\n\
         health: {{bind: \"127.0.0.1:0\"}}\n\
         policy: [\"{policy}\"]\n\
         dns: {{servers: [\"{dns}\"]}}\n\
         limits: {{per_source: 50000}}\n",
        policy = policy.display(),
        port = lab.origin.address.port(),
        dns = lab.dns,
    );
    fs::write(&settings, text)?;
    Ok(settings)
}

/// The policy of the settings that were written under that name.
pub(crate) fn policy_file(lab: &Lab, name: &str) -> PathBuf {
    lab.dir.path().join(format!("policy-{name}/policy.yaml"))
}

/// One rule a line: of ten, seven exact names, a wildcard, TLS on another port, plain HTTP; one of a hundred has a `*`
/// inside a label.
pub(crate) fn policy_text(rules: usize, origin: &Origin) -> String {
    let filler = (1..rules).map(|number| match number % 100 {
        50 => format!("  - \"store{number}x*.blob.example.net\"\n"),
        other => match other % 10 {
            7 => format!("  - \"*.zone-{number}.example.org\"\n"),
            8 => format!("  - tls://broker-{number}.example.net:5671\n"),
            9 => format!("  - http://ocsp-{number}.example.com\n"),
            _ => format!("  - service-{number}.apps.example.net\n"),
        },
    });
    let (port, web) = (origin.address.port(), origin.web.port());
    let ours = format!(
        "  - {{name: bench, to: [\"*.{ZONE}:{port}\", \"http://*.{ZONE}:{web}\"], addresses: [127.0.0.0/8]}}\n"
    );
    "allow:\n".to_owned() + &filler.collect::<String>() + &ours
}

/// Everything that the process says, line by line; it is read to the end so that the process never waits for us.
fn lines(process: &mut Process) -> anyhow::Result<Receiver<String>> {
    let stderr = BufReader::new(process.take_stderr()?);
    let (said, lines) = channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            // Nobody listens any more once the addresses are known.
            let _ = said.send(line);
        }
    });
    Ok(lines)
}

/// Name and address out of a `listening` line.
fn listening(line: &str) -> Option<(&str, SocketAddr)> {
    let (_, facts) = line.split_once("listening ")?;
    let fact = |key: &str| {
        let fact = facts.split_whitespace().find_map(|fact| fact.strip_prefix(key))?;
        Some(fact.trim_matches('"'))
    };
    Some((fact("name=")?, fact("address=")?.parse().ok()?))
}

static STARTED: AtomicUsize = AtomicUsize::new(0);
const PATIENCE: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_millis(20);
