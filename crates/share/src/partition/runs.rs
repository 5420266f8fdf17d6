//! Runs: offsets that follow one another and share a fate, kept as one entry.
//!
//! A batch that a consumer acquires, and acknowledges as a whole, is one run from beginning to end.
//! It is split only where something touches a part of it, and what has become equal again is put
//! together. *Runs do not overlap and leave no hole between the first and the last.*

use std::collections::BTreeMap;
use std::sync::Arc;

/// Who holds records, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) member: Arc<str>,
    /// Unix ms.
    pub(super) until_ms: i64,
}

/// What becomes of records once that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// They can be acquired again.
    Available,
    /// They are never handed out again.
    Done,
}

/// The fate of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Whoever comes next gets it.
    Available,
    /// Handed out.
    Acquired(Lock),
    /// Its end is being stored; should that fail, the lock holds on.
    Ending { lock: Lock, end: End, write: u64 },
    /// Acknowledged, given up, or never a record.
    Done,
}

/// A run without its first offset, which is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Last offset, inclusive.
    pub(super) last: i64,
    pub(super) fate: Fate,
    /// How often it was handed out. 0 for what is done with.
    pub(super) deliveries: u16,
    /// How many records were handed out together the last time.
    pub(super) cohort: u32,
}

impl Run {
    pub(super) fn done(last: i64) -> Self {
        Self {
            last,
            fate: Fate::Done,
            deliveries: 0,
            cohort: 0,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.deliveries == other.deliveries
            && self.cohort == other.cohort
            && self.fate == other.fate
    }

    /// Ends it; what it was does not matter any more.
    pub(super) fn finish(&mut self) {
        self.fate = Fate::Done;
        self.deliveries = 0;
        self.cohort = 0;
    }
}

/// The runs of a partition by their first offsets.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    map: BTreeMap<i64, Run>,
}

impl Runs {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Run)> {
        self.map.iter().map(|(&first, run)| (first, run))
    }

    /// First offset of the run that holds `offset`, if one does.
    fn holder(&self, offset: i64) -> Option<i64> {
        let (&first, run) = self.map.range(..=offset).next_back()?;
        (run.last >= offset).then_some(first)
    }

    /// The runs that have offsets of `first..=last`, whole.
    pub(super) fn touching(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, &Run)> {
        let from = self.holder(first).unwrap_or(first);
        let range = (from <= last).then(|| self.map.range(from..=last));
        range
            .into_iter()
            .flatten()
            .map(|(&first, run)| (first, run))
    }

    /// Puts a run behind all others. An empty one (its last offset before its first) is left out.
    pub(super) fn push(&mut self, first: i64, run: Run) {
        if run.last < first {
            return;
        }
        let last = run.last;
        self.map.insert(first, run);
        self.join(first, last);
    }

    /// Changes every run within `first..=last`; those that reach beyond it are split first.
    pub(super) fn update(&mut self, first: i64, last: i64, mut change: impl FnMut(i64, &mut Run)) {
        if first > last {
            return;
        }
        self.split(first);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        for (&at, run) in self.map.range_mut(first..=last) {
            change(at, run);
        }
        self.join(first, last);
    }

    /// Changes all runs, without looking whether they could be joined.
    pub(super) fn update_all(&mut self, mut change: impl FnMut(i64, &mut Run)) {
        for (&first, run) in &mut self.map {
            change(first, run);
        }
    }

    /// Begins a run at `offset`, if one goes on there.
    fn split(&mut self, offset: i64) {
        let Some(first) = self.holder(offset).filter(|first| *first < offset) else {
            return;
        };
        if let Some(run) = self.map.get_mut(&first) {
            let behind = run.clone();
            run.last = offset - 1;
            self.map.insert(offset, behind);
        }
    }

    /// Puts equal neighbours together, from the run before `first` to the one after `last`.
    fn join(&mut self, first: i64, last: i64) {
        let before = self.map.range(..first).next_back().map(|(&at, _)| at);
        let mut at = before.unwrap_or(first);
        while at <= last {
            let next = self.map.range(at + 1..).next();
            let Some((&next, behind)) = next else { return };
            match self.map.get(&at) {
                Some(run) if run.last + 1 == next && run.is_like(behind) => {
                    let end = behind.last;
                    self.map.remove(&next);
                    if let Some(run) = self.map.get_mut(&at) {
                        run.last = end;
                    }
                }
                _ => at = next,
            }
        }
    }

    /// Takes away everything below `offset`.
    pub(super) fn cut_below(&mut self, offset: i64) {
        self.split(offset);
        self.map = self.map.split_off(&offset);
    }

    /// Takes the first run away if it is done with; returns the offset behind it.
    pub(super) fn pop_done(&mut self) -> Option<i64> {
        let entry = self.map.first_entry()?;
        if entry.get().fate != Fate::Done {
            return None;
        }
        Some(entry.remove().last + 1)
    }
}
