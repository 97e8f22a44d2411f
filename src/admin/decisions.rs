//! `/decisions`: the last verdicts, newest first, as in the log.
//! Must not be the only place where a denial shows: it forgets; the log and the metrics do not.
//! Called by people who ask why something was refused.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::query::{Filter, Pairs, Refused, Subject, Values};
use super::{Pages, page as pages};
use crate::policy::Reason;
use crate::telemetry::DecisionRecord;
use crate::telemetry::json;
use crate::telemetry::recent::KEPT;

pub(super) const ABOUT: &str =
    "the last decisions, newest first: ?action= &reason= &host= &workload= &listener= &source= &limit=";

pub(super) async fn page(Shared(all): Shared<Pages>, pairs: Pairs) -> Response {
    match select(pairs, all.telemetry.recent().newest_first()) {
        Ok((head, rows)) => {
            let mut clock = json::Clock::default();
            pages::rows(&head, "decisions", &rows, |row, out| {
                json::decision(row, &mut clock, out);
            })
        }
        Err(refused) => refused.answer(),
    }
}

#[derive(Serialize)]
struct Head {
    /// How many of those that are kept pass the filter.
    matching: usize,
    shown: usize,
}

fn select(pairs: Pairs, recent: Vec<Arc<DecisionRecord>>) -> Result<(Head, Vec<Arc<DecisionRecord>>), Refused> {
    let values = Values::read(pairs, &[&["action", "reason"], &Filter::KEYS[..], &["limit"]].concat())?;
    let action = values.one_of("action", &["allow", "deny"], |word| word)?;
    let reason = values.one_of("reason", Reason::ALL, Reason::as_str)?;
    let limit = values.number("limit", DEFAULT_LIMIT, 2 * KEPT)?;
    let filter = values.filter()?;
    let mut rows = recent;
    rows.retain(|record| {
        action.is_none_or(|action| record.action() == action)
            // What is only reported is found by what it would have been refused for.
            && reason.is_none_or(|reason| record.reason == reason || record.would_deny == Some(reason))
            && filter.passes(&Subject {
                host: record.host.as_ref(),
                workload: record.workload.as_deref(),
                listener: &record.listener,
                source: record.source.ip(),
            })
    });
    let matching = rows.len();
    rows.truncate(limit);
    let head = Head {
        matching,
        shown: rows.len(),
    };
    Ok((head, rows))
}

const DEFAULT_LIMIT: usize = 100;
