//! What a run measured, and how it is shown while it goes on and at its end.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::pace::Pace;
use crate::commands::remote::{self, RemoteArgs};

/// What a run measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Which measurement.
    pub bench: &'static str,
    /// Topic.
    pub topic: String,
    /// Records in the measured time.
    pub records: u64,
    /// Their bytes: values for a produce, batches as they travel for a fetch.
    pub bytes: u64,
    /// Length of the measured time.
    pub seconds: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Millions of bytes a second.
    pub mb_per_s: f64,
    /// With a rate: records that were due but that the broker left no room to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_records: Option<u64>,
    /// Latency of batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
    /// Of transactions: from the request to commit until its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_us: Option<Latency>,
}

/// Latency of batches or commits, in us.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Report {
    /// A report of `bytes` in `records` within `measured`.
    pub(super) fn new(
        bench: &'static str,
        topic: String,
        (records, bytes): (u64, u64),
        measured: Duration,
    ) -> Self {
        // A run of no time at all has no rate either.
        let seconds = measured.as_secs_f64().max(1e-6);
        Self {
            bench,
            topic,
            records,
            bytes,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / 1e6 / seconds,
            missed_records: None,
            latency_us: None,
            commit_us: None,
        }
    }

    /// Adds latencies, if there are any.
    pub(super) fn latencies(mut self, of: &Histogram<u64>) -> Self {
        self.latency_us = Latency::of(of);
        self
    }

    /// Adds what was due and never sent, where there was a rate.
    pub(super) fn missed(mut self, pace: &Pace, batch_records: u32) -> Self {
        let batches = pace.missed();
        self.missed_records = batches.map(|batches| batches * u64::from(batch_records));
        self
    }

    /// Adds latencies of commits, if there are any.
    pub(super) fn commits(mut self, of: &Histogram<u64>) -> Self {
        self.commit_us = Latency::of(of);
        self
    }

    pub(super) fn print(&self, remote: &RemoteArgs) -> Result<()> {
        if remote.json {
            return remote::print_json(self);
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{} records in {:.2} s: {:.0} records/s, {:.1} MB/s",
            self.records, self.seconds, self.records_per_s, self.mb_per_s
        )?;
        if let Some(missed) = self.missed_records.filter(|missed| *missed > 0) {
            writeln!(
                out,
                "{missed} records were due but not sent: the rate was not reached"
            )?;
        }
        for (what, latency) in [("batches", &self.latency_us), ("commits", &self.commit_us)] {
            if let Some(latency) = latency {
                writeln!(out, "{what}: {latency}")?;
            }
        }
        Ok(())
    }
}

impl Latency {
    /// Of what was measured, if anything was.
    pub(super) fn of(latencies: &Histogram<u64>) -> Option<Self> {
        (!latencies.is_empty()).then(|| Self {
            count: latencies.len(),
            mean: latencies.mean(),
            p50: latencies.value_at_quantile(0.5),
            p90: latencies.value_at_quantile(0.9),
            p99: latencies.value_at_quantile(0.99),
            p99_9: latencies.value_at_quantile(0.999),
            max: latencies.max(),
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "latency of {}: mean {:.0} us, p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
            self.count, self.mean, self.p50, self.p90, self.p99, self.p99_9, self.max
        )
    }
}

/// A histogram from 1 us to 1 min with three significant digits; what is beyond counts as the ends.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")
}

/// Adds a latency to a histogram.
pub(super) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(us.max(1));
}

/// Shows progress on a terminal while work goes on: of `total` units, of which `done` are done.
pub(super) async fn watched<T>(
    total: u64,
    done: impl Fn() -> u64,
    records: &AtomicU64,
    work: impl Future<Output = T>,
) -> T {
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new(total)
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}% {msg}") {
        bar.set_style(style);
    }
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            bar.set_position(done());
            bar.set_message(format!("{} records", records.load(Ordering::Relaxed)));
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        never = ticking => never,
    };
    bar.finish_and_clear();
    ended
}
