//! A histogram of durations that many threads count into without a lock.
//!
//! Invariant: the bounds are powers of two of the first, so that the bucket of a duration is found by
//! counting bits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The first bound, in ns.
const FIRST_NS: u64 = 50_000;

/// Buckets with a bound: 50 µs to 26 s. One more takes the rest.
const BOUNDED: usize = 20;

#[derive(Debug, Default)]
struct Counts {
    buckets: [AtomicU64; BOUNDED + 1],
    /// Wraps after 584 years.
    sum_ns: AtomicU64,
}

/// Durations from 50 µs to 26 s, in buckets that double. A clone counts into the same buckets.
#[derive(Clone, Debug, Default)]
pub struct LatencyHistogram(Arc<Counts>);

impl LatencyHistogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// The first bucket whose bound is not below `ns`.
fn bucket(ns: u64) -> usize {
    let firsts = ns.div_ceil(FIRST_NS).max(1);
    let bits = u64::BITS - (firsts - 1).leading_zeros();
    (bits as usize).min(BOUNDED)
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut count = 0;
        let mut buckets = [(f64::INFINITY, 0); BOUNDED + 1];
        for (at, (slot, counted)) in buckets.iter_mut().zip(&self.0.buckets).enumerate() {
            slot.1 = counted.load(Ordering::Relaxed);
            count += slot.1;
            if at < BOUNDED {
                slot.0 = (FIRST_NS << at) as f64 / 1e9;
            }
        }
        let sum = self.0.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_duration_is_counted_below_the_first_bound_that_holds_it() {
        assert_eq!(bucket(0), 0);
        for at in 0..BOUNDED {
            let bound = FIRST_NS << at;
            assert_eq!((bucket(bound), bucket(bound + 1)), (at, at + 1));
        }
        assert_eq!(bucket(u64::MAX), BOUNDED);
    }

    #[test]
    fn it_is_shown_as_a_histogram_of_seconds() {
        let histogram = LatencyHistogram::default();
        for us in [10, 60, 100, 60_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut registry = Registry::default();
        registry.register("t", "Time", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE t histogram",
            "t_count 4",
            "t_bucket{le=\"0.00005\"} 1",
            "t_bucket{le=\"0.0001\"} 3",
            "t_bucket{le=\"26.2144\"} 3",
            "t_bucket{le=\"+Inf\"} 4",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
