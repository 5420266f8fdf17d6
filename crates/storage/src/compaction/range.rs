//! What to compact next, how far, and in which groups of segments: decisions over sizes, offsets and
//! times, without I/O. They follow Apache Kafka's `LogCleanerManager` and `Cleaner` (KIP-58, KIP-354).
//!
//! Invariants: a range ends at the base of a segment that is not touched, at or before the last
//! stable offset and the active segment; a group never has more bytes, index bytes or offsets than one
//! segment may have.

use std::cmp::Ordering;

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentView {
    pub(crate) base_offset: i64,
    pub(crate) size_bytes: u64,
}

/// Offsets and times that bound a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) log_start: i64,
    /// Records before this offset were compacted already.
    pub(crate) compacted_before: i64,
    /// First offset of an open transaction, or the acknowledged end.
    pub(crate) last_stable: i64,
    pub(crate) now_ms: i64,
    /// Shortest time that a record stays as it is (`min.compaction.lag.ms`).
    pub(crate) min_lag_ms: i64,
}

/// What could be compacted in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleanable {
    /// First offset that no earlier run covered.
    pub first_dirty: i64,
    /// First offset that must stay as it is; the base of a segment.
    pub end: i64,
    /// Bytes of the segments before the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of the segments between the two.
    pub dirty_bytes: u64,
    /// By how much a record is older than `max.compaction.lag.ms`, in ms; 0 when none is.
    pub overdue_ms: i64,
}

impl Cleanable {
    /// The share of the dirty bytes in what a run would read (`min.cleanable.dirty.ratio`).
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Whether a run is due: more than the given share is dirty, or something waited too long.
    pub fn is_due(&self, min_dirty_ratio: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.dirty_ratio() > min_dirty_ratio)
    }
}

/// Finds the range of a log; the last segment is the active one. `youngest` gives a segment's largest
/// timestamp and is asked only where it matters.
pub(crate) fn cleanable<E>(
    segments: &[SegmentView],
    bounds: Bounds,
    mut youngest: impl FnMut(usize) -> Result<Option<i64>, E>,
) -> Result<Cleanable, E> {
    let Some((active, sealed)) = segments.split_last() else {
        return Ok(Cleanable::default());
    };
    let first_dirty = bounds.compacted_before.max(bounds.log_start);
    let ends = |at: usize| {
        sealed
            .get(at + 1)
            .map_or(active.base_offset, |next| next.base_offset)
    };
    let mut end = active.base_offset;
    for (at, segment) in sealed.iter().enumerate() {
        if ends(at) <= first_dirty {
            continue;
        }
        let too_young = bounds.min_lag_ms > 0
            && youngest(at)?.is_some_and(|ms| ms > bounds.now_ms.saturating_sub(bounds.min_lag_ms));
        if too_young || ends(at) > bounds.last_stable {
            end = segment.base_offset;
            break;
        }
    }
    let mut found = Cleanable {
        first_dirty: first_dirty.min(end),
        end,
        ..Cleanable::default()
    };
    for (at, segment) in sealed.iter().enumerate() {
        if ends(at) <= first_dirty {
            found.clean_bytes += segment.size_bytes;
        } else if segment.base_offset < end {
            found.dirty_bytes += segment.size_bytes;
        }
    }
    Ok(found)
}

/// By how much the oldest of the dirty segments is overdue (KIP-354): `first_ms` are the timestamps of
/// their first batches.
pub(crate) fn overdue(
    first_ms: impl IntoIterator<Item = i64>,
    now_ms: i64,
    max_lag_ms: i64,
) -> i64 {
    let limit = now_ms.saturating_sub(max_lag_ms.max(0));
    let oldest = first_ms.into_iter().filter(|ms| *ms > 0).min();
    oldest.map_or(0, |oldest| limit.saturating_sub(oldest).max(0))
}

/// A log that may be compacted.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// What could be compacted in it.
    pub cleanable: Cleanable,
    /// Its `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
}

/// Index of the log that should be compacted next: of those that are due the one with the largest
/// share of dirty bytes.
pub fn choose(candidates: &[Candidate]) -> Option<usize> {
    candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.cleanable.is_due(candidate.min_dirty_ratio))
        .max_by(|(_, a), (_, b)| {
            let (a, b) = (a.cleanable.dirty_ratio(), b.cleanable.dirty_ratio());
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        })
        .map(|(at, _)| at)
}

/// What a group of segments has become so far, or a segment that may join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) base_offset: i64,
    /// First offset behind it.
    pub(crate) end: i64,
    pub(crate) size_bytes: u64,
    pub(crate) index_bytes: u64,
}

/// How large the segment that replaces a group may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    pub(crate) max_bytes: u64,
    pub(crate) max_index_bytes: u64,
}

