//! When which name is to be looked at next.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Names under their deadlines, the nearest first. Whoever files a name remembers under which deadline.
#[derive(Debug, Default)]
pub struct Deadlines {
    filed: BTreeSet<(i64, Arc<str>)>,
}

impl Deadlines {
    /// The nearest deadline, Unix ms.
    pub fn first_ms(&self) -> Option<i64> {
        self.filed.first().map(|&(deadline_ms, _)| deadline_ms)
    }

    /// Files a name.
    pub fn add(&mut self, deadline_ms: i64, name: Arc<str>) {
        self.filed.insert((deadline_ms, name));
    }

    /// Takes a name out that is filed under this deadline.
    pub fn remove(&mut self, deadline_ms: i64, name: Arc<str>) {
        self.filed.remove(&(deadline_ms, name));
    }

    /// Takes out those whose deadline has come, the oldest first.
    pub fn take_due(&mut self, now_ms: i64) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        while self.first_ms().is_some_and(|first_ms| first_ms <= now_ms) {
            due.extend(self.filed.pop_first().map(|(_, name)| name));
        }
        due
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.filed.clear();
    }
}
