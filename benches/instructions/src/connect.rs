//! A CONNECT through the real binary, from accept to its two records: one tunnel after the other over loopback.
//! Must not overlap tunnels or leave a step unchecked: what varied, or failed early, would be counted as something else.
//! Called by the program, which is client and origin itself; that and the thread of its DNS server are not counted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::valgrind::{self, Threads};

/// So many tunnels make a steady number.
pub(crate) const TIMES: u32 = 1_000;
/// The worker of all sessions, and the one that writes their records.
pub(crate) const THREADS: usize = 2;

/// Instructions of a proxy that starts, opens and closes that many tunnels, and ends.
pub(crate) fn count(tunnels: u32) -> anyhow::Result<Threads> {
    // With more than one, tokio's workers search each other's queues, now more and now less.
    on_one_cpu()?;
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let origin_port = origin.local_addr()?.port();
    let dns = start_dns()?;
    let dir = tempfile::tempdir()?;
    let (settings, records) = (dir.path().join("settings.yaml"), dir.path().join("records"));
    fs::write(dir.path().join("policy.yaml"), policy(origin_port))?;
    fs::write(&settings, settings_text(dns))?;

    // Built beside this program, and by the same command.
    let mut proxy = Command::new(std::env::current_exe()?.with_file_name("sluicegate"));
    proxy.args(["run", "-c"]).arg(&settings);
    let mut proxy = valgrind::under(&proxy, dir.path())
        .stdin(Stdio::null())
        .stdout(File::create(&records)?)
        .stderr(Stdio::piped())
        .spawn()
        .context("valgrind")?;
    let through = listening(&mut proxy).and_then(|address| {
        let pid = proxy.id();
        (0..tunnels).try_for_each(|number| tunnel(pid, address, &origin).with_context(|| format!("tunnel {number}")))
    });
    if through.is_err() {
        let _ = proxy.kill();
    }
    kill_process(Pid::from_child(&proxy), Signal::TERM)?;
    let counted = valgrind::ended(proxy, dir.path());
    through?;
    let written = fs::read_to_string(&records)?.lines().count();
    ensure!(
        written == 2 * usize::try_from(tunnels)?,
        "{written} records of {tunnels} tunnels"
    );
    let mut counted = counted?;
    // It starts and ends the others, for which it takes now more and now less, and knows of no tunnel.
    counted.remove(&valgrind::MAIN).context("no main thread")?;
    Ok(counted)
}

fn on_one_cpu() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU)
        .find(|cpu| allowed.is_set(*cpu))
        .context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(first);
    Ok(sched_setaffinity(None, &one)?)
}

/// Opens a tunnel, says hello, answers, closes; nothing before the proxy has done all that the step before asks for.
/// Or it would find now one and now two steps when it looks, and take 10 % less for both at once.
fn tunnel(pid: u32, proxy: SocketAddr, origin: &TcpListener) -> anyhow::Result<()> {
    let mut client = TcpStream::connect(proxy)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    rest(pid)?;
    let port = origin.local_addr()?.port();
    let head = format!("CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n");
    client.write_all(head.as_bytes())?;
    let mut answer = [0; ESTABLISHED.len()];
    client.read_exact(&mut answer)?;
    ensure!(answer == ESTABLISHED, "{:?}", String::from_utf8_lossy(&answer));
    let (mut server, _) = origin.accept()?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(PATIENCE))?;
    rest(pid)?;
    client.write_all(HELLO)?;
    server.read_exact(&mut [0; HELLO.len()])?;
    rest(pid)?;
    server.write_all(&[0x16; ANSWER])?;
    client.read_exact(&mut [0; ANSWER])?;
    rest(pid)?;
    client.shutdown(Shutdown::Write)?;
    ensure!(server.read(&mut [0])? == 0, "more than a hello");
    rest(pid)?;
    drop(server);
    ensure!(client.read(&mut [0])? == 0, "more than an answer");
    rest(pid)
}