/// Whether the next segment joins a group: it does when it would fit even if it lost nothing. (Kafka
/// adds up what segments have before a run, so that what shrinks is put together by the run after it.)
pub(crate) fn joins(group: Extent, next: Extent, limits: GroupLimits) -> bool {
    group.size_bytes + next.size_bytes <= limits.max_bytes
        && group.index_bytes + next.index_bytes <= limits.max_index_bytes
        && next.end.saturating_sub(group.base_offset) <= i64::from(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(bases_and_sizes: &[(i64, u64)]) -> Vec<SegmentView> {
        let view = |&(base_offset, size_bytes)| SegmentView {
            base_offset,
            size_bytes,
        };
        bases_and_sizes.iter().map(view).collect()
    }

    fn found(segments: &[SegmentView], bounds: Bounds) -> (i64, i64, u64, u64) {
        let young = |at: usize| Ok::<_, ()>(Some(at as i64 * 100));
        let found = cleanable(segments, bounds, young).unwrap();
        (
            found.first_dirty,
            found.end,
            found.clean_bytes,
            found.dirty_bytes,
        )
    }

    const BOUNDS: Bounds = Bounds {
        log_start: 0,
        compacted_before: 0,
        last_stable: i64::MAX,
        now_ms: 1_000,
        min_lag_ms: 0,
    };

    #[test]
    fn a_range_ends_before_the_active_segment_the_stable_end_and_young_records() {
        let segments = views(&[(0, 5), (10, 6), (20, 7), (30, 8)]);
        assert_eq!(found(&segments, BOUNDS), (0, 30, 0, 18), "the active one");
        let stable = |last_stable| Bounds {
            last_stable,
            ..BOUNDS
        };
        assert_eq!(found(&segments, stable(20)), (0, 20, 0, 11));
        assert_eq!(
            found(&segments, stable(19)),
            (0, 10, 0, 5),
            "whole segments only"
        );
        assert_eq!(found(&segments, stable(3)), (0, 0, 0, 0));
        let lag = |min_lag_ms| Bounds {
            min_lag_ms,
            ..BOUNDS
        };
        assert_eq!(
            found(&segments, lag(800)),
            (0, 30, 0, 18),
            "200 is old enough"
        );
        assert_eq!(found(&segments, lag(801)), (0, 20, 0, 11));
        assert_eq!(found(&segments, lag(2_000)), (0, 0, 0, 0));
    }

    #[test]
    fn what_was_compacted_is_clean_whatever_its_age() {
        let segments = views(&[(0, 5), (10, 6), (20, 7), (30, 8)]);
        let clean = |compacted_before, log_start| Bounds {
            compacted_before,
            log_start,
            min_lag_ms: 950,
            ..BOUNDS
        };
        assert_eq!(found(&segments, clean(10, 0)), (10, 10, 5, 0), "too young");
        assert_eq!(found(&segments, clean(0, 12)), (10, 10, 5, 0));
        let old = |compacted_before| Bounds {
            compacted_before,
            ..BOUNDS
        };
        assert_eq!(found(&segments, old(10)), (10, 30, 5, 13));
        assert_eq!(
            found(&segments, old(15)),
            (15, 30, 5, 13),
            "a segment that is clean in part is dirty"
        );
        assert_eq!(found(&segments, old(30)), (30, 30, 18, 0));
        assert_eq!(found(&segments, old(99)), (30, 30, 18, 0), "a hint too far");
        assert_eq!(found(&views(&[(7, 9)]), BOUNDS), (0, 7, 0, 0));
        assert_eq!(found(&[], BOUNDS), (0, 0, 0, 0));
    }

    #[test]
    fn the_filthiest_of_those_that_are_due_is_next() {
        let log = |clean_bytes, dirty_bytes, overdue_ms, min_dirty_ratio| Candidate {
            cleanable: Cleanable {
                clean_bytes,
                dirty_bytes,
                overdue_ms,
                ..Cleanable::default()
            },
            min_dirty_ratio,
        };
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[log(50, 50, 0, 0.5)]), None, "more, not as much");
        assert_eq!(choose(&[log(49, 51, 0, 0.5), log(40, 60, 0, 0.7)]), Some(0));
        assert_eq!(choose(&[log(49, 51, 0, 0.5), log(40, 60, 0, 0.3)]), Some(1));
        assert_eq!(choose(&[log(99, 1, 5, 0.5)]), Some(0), "it waited too long");
        assert_eq!(choose(&[log(99, 0, 5, 0.5)]), None, "nothing to do");
        assert_eq!(choose(&[log(0, 0, 0, 0.0)]), None);
    }

    #[test]
    fn overdue_counts_from_the_oldest_dirty_segment() {
        assert_eq!(overdue([500, 300, -1, 0], 1_000, 600), 100);
        assert_eq!(overdue([500], 1_000, 600), 0);
        assert_eq!(overdue([], 1_000, 0), 0);
        assert_eq!(overdue([5], 1_000, i64::MAX), 0);
    }

    #[test]
    fn groups_fit_one_segment() {
        let extent = |base_offset, end, size_bytes, index_bytes| Extent {
            base_offset,
            end,
            size_bytes,
            index_bytes,
        };
        let limits = GroupLimits {
            max_bytes: 80,
            max_index_bytes: 8,
        };
        let group = extent(0, 10, 40, 4);
        assert!(joins(group, extent(10, 20, 40, 4), limits));
        assert!(!joins(group, extent(10, 20, 41, 4), limits), "bytes");
        assert!(!joins(group, extent(10, 20, 40, 5), limits), "index");
        let far = i64::from(i32::MAX);
        assert!(joins(group, extent(10, far, 0, 0), limits));
        assert!(
            !joins(group, extent(10, far + 1, 0, 0), limits),
            "32-bit offsets"
        );
    }
}
