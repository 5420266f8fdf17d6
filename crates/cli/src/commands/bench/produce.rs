//! `dlog bench produce`: batches are made once, so that the broker is what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use dlog_client::{Connection, Prepared};
use hdrhistogram::Histogram;
use kafka_protocol::messages::ProduceRequest;
use tokio::task::JoinSet;

use super::load::{self, Lane, LoadArgs, PRODUCE_VERSION};
use super::pace::Pace;
use super::report::{Report, histogram, record, watched};
use crate::commands::remote::RemoteArgs;

/// One request at a time of a connection; a connection has as many as may be under way.
struct Worker {
    connection: Arc<Connection>,
    source: Source,
    acks: i16,
    batch_records: u64,
    pace: Pace,
    /// What was sent before does not count.
    counts_from: Instant,
    records: Arc<AtomicU64>,
}

/// Where requests come from.
#[derive(Clone)]
enum Source {
    /// Made once, one for each partition.
    Prepared(Arc<Vec<Prepared<ProduceRequest>>>),
    /// Made one by one, since their keys differ.
    Keyed {
        load: Arc<LoadArgs>,
        values: Arc<Vec<Vec<u8>>>,
        partitions: Arc<Vec<i32>>,
        keys: u64,
    },
}

impl Source {
    fn new(load: &Arc<LoadArgs>, values: &Arc<Vec<Vec<u8>>>, lane: &Lane) -> Result<Self> {
        if let Some(keys) = load.keys {
            return Ok(Self::Keyed {
                load: load.clone(),
                values: values.clone(),
                partitions: lane.partitions.clone(),
                keys,
            });
        }
        let batch = load.batch(None, values)?;
        let requests: Result<Vec<_>, _> = lane
            .partitions
            .iter()
            .map(|partition| {
                let request = load.request(*partition, batch.clone());
                lane.connection.prepare(&request, PRODUCE_VERSION)
            })
            .collect();
        Ok(Self::Prepared(Arc::new(requests?)))
    }

    /// Request `number` of the load.
    fn request(&self, connection: &Connection, number: u64) -> Result<Prepared<ProduceRequest>> {
        match self {
            Self::Prepared(requests) => Ok(requests[number as usize % requests.len()].clone()),
            Self::Keyed {
                load,
                values,
                partitions,
                keys,
            } => {
                let batch = load.keyed_batch(*keys, number, values)?;
                let partition = partitions[number as usize % partitions.len()];
                let request = load.request(partition, batch);
                Ok(connection.prepare(&request, PRODUCE_VERSION)?)
            }
        }
    }
}

impl Worker {
    async fn run(self) -> Result<(Histogram<u64>, Instant)> {
        let mut latencies = histogram()?;
        while let Some((number, from)) = self.pace.next().await {
            let request = self.source.request(&self.connection, number)?;
            load::send(&self.connection, self.acks, &request).await?;
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
    let (load, values) = (Arc::new(load.clone()), Arc::new(load.values()));
    let sources: Result<Vec<_>> = lanes
        .iter()
        .map(|lane| Source::new(&load, &values, lane))
        .collect();
    let sources = sources?;
    let records = Arc::new(AtomicU64::new(0));
    let pace = Pace::start(load.rate.map(|rate| load.batch_rate(rate)), load.length());
    let counts_from = pace.due(0) + Duration::from_secs(load.warmup);
    let mut workers = JoinSet::new();
    for (lane, source) in lanes.iter().zip(sources) {
        for _ in 0..load.in_flight {
            let worker = Worker {
                connection: lane.connection.clone(),
                source: source.clone(),
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
    let report = Report::new(
        "produce",
        load.topic.clone(),
        (records, bytes),
        ended - counts_from,
    )
    .latencies(&latencies);
    Ok(report.missed(&pace, load.batch_records))
}
