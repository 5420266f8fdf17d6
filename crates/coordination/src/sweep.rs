//! How far a sweep over names is that goes on slice by slice.

use std::ops::Bound;
use std::sync::Arc;

/// A sweep through a map of names, in their order, a bounded number per tick. When it has come to
/// the end it rests until it is due again.
#[derive(Debug, Default)]
pub struct Sweep {
    due_ms: Option<i64>,
    /// The last name seen by a sweep that goes on.
    cursor: Option<Arc<str>>,
}

impl Sweep {
    /// When the next slice is due, Unix ms.
    pub fn due_ms(&self) -> Option<i64> {
        self.due_ms
    }

    /// Begins anew at this time, Unix ms.
    pub fn schedule(&mut self, at_ms: i64) {
        self.due_ms = Some(at_ms);
        self.cursor = None;
    }

    /// Whether a slice is due.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Takes the name behind which the next slice begins.
    pub fn take_cursor(&mut self) -> Option<Arc<str>> {
        self.cursor.take()
    }

    /// The slice ended with this name, and there are more behind it.
    pub fn stop_at(&mut self, name: Arc<str>) {
        self.cursor = Some(name);
    }

    /// Whether the last slice was the last one.
    pub fn is_done(&self) -> bool {
        self.cursor.is_none()
    }
}

/// The lower bound of a slice that begins behind `cursor`.
pub fn behind(cursor: Option<&Arc<str>>) -> Bound<&str> {
    cursor.map_or(Bound::Unbounded, |name| Bound::Excluded(&**name))
}
