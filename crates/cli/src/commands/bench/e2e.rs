//! `dlog bench e2e`: from when a batch was due until a consumer has it.
//!
//! A batch's key says which run and which batch of it this is. The consumer has a connection of its own
//! and goes on until it has seen every acknowledged batch, so that the slowest are not left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dlog_client::{Consumer, ConsumerConfig, Position};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::load::{self, Lane, LoadArgs, PRODUCE_VERSION};
use super::pace::Pace;
use super::report::{Report, histogram, record, watched};
use crate::commands::remote::RemoteArgs;

/// Records a second when none are asked for.
const DEFAULT_RATE: u64 = 1000;

/// Run and number of a batch, as its key.
fn key(run: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn number_of(run: u64, key: Option<&[u8]>) -> Option<u64> {
    let (of, number) = key?.split_first_chunk::<8>()?;
    let number = number.try_into().ok().map(u64::from_be_bytes)?;
    (u64::from_be_bytes(*of) == run).then_some(number)
}

async fn send_batches(
    lane: Arc<Lane>,
    load: LoadArgs,
    values: Arc<Vec<Vec<u8>>>,
    pace: Pace,
    run: u64,
) -> Result<u64> {
    let mut sent = 0;
    while let Some((number, _)) = pace.next().await {
        let batch = load.batch(Some(&key(run, number)), &values)?;
        let partition = lane.partitions[number as usize % lane.partitions.len()];
        let request = load.request(partition, batch);
        let request = lane.connection.prepare(&request, PRODUCE_VERSION)?;
        load::send(&lane.connection, load.acks, &request).await?;
        sent += 1;
    }
    Ok(sent)
}

struct Receiver {
    consumer: Consumer,
    topic: String,
    run: u64,
    pace: Pace,
    counts_from: Instant,
    batch_records: u64,
    records: Arc<AtomicU64>,
}

impl Receiver {
    /// Receives until as many batches came as `sent` says in the end.
    async fn run(
        mut self,
        mut sent: watch::Receiver<Option<u64>>,
    ) -> Result<(Histogram<u64>, Instant)> {
        let mut latencies = histogram()?;
        let mut received = 0;
        let mut last = self.counts_from;
        while sent.borrow_and_update().is_none_or(|sent| received < sent) {
            for fetched in self.consumer.poll().await? {
                let now = Instant::now();
                for batch in &fetched.batches {
                    let Some(first) = batch.records()?.next().transpose()? else {
                        continue;
                    };
                    // Others may write to the topic too.
                    let Some(number) = number_of(self.run, first.key.as_deref()) else {
                        continue;
                    };
                    received += 1;
                    let due = self.pace.due(number);
                    if due >= self.counts_from {
                        record(&mut latencies, now.saturating_duration_since(due));
                        self.records
                            .fetch_add(self.batch_records, Ordering::Relaxed);
                        last = now;
                    }
                }
            }
        }
        tracing::debug!(topic = %self.topic, received, "all batches came back");
        Ok((latencies, last))
    }
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, load: LoadArgs) -> Result<Report> {
    let client = remote.connect().await?;
    let lanes = load::lanes(&client, &load).await?;
    let config = ConsumerConfig {
        check_crcs: false,
        ..ConsumerConfig::default()
    };
    // Its long polls must not hold up the producer's requests.
    let own = remote.connect().await?;
    let consumer = Consumer::new(own, &load.topic, &[], Position::End, config).await?;
    let records = Arc::new(AtomicU64::new(0));
    let values = Arc::new(load.values());
    let run = crate::commands::remote::now_ms() as u64 ^ u64::from(std::process::id()) << 44;
    let rate = load.batch_rate(load.rate.unwrap_or(DEFAULT_RATE));
    let pace = Pace::start(Some(rate), load.length());
    let counts_from = pace.due(0) + Duration::from_secs(load.warmup);
    let (sent, sent_in_the_end) = watch::channel(None);
    let receiver = Receiver {
        consumer,
        topic: load.topic.clone(),
        run,
        pace: pace.clone(),
        counts_from,
        batch_records: u64::from(load.batch_records),
        records: records.clone(),
    };
    let receiving = tokio::spawn(receiver.run(sent_in_the_end));
    let mut senders = JoinSet::new();
    for lane in lanes.into_iter().map(Arc::new) {
        for _ in 0..load.in_flight {
            let (load, values, pace) = (load.clone(), values.clone(), pace.clone());
            senders.spawn(send_batches(lane.clone(), load, values, pace, run));
        }
    }
    let work = async {
        let mut all = 0;
        while let Some(done) = senders.join_next().await {
            all += done??;
        }
        sent.send_replace(Some(all));
        match tokio::time::timeout(client.timeout(), receiving).await {
            Ok(received) => received?,
            Err(_) => bail!("not every acknowledged batch came back within --timeout"),
        }
    };
    let total_ms = u64::try_from(load.length().as_millis()).unwrap_or(u64::MAX);
    let (latencies, last) = watched(total_ms, || pace.elapsed_ms(), &records, work).await?;
    let records = records.load(Ordering::Relaxed);
    let bytes = records * u64::from(load.record_bytes);
    let report =
        Report::new("e2e", load.topic, (records, bytes), last - counts_from).latencies(&latencies);
    Ok(report.missed(&pace, load.batch_records))
}