/// Waits until none of the proxy's threads runs (proc(5), `/proc/PID/task/TID/stat`, the state behind the name).
fn rest(pid: u32) -> anyhow::Result<()> {
    let tasks = format!("/proc/{pid}/task");
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let mut resting = true;
        for task in fs::read_dir(&tasks)? {
            let text = fs::read_to_string(task?.path().join("stat"))?;
            let (_, state) = text.rsplit_once(") ").context("no state")?;
            resting &= state.starts_with('S');
        }
        if resting {
            return Ok(());
        }
        thread::yield_now();
    }
    bail!("the proxy does not come to rest")
}

/// Every name is at 127.0.0.1, no name has another record (RFC 1035, section 4); asked once for each.
fn start_dns() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    thread::spawn(move || -> anyhow::Result<()> {
        let mut query = [0; 512];
        loop {
            let (length, peer) = socket.recv_from(&mut query)?;
            let question = query.get(12..length).context("no question")?;
            let end = question
                .iter()
                .position(|byte| *byte == 0)
                .context("no end of the name")?
                + 5;
            let question = question.get(..end).context("no type")?;
            let mut answer = query.get(..2).context("no id")?.to_vec();
            answer.extend([0x85, 0x80, 0, 1]);
            if question.ends_with(&[0, 1, 0, 1]) {
                answer.extend([0, 1, 0, 0, 0, 0]);
                answer.extend(question);
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0x70, 0x80, 0, 4, 127, 0, 0, 1]);
            } else {
                // An SOA says how long there is none.
                answer.extend([0, 0, 0, 1, 0, 0]);
                answer.extend(question);
                answer.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0x70, 0x80, 0, 22, 0, 0]);
                answer.extend([0, 0, 0x70, 0x80].repeat(5));
            }
            socket.send_to(&answer, peer)?;
        }
    });
    Ok(address)
}

/// Reads where the proxy listens; goes on reading, so that it never waits for us.
fn listening(proxy: &mut Child) -> anyhow::Result<SocketAddr> {
    let stderr = BufReader::new(proxy.stderr.take().context("no standard error")?);
    let (said, lines) = channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            // Nobody listens any more once the address is known.
            let _ = said.send(line);
        }
    });
    let mut all = String::new();
    loop {
        let line = lines
            .recv_timeout(PATIENCE)
            .with_context(|| format!("it does not listen; it says:\n{all}"))?;
        if line.contains("name=\"proxy\"") || line.contains("name=proxy") {
            let address = line.split_whitespace().find_map(|fact| fact.strip_prefix("address="));
            return Ok(address.context("no address")?.trim_matches('"').parse()?);
        }
        all += &line;
        all.push('\n');
    }
}

/// 1,000 rules, the last of which opens the origin.
fn policy(origin: u16) -> String {
    let filler = (1..1_000).map(|number| format!("  - service-{number}.apps.example.net\n"));
    format!(
        "allow:\n{}  - {{name: ours, to: [\"{NAME}:{origin}\"], addresses: [127.0.0.0/8]}}\n",
        filler.collect::<String>()
    )
}

fn settings_text(dns: SocketAddr) -> String {
    format!(
        "listeners:\n  - {{name: proxy, mode: explicit, bind: \"127.0.0.1:0\"}}\n\
         admin: {{bind: \"127.0.0.1:0\"}}\n\
         health: {{bind: \"127.0.0.1:0\"}}\n\
         policy: [policy.yaml]\n\
         dns: {{servers: [\"{dns}\"]}}\n"
    )
}

/// The name in the hello.
const NAME: &str = "api.allowed.test";
const HELLO: &[u8] = include_bytes!("../../../tests/corpus/hello/curl.bin");
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// Bytes of the origin's answer.
const ANSWER: usize = 127;
const PATIENCE: Duration = Duration::from_mins(1);
