//! Which of the oldest segments may go: a pure decision over sizes and timestamps.

use crate::config::LogConfig;

/// What is known of a segment when retention is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) size_bytes: u64,
    /// Largest timestamp, Unix ms; `None` for an empty segment.
    pub(crate) max_timestamp_ms: Option<i64>,
}

/// How many segments from the oldest on to delete, the active one (the last) included when all its
/// records are too old.
pub(crate) fn expired(segments: &[SegmentFacts], config: &LogConfig, now_ms: i64) -> usize {
    if !config.cleanup.delete {
        return 0;
    }
    by_age(segments, config, now_ms).max(by_size(segments, config))
}

fn by_age(segments: &[SegmentFacts], config: &LogConfig, now_ms: i64) -> usize {
    let Some(retention_ms) = config.retention_ms else {
        return 0;
    };
    let too_old = |timestamp_ms: i64| now_ms.saturating_sub(timestamp_ms) > retention_ms;
    let count = segments
        .iter()
        // Compaction may leave a segment without a record: it is as old as what follows.
        .take_while(|segment| segment.max_timestamp_ms.is_none_or(too_old))
        .count();
    let last = segments[..count]
        .iter()
        .rposition(|segment| segment.max_timestamp_ms.is_some());
    last.map_or(0, |last| last + 1)
}

/// Only whole segments beyond the limit go: what stays is at least `retention.bytes`.
fn by_size(segments: &[SegmentFacts], config: &LogConfig) -> usize {
    let Some(retention_bytes) = config.retention_bytes else {
        return 0;
    };
    let total: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    let mut excess = total.saturating_sub(retention_bytes);
    let sealed = &segments[..segments.len().saturating_sub(1)];
    sealed
        .iter()
        .take_while(|segment| {
            let goes = segment.size_bytes <= excess;
            excess = excess.saturating_sub(segment.size_bytes);
            goes && segment.size_bytes > 0
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sizes: &[(u64, i64)]) -> Vec<SegmentFacts> {
        sizes
            .iter()
            .map(|(size, ts)| SegmentFacts {
                size_bytes: *size,
                max_timestamp_ms: Some(*ts),
            })
            .collect()
    }

    #[test]
    fn age_stops_at_the_first_young_segment() {
        let config = LogConfig {
            retention_ms: Some(100),
            ..LogConfig::default()
        };
        assert_eq!(
            expired(
                &facts(&[(9, 10), (9, 950), (9, 20), (9, 990)]),
                &config,
                1_000
            ),
            1
        );
        assert_eq!(
            expired(&facts(&[(9, 10), (9, 20)]), &config, 1_000),
            2,
            "the active one too"
        );
        let forever = LogConfig {
            retention_ms: None,
            ..LogConfig::default()
        };
        assert_eq!(expired(&facts(&[(9, 10)]), &forever, i64::MAX), 0);
    }

    #[test]
    fn empty_segments_do_not_stop_age() {
        let config = LogConfig {
            retention_ms: Some(100),
            ..LogConfig::default()
        };
        let mut segments = facts(&[(9, 10), (0, 0), (9, 20), (0, 0), (9, 990), (0, 0)]);
        for at in [1, 3, 5] {
            segments[at].max_timestamp_ms = None;
        }
        assert_eq!(expired(&segments, &config, 1_000), 3);
        assert_eq!(
            expired(&segments[3..4], &config, 1_000),
            0,
            "the empty active one"
        );
    }

    #[test]
    fn size_keeps_at_least_the_limit() {
        let config = LogConfig {
            retention_ms: None,
            retention_bytes: Some(25),
            ..LogConfig::default()
        };
        assert_eq!(
            expired(&facts(&[(10, 1), (10, 2), (10, 3), (10, 4)]), &config, 0),
            1
        );
        assert_eq!(
            expired(&facts(&[(10, 1), (10, 2), (10, 3), (5, 4)]), &config, 0),
            1
        );
        assert_eq!(
            expired(&facts(&[(100, 1)]), &config, 0),
            0,
            "never the active one"
        );
    }
}
