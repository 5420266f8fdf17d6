//! `dlog bench fetch`: everything that a topic has when it begins, read by each consumer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use dlog_client::{Consumer, ConsumerConfig, Position};
use tokio::task::JoinSet;

use super::report::{Report, watched};
use crate::commands::remote::RemoteArgs;

#[derive(Args, Clone, Debug)]
pub(super) struct FetchArgs {
    /// Topic.
    topic: String,
    /// Consumers, each of all partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    consumers: u32,
    /// Stop after this many seconds, even when records are left.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// Most bytes of one answer.
    #[arg(long, default_value_t = 32 << 20, value_parser = clap::value_parser!(i32).range(1..=128 << 20))]
    max_bytes: i32,
    /// Most bytes of one partition in an answer.
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(i32).range(1..=128 << 20))]
    partition_max_bytes: i32,
}

#[derive(Default)]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Offsets gone over, of what is to be read.
    offsets: AtomicU64,
}

/// One consumer; knows the ends that the topic has now.
struct Reader {
    consumer: Consumer,
    ends: BTreeMap<i32, i64>,
}

impl Reader {
    fn left(&self) -> u64 {
        let left = self.consumer.positions().map(|(partition, next)| {
            let end = self.ends.get(&partition).copied().unwrap_or(next);
            u64::try_from(end - next).unwrap_or(0)
        });
        left.sum()
    }

    /// Reads up to the ends; gives the time when it was there.
    async fn run(mut self, counts: Arc<Counts>, deadline: Instant) -> Result<Instant> {
        let mut left = self.left();
        while left > 0 && Instant::now() < deadline {
            for fetched in self.consumer.poll().await? {
                let (mut records, mut bytes) = (0, 0);
                for batch in &fetched.batches {
                    records += u64::try_from(batch.header().record_count).unwrap_or(0);
                    bytes += batch.bytes().len() as u64;
                }
                counts.records.fetch_add(records, Ordering::Relaxed);
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                let end = self.ends.get(&fetched.partition);
                if end.is_some_and(|end| fetched.next_offset() >= *end) {
                    self.consumer.drop_partition(fetched.partition);
                }
            }
            let now_left = self.left();
            counts
                .offsets
                .fetch_add(left.saturating_sub(now_left), Ordering::Relaxed);
            left = now_left;
        }
        Ok(Instant::now())
    }
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, arguments: FetchArgs) -> Result<Report> {
    let config = ConsumerConfig {
        max_bytes: arguments.max_bytes,
        partition_max_bytes: arguments.partition_max_bytes,
        check_crcs: false,
        ..ConsumerConfig::default()
    };
    let topic = &arguments.topic;
    let mut readers = Vec::new();
    for _ in 0..arguments.consumers {
        // Each has connections of its own.
        let client = remote.connect().await?;
        let mut consumer =
            Consumer::new(client, topic, &[], Position::Beginning, config.clone()).await?;
        let ends = consumer.find(Position::End).await?;
        let empty: Vec<i32> = consumer
            .positions()
            .filter(|(partition, next)| ends.get(partition).is_none_or(|end| next >= end))
            .map(|(partition, _)| partition)
            .collect();
        empty
            .into_iter()
            .for_each(|partition| consumer.drop_partition(partition));
        readers.push(Reader { consumer, ends });
    }
    let total = readers.iter().map(Reader::left).sum();
    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let deadline = began + Duration::from_secs(arguments.seconds);
    let mut running = JoinSet::new();
    for reader in readers {
        running.spawn(reader.run(counts.clone(), deadline));
    }
    let mut ended = began;
    let gathering = async {
        while let Some(done) = running.join_next().await {
            ended = ended.max(done??);
        }
        anyhow::Ok(())
    };
    let done = || counts.offsets.load(Ordering::Relaxed);
    watched(total, done, &counts.records, gathering).await?;
    let read = (
        counts.records.load(Ordering::Relaxed),
        counts.bytes.load(Ordering::Relaxed),
    );
    Ok(Report::new("fetch", arguments.topic, read, ended - began))
}
