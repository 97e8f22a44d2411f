//! DNS servers that follow a script, for tests in paused time.
//! Must not open sockets.
//! Called by the tests of the resolver and of the dialler.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::resolve::{Family, Found, Nameservers, ResolveError, Resolver, Trouble};
use crate::name::HostName;
use crate::settings;

/// What a question gets, and after how long.
pub(super) type Line = (Duration, Result<Found, Trouble>);

type Lines = Box<dyn Fn(&str, Family) -> Line + Send + Sync>;

/// Servers that answer as a function says.
pub(super) struct Script {
    lines: Mutex<Arc<Lines>>,
    asked: Mutex<Vec<(String, Family)>>,
    down: AtomicBool,
}

impl Script {
    pub(super) fn new(lines: impl Fn(&str, Family) -> Line + Send + Sync + 'static) -> Self {
        Self {
            lines: Mutex::new(Arc::new(Box::new(lines))),
            asked: Mutex::default(),
            down: AtomicBool::new(false),
        }
    }

    pub(super) fn now_say(&self, lines: impl Fn(&str, Family) -> Line + Send + Sync + 'static) {
        *self.lines.lock().unwrap() = Arc::new(Box::new(lines));
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) -> Vec<(String, Family)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Nameservers for Script {
    async fn ask(&self, name: &HostName, family: Family) -> Result<Found, Trouble> {
        self.asked.lock().unwrap().push((name.to_string(), family));
        let lines = self.lines.lock().unwrap().clone();
        let (after, outcome) = lines(name.as_str(), family);
        tokio::time::sleep(after).await;
        outcome
    }

    fn are_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// A resolver over a script, with the built-in settings of the proxy but for a smaller cache.
pub(super) fn resolver(lines: impl Fn(&str, Family) -> Line + Send + Sync + 'static) -> Resolver<Script> {
    Resolver::over(Script::new(lines), &settings())
}

pub(super) fn settings() -> settings::Dns {
    settings::Dns {
        servers: Vec::new(),
        timeout: Duration::from_secs(2),
        cache: 100,
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_hours(1),
        stale: Duration::from_secs(30),
    }
}

pub(super) fn name(text: &str) -> HostName {
    HostName::parse(text.as_bytes()).unwrap()
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Addresses that hold for `ttl` seconds.
#[expect(clippy::unnecessary_wraps, reason = "it is a line of a script")]
pub(super) fn found(addresses: &[&str], ttl: u64) -> Result<Found, Trouble> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Ok(Found {
        addresses: addresses.into(),
        aliases: Arc::default(),
        ttl: Duration::from_secs(ttl),
    })
}

pub(super) fn nothing(error: ResolveError, ttl: u64) -> Result<Found, Trouble> {
    let ttl = Duration::from_secs(ttl);
    Err(Trouble::Nothing { error, ttl })
}

pub(super) fn silence() -> Result<Found, Trouble> {
    Err(Trouble::Failure(ResolveError::TimedOut))
}
