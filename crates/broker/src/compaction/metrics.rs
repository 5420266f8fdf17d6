//! What is counted of compaction, and what is measured when somebody asks.

use std::time::Duration;

use dlog_storage::{CompactionEnd, CompactionReport, StorageError};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::{candidate, compacted};
use crate::state::BrokerState;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

/// Counters of compaction.
#[derive(Debug, Default)]
pub struct CompactionMetrics {
    runs: Family<EndLabel, Counter>,
    bytes_read: Counter,
    bytes_written: Counter,
    bytes_removed: Counter,
    records_removed: Counter,
    seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    last_run_ms: Gauge,
    in_progress: Gauge,
}

impl CompactionMetrics {
    /// Registers the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "compaction_runs",
            "Runs of compaction, by how they ended",
            self.runs.clone(),
        );
        registry.register(
            "compaction_bytes_read",
            "Bytes read by compaction, those of dirty segments twice",
            self.bytes_read.clone(),
        );
        registry.register(
            "compaction_bytes_written",
            "Bytes written by compaction",
            self.bytes_written.clone(),
        );
        registry.register(
            "compaction_bytes_removed",
            "Bytes by which compaction made logs smaller",
            self.bytes_removed.clone(),
        );
        registry.register(
            "compaction_records_removed",
            "Records that compaction took away",
            self.records_removed.clone(),
        );
        registry.register(
            "compaction_seconds",
            "Time spent on compaction, waiting for its limit included",
            self.seconds.clone(),
        );
        registry.register(
            "compaction_last_run_milliseconds",
            "Time that the last run took",
            self.last_run_ms.clone(),
        );
        registry.register(
            "compaction_in_progress",
            "Runs of compaction under way",
            self.in_progress.clone(),
        );
    }

    pub(super) fn began(&self) {
        self.in_progress.inc();
    }

    pub(super) fn is_over(&self) {
        self.in_progress.dec();
    }

    pub(super) fn ended(&self, result: &Result<CompactionReport, StorageError>, took: Duration) {
        let end = match result {
            Ok(report) => match report.end {
                CompactionEnd::Nothing => return,
                CompactionEnd::Complete => "complete",
                CompactionEnd::MapFull => "map_full",
                CompactionEnd::Interrupted => "interrupted",
            },
            Err(StorageError::Closed { .. }) => "interrupted",
            Err(_) => "failed",
        };
        self.runs.get_or_create(&EndLabel { end }).inc();
        self.seconds.inc_by(took.as_secs_f64());
        self.last_run_ms
            .set(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        if let Ok(report) = result {
            self.bytes_read.inc_by(report.bytes_read);
            self.bytes_written.inc_by(report.bytes_written);
            self.bytes_removed
                .inc_by(report.bytes_before.saturating_sub(report.bytes_after));
            self.records_removed
                .inc_by(report.records_read.saturating_sub(report.records_kept));
        }
    }
}

/// Encodes what is read from the logs: their dirty ratios, and those that cannot be compacted.
pub(crate) fn encode(
    state: &BrokerState,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let logs = compacted(state);
    let uncleanable = state.compaction.uncleanable(&logs);
    let gauge = encoder.encode_descriptor(
        "compaction_uncleanable_partitions",
        "Partitions that could not be compacted: see the server's log",
        None,
        MetricType::Gauge,
    )?;
    ConstGauge::new(i64::try_from(uncleanable).unwrap_or(i64::MAX)).encode(gauge)?;
    let mut family = encoder.encode_descriptor(
        "partition_dirty_ratio",
        "Share of a compacted log's bytes that no run of compaction covered yet, of what it could cover",
        None,
        MetricType::Gauge,
    )?;
    let (now_ms, level) = (state.now_ms(), state.guard.level());
    let mut due = 0;
    for taken in &logs {
        // The cleaner says why: not once more for each scrape.
        let Ok(found) = candidate(taken, now_ms, level) else {
            continue;
        };
        due += i64::from(found.cleanable.is_due(found.min_dirty_ratio));
        let label = PartitionLabel {
            topic: taken.partition.topic.to_string(),
            partition: taken.partition.index,
        };
        let ratio = found.cleanable.dirty_ratio();
        ConstGauge::new(ratio).encode(family.encode_family(&label)?)?;
    }
    let gauge = encoder.encode_descriptor(
        "compaction_due_partitions",
        "Partitions that are due for compaction, those that are being compacted included",
        None,
        MetricType::Gauge,
    )?;
    ConstGauge::new(due).encode(gauge)?;
    Ok(())
}
