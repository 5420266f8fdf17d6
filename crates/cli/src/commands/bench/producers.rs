//! `dlog bench producers`: many idempotent producers that write one batch each and fall silent.
//!
//! What a broker remembers of them is the difference of its memory before and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use dlog_client::{ClientError, Connection};
use dlog_storage::record::BatchBuilder;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use tokio::task::JoinSet;

use super::load::{self, LoadArgs, PRODUCE_VERSION};
use super::pace::Pace;
use super::report::{Report, histogram, record, watched};
use crate::commands::remote::{RemoteArgs, now_ms};

/// Longest run; producers are counted, not timed.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Args, Clone, Debug)]
pub(super) struct ProducersArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Producers, over all partitions.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    producers: u64,
}

/// A producer gets its id and writes one batch.
async fn write_once(connection: &Connection, load: &LoadArgs, partition: i32) -> Result<Duration> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answer = loop {
        let answer = connection.call(&request, 4).await?;
        match ClientError::check(answer.error_code, || "a producer id".to_owned(), None) {
            Ok(()) => break answer,
            Err(error) if error.is_retriable() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let mut builder = BatchBuilder::new().producer(answer.producer_id.0, answer.producer_epoch, 0);
    builder.push(now_ms(), None, Some(&[b'v'; 16]), &[])?;
    let request = load.request(partition, builder.build()?);
    let request = connection.prepare::<ProduceRequest>(&request, PRODUCE_VERSION)?;
    let began = Instant::now();
    load::send(connection, -1, &request).await?;
    Ok(began.elapsed())
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, arguments: ProducersArgs) -> Result<Report> {
    let ProducersArgs { load, producers } = arguments;
    let client = remote.connect().await?;
    let lanes = load::lanes(&client, &load).await?;
    let records = Arc::new(AtomicU64::new(0));
    let pace = Pace::start(None, LONGEST);
    let mut workers = JoinSet::new();
    for lane in &lanes {
        for _ in 0..load.in_flight {
            let (connection, partitions) = (lane.connection.clone(), lane.partitions.clone());
            let (load, pace, records) = (load.clone(), pace.clone(), records.clone());
            workers.spawn(async move {
                let mut latencies = histogram()?;
                while let Some((number, _)) = pace.next().await.filter(|(n, _)| *n < producers) {
                    let partition = partitions[number as usize % partitions.len()];
                    let took = write_once(&connection, &load, partition).await?;
                    record(&mut latencies, took);
                    records.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(latencies)
            });
        }
    }
    let began = Instant::now();
    let mut latencies = histogram()?;
    let gathering = async {
        while let Some(done) = workers.join_next().await {
            latencies.add(done??)?;
        }
        anyhow::Ok(())
    };
    watched(
        producers,
        || records.load(Ordering::Relaxed),
        &records,
        gathering,
    )
    .await?;
    let records = records.load(Ordering::Relaxed);
    let report = Report::new(
        "producers",
        load.topic,
        (records, records * 16),
        began.elapsed(),
    );
    Ok(report.latencies(&latencies))
}
