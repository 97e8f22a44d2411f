//! The last decisions, for `/decisions`: those that let something through and, apart, those that did not.
//! Must not grow with traffic, and a flood of one kind must not push out the other.
//! Called by the record handle; read by admin.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::record::DecisionRecord;

/// Two rings of [`KEPT`] decisions each.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    /// Grows with every decision, so that the rings can be merged.
    next: u64,
    allowed: Ring,
    /// Denials, and what only reporting let through.
    denied: Ring,
}

type Ring = VecDeque<(u64, Arc<DecisionRecord>)>;

impl Recent {
    pub(super) fn push(&self, record: Arc<DecisionRecord>) {
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = rings.next;
        rings.next += 1;
        let ring = if record.denies() {
            &mut rings.denied
        } else {
            &mut rings.allowed
        };
        // The oldest is dropped after the lock is free again.
        let _oldest = if ring.len() == KEPT { ring.pop_front() } else { None };
        ring.push_back((number, record));
        drop(rings);
    }

    /// All that are kept, newest first.
    pub fn newest_first(&self) -> Vec<Arc<DecisionRecord>> {
        let mut all: Vec<_> = {
            let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            rings.allowed.iter().chain(&rings.denied).cloned().collect()
        };
        all.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        all.into_iter().map(|(_, record)| record).collect()
    }
}

/// Decisions kept of each kind.
pub const KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::samples;

    #[test]
    fn a_flood_of_one_kind_leaves_the_other() {
        let recent = Recent::default();
        recent.push(Arc::new(samples::allowed(1)));
        for id in 2..2 + 2 * KEPT as u64 {
            recent.push(Arc::new(samples::denied(id)));
        }
        recent.push(Arc::new(samples::allowed(9999)));
        let ids: Vec<u64> = recent.newest_first().iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), KEPT + 2);
        assert_eq!(ids[0], 9999, "newest first");
        assert_eq!(ids[1], 2 * KEPT as u64 + 1);
        assert_eq!(ids.last(), Some(&1), "the old allowed one is still there");
    }
}
