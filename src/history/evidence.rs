//! How often something was seen, since when, until when, and from where.
//! Must not grow with the log: of many sources some are kept, and that there are more.
//! Called by everything that sums up records.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

/// Sums up sightings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    pub count: u64,
    /// Absent where the log has no times.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    pub first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    pub last: Option<Timestamp>,
    /// The lowest [`KEPT`] of them.
    pub sources: BTreeSet<IpAddr>,
    /// Whether there are others.
    pub more_sources: bool,
}

impl Evidence {
    pub fn add(&mut self, at: Option<Timestamp>, source: IpAddr) {
        self.count += 1;
        self.first = [self.first, at].into_iter().flatten().min();
        self.last = self.last.max(at);
        self.sources.insert(source);
        if self.sources.len() > KEPT {
            self.more_sources = true;
            self.sources.pop_last();
        }
    }

    /// Adds all of another.
    pub(super) fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
        self.sources.extend(&other.sources);
        self.more_sources |= other.more_sources;
        while self.sources.len() > KEPT {
            self.more_sources = true;
            self.sources.pop_last();
        }
    }
}

impl fmt::Display for Evidence {
    /// `12 times from 10.1.2.3 and 10.1.2.4, 2026-11-20T10:00:00Z to 2026-11-21T09:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str("once from ")?,
            count => write!(f, "{count} times from ")?,
        }
        let shown: Vec<_> = self.sources.iter().take(SHOWN).map(ToString::to_string).collect();
        f.write_str(&shown.join(", "))?;
        match (self.sources.len() - shown.len(), self.more_sources) {
            (0, false) => {}
            (more, false) => write!(f, " and {more} more")?,
            (more, true) => write!(f, " and over {more} more")?,
        }
        let day = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        match (self.first, self.last) {
            (Some(first), Some(last)) if first == last => write!(f, ", {}", day(first)),
            (Some(first), Some(last)) => write!(f, ", {} to {}", day(first), day(last)),
            _ => Ok(()),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn moment<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.unwrap_or_default())
}

const KEPT: usize = 100;
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_how_often_and_from_where() {
        let mut evidence = Evidence::default();
        evidence.add(None, [10, 0, 0, 1].into());
        assert_eq!(evidence.to_string(), "once from 10.0.0.1");
        evidence.add("2026-11-21T10:00:00Z".parse().ok(), [10, 0, 0, 2].into());
        evidence.add("2026-11-20T10:00:00Z".parse().ok(), [10, 0, 0, 2].into());
        assert_eq!(
            evidence.to_string(),
            "3 times from 10.0.0.1, 10.0.0.2, 2026-11-20T10:00:00Z to 2026-11-21T10:00:00Z"
        );
        for last in 0..=255 {
            evidence.add(None, [10, 0, 1, last].into());
        }
        assert!(
            evidence
                .to_string()
                .starts_with("259 times from 10.0.0.1, 10.0.0.2, 10.0.1.0 and over 97 more, ")
        );
    }
}
