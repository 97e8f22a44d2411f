//! A list that threads append to and tests wait on.
//! Must not poll: whoever waits is woken by what was appended.
//! Called by the origins, the DNS stub and the readers of the proxy's output.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// A shared, growing list.
#[derive(Debug)]
pub struct Events<T> {
    shared: Arc<(Mutex<Vec<T>>, Condvar)>,
}

impl<T> Clone for Events<T> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<T> Default for Events<T> {
    fn default() -> Self {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        Self { shared }
    }
}

impl<T> Events<T> {
    pub fn push(&self, event: T) {
        self.lock().push(event);
        self.shared.1.notify_all();
    }

    /// Changes the list in place and wakes whoever waits.
    pub fn update<R>(&self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let result = change(&mut self.lock());
        self.shared.1.notify_all();
        result
    }

    pub fn with<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.lock())
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Waits until `look` finds what it looks for; `None` when `limit` has passed.
    pub fn wait<R>(&self, limit: Duration, mut look: impl FnMut(&[T]) -> Option<R>) -> Option<R> {
        let end = Instant::now() + limit;
        let mut list = self.lock();
        loop {
            if let Some(found) = look(&list) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            list = self.shared.1.wait_timeout(list, left).unwrap().0;
        }
    }

    /// Waits until there are `count` events.
    pub fn wait_len(&self, count: usize) -> bool {
        self.wait(DEADLINE, |list| (list.len() >= count).then_some(()))
            .is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.shared.0.lock().unwrap()
    }
}
