//! How often a rule decided, and when last. The same rule of the generations before and after shares the count.
//! Must not allocate rule by rule: a count outlives its generation, and one between two texts of a policy that is gone
//! keeps their page. Counted by the session at its final verdict, not by the gate; read by `/policy`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::Rule;

/// The count of one rule. Without a policy it counts nothing.
#[derive(Clone, Debug, Default)]
pub struct Hits(Option<Held>);

#[derive(Clone, Debug)]
struct Held {
    block: Arc<Block>,
    place: u16,
}

/// Counts of rules that came into force together.
#[derive(Debug)]
struct Block(Box<[Count]>);

#[derive(Debug, Default)]
struct Count {
    count: AtomicU64,
    /// Milliseconds since the Unix epoch; 0 is never.
    last: AtomicU64,
}

impl Hits {
    pub fn record(&self, now: Timestamp) {
        let Some(held) = self.held() else { return };
        held.count.fetch_add(1, Ordering::Relaxed);
        held.last
            .store(u64::try_from(now.as_millisecond()).unwrap_or(0), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.held().map_or(0, |held| held.count.load(Ordering::Relaxed))
    }

    pub fn last(&self) -> Option<Timestamp> {
        let last = self.held()?.last.load(Ordering::Relaxed);
        let last = i64::try_from(last).ok().filter(|last| *last > 0)?;
        Timestamp::from_millisecond(last).ok()
    }

    fn held(&self) -> Option<&Count> {
        let held = self.0.as_ref()?;
        held.block.0.get(usize::from(held.place))
    }
}

/// Gives a count to every rule that does not go on with that of an earlier generation.
pub(in crate::policy) fn begin(rules: &mut [Rule]) {
    let mut new: Vec<_> = rules.iter_mut().filter(|rule| rule.hits.0.is_none()).collect();
    for some in new.chunks_mut(TOGETHER) {
        let counts = some.iter().map(|_| Count::default());
        let block = Arc::new(Block(counts.collect()));
        for (rule, place) in some.iter_mut().zip(0..) {
            let block = Arc::clone(&block);
            rule.hits = Hits(Some(Held { block, place }));
        }
    }
}

/// 16 KiB: whole pages, and little where one rule of many survives.
const TOGETHER: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{allow, policy};

    #[test]
    fn each_rule_has_a_count_of_its_own() {
        let policy = policy((0..=2 * TOGETHER).map(|_| allow(&["a.test"])).collect());
        let now = Timestamp::from_second(7).unwrap();
        for (rule, times) in policy.rules().iter().zip([1, 2].into_iter().cycle()) {
            (0..times).for_each(|_| rule.hits.record(now));
        }
        let counts: Vec<_> = policy.rules().iter().map(|rule| rule.hits.count()).collect();
        assert!(counts.chunks(2).all(|pair| pair == [1, 2] || pair == [1]));
        assert_eq!(policy.rules()[0].hits.last(), Some(now));
    }

    #[test]
    fn a_count_that_goes_on_is_not_begun_again() {
        let first = policy(vec![allow(&["a.test"])]);
        first.rules()[0].hits.record(Timestamp::UNIX_EPOCH);
        let kept = Rule {
            hits: first.rules()[0].hits.clone(),
            ..allow(&["a.test"])
        };
        let second = policy(vec![allow(&["b.test"]), kept]);
        let counts: Vec<_> = second.rules().iter().map(|rule| rule.hits.count()).collect();
        assert_eq!(counts, [0, 1]);
    }
}
