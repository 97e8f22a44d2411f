//! An open tunnel as `/tunnels` shows it.
//! Must not be kept: it is a picture of one moment, made on request.
//! Called by whoever tracks tunnels, for admin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::json;
use super::record::Entry;
use crate::name::{Host, HostName, Port};

/// A tunnel that is being relayed.
#[derive(Clone, Debug)]
pub struct LiveTunnel {
    /// As in its decision record.
    pub id: u64,
    pub listener: Arc<str>,
    pub entry: Entry,
    pub source: SocketAddr,
    pub workload: Option<Arc<str>>,
    pub host: Host,
    pub port: Port,
    pub sni: Option<HostName>,
    pub address: IpAddr,
    /// The rule that allows it.
    pub rule: Option<Arc<str>>,
    /// Bytes from the client to the upstream, and back.
    pub up: u64,
    pub down: u64,
    pub since: Timestamp,
    /// Since the last byte in either direction.
    pub idle: Duration,
}

impl Serialize for LiveTunnel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The same keys as in records, where they mean the same.
        #[derive(Serialize)]
        struct Row<'a> {
            id: String,
            since: String,
            listener: &'a str,
            entry: &'static str,
            source: String,
            source_port: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            workload: Option<&'a str>,
            host: String,
            port: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            sni: Option<&'a str>,
            address: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            rule: Option<&'a str>,
            up_bytes: u64,
            down_bytes: u64,
            idle_ms: f64,
        }
        Row {
            id: json::id(self.id),
            since: json::moment(self.since),
            listener: &self.listener,
            entry: self.entry.as_str(),
            source: self.source.ip().to_canonical().to_string(),
            source_port: self.source.port(),
            workload: self.workload.as_deref(),
            host: self.host.to_string(),
            port: self.port.number(),
            sni: self.sni.as_ref().map(HostName::as_str),
            address: self.address.to_string(),
            rule: self.rule.as_deref(),
            up_bytes: self.up,
            down_bytes: self.down,
            idle_ms: json::milliseconds(self.idle),
        }
        .serialize(serializer)
    }
}
