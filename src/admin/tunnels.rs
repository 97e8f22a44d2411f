//! `/tunnels`: what is being relayed now, the youngest first.
//! Must not hold tunnels: it asks for a picture and shows it.
//! Called by people who ask who talks to whom.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::query::{Filter, Pairs, Refused, Subject, Values};
use super::{Pages, page as pages};
use crate::telemetry::{LiveTunnel, json};

pub(super) const ABOUT: &str = "open tunnels, youngest first: ?host= &workload= &listener= &source= &limit=";

pub(super) async fn page(Shared(all): Shared<Pages>, pairs: Pairs) -> Response {
    match select(pairs, (all.tunnels)()) {
        Ok((head, rows)) => pages::rows(&head, "tunnels", &rows, json::append),
        Err(refused) => refused.answer(),
    }
}

#[derive(Serialize)]
struct Head {
    open: usize,
    /// How many of the open ones pass the filter.
    matching: usize,
    shown: usize,
}

fn select(pairs: Pairs, live: Vec<LiveTunnel>) -> Result<(Head, Vec<LiveTunnel>), Refused> {
    let values = Values::read(pairs, &[&Filter::KEYS[..], &["limit"]].concat())?;
    let limit = values.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let filter = values.filter()?;
    let open = live.len();
    let mut rows = live;
    rows.retain(|tunnel| {
        filter.passes(&Subject {
            host: Some(&tunnel.host),
            workload: tunnel.workload.as_deref(),
            listener: &tunnel.listener,
            source: tunnel.source.ip(),
        })
    });
    rows.sort_unstable_by_key(|tunnel| std::cmp::Reverse((tunnel.since, tunnel.id)));
    let matching = rows.len();
    rows.truncate(limit);
    let head = Head {
        open,
        matching,
        shown: rows.len(),
    };
    Ok((head, rows))
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
