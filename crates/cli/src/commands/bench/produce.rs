//! `dlog bench produce`: batches are made once, so that the broker is what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use dlog_client::{Connection, Prepared};
use hdrhistogram::Histogram;
use kafka_protocol::messages::ProduceRequest;
use tokio::task::JoinSet;

use super::load::{self, LoadArgs, PRODUCE_VERSION};
use super::pace::Pace;
use super::report::{Report, histogram, record, watched};
use crate::commands::remote::RemoteArgs;

/// One request at a time of a connection; a connection has as many as may be under way.
struct Worker {
    connection: Arc<Connection>,
    requests: Arc<Vec<Prepared<ProduceRequest>>>,
    acks: i16,
    batch_records: u64,
    pace: Pace,
    /// What was sent before does not count.
    counts_from: Instant,
    records: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self) -> Result<(Histogram<u64>, Instant)> {
        let mut latencies = histogram()?;
        while let Some((number, from)) = self.pace.next().await {
            let request = &self.requests[number as usize % self.requests.len()];
            load::send(&self.connection, self.acks, request).await?;
            if from >= self.counts_from {
                if self.acks != 0 {
                    record(&mut latencies, from.elapsed());
                }
                self.records
                    .fetch_add(self.batch_records, Ordering::Relaxed);
            }
        }
        Ok((latencies, Instant::now()))
    }
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, load: LoadArgs) -> Result<Report> {
    let client = remote.connect().await?;
    let lanes = load::lanes(&client, &load).await?;
    let batch = load.batch(None, &load.values())?;
    let mut prepared = Vec::with_capacity(lanes.len());
    for lane in &lanes {
        let partitions = lane.partitions.iter();
        let requests: Result<Vec<_>, _> = partitions
            .map(|partition| {
                let request = load.request(*partition, batch.clone());
                lane.connection.prepare(&request, PRODUCE_VERSION)
            })
            .collect();
        prepared.push(Arc::new(requests?));
    }
    let records = Arc::new(AtomicU64::new(0));
    let pace = Pace::start(load.rate.map(|rate| load.batch_rate(rate)), load.length());
    let counts_from = pace.due(0) + Duration::from_secs(load.warmup);
    let mut workers = JoinSet::new();
    for (lane, requests) in lanes.iter().zip(prepared) {
        for _ in 0..load.in_flight {
            let worker = Worker {
                connection: lane.connection.clone(),
                requests: requests.clone(),
                acks: load.acks,
                batch_records: u64::from(load.batch_records),
                pace: pace.clone(),
                counts_from,
                records: records.clone(),
            };
            workers.spawn(worker.run());
        }
    }
    let mut latencies = histogram()?;
    let mut ended = counts_from;
    let gathering = async {
        while let Some(done) = workers.join_next().await {
            let (measured, end) = done??;
            latencies.add(measured)?;
            ended = ended.max(end);
        }
        anyhow::Ok(())
    };
    let total_ms = u64::try_from(load.length().as_millis()).unwrap_or(u64::MAX);
    watched(total_ms, || pace.elapsed_ms(), &records, gathering).await?;
    let records = records.load(Ordering::Relaxed);
    let bytes = records * u64::from(load.record_bytes);
    let mut report = Report::new("produce", load.topic, (records, bytes), ended - counts_from)
        .latencies(&latencies);
    let missed = pace.missed();
    report.missed_records = missed.map(|batches| batches * u64::from(load.batch_records));
    Ok(report)
}
