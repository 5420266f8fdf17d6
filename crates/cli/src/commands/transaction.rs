//! `dlog transaction`: list, describe and abort transactions of any Kafka cluster.
//!
//! A transaction *hangs* when a partition has it open and its coordinator knows nothing of it: nobody will
//! ever end it, and readers of committed records stop there. That takes a client that breaks the protocol,
//! or a broker before KIP-890.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use dlog_client::{ActiveProducer, Client, TransactionFilter};
use serde_json::json;

use super::remote::{self, EXIT_CODES, RemoteArgs, now_ms};

/// Options of `dlog transaction`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct TransactionArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: TransactionCommand,
}

#[derive(Debug, Subcommand)]
enum TransactionCommand {
    /// List transactional ids.
    List {
        /// Only those in this state, for example Ongoing; may be repeated.
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
        /// Only those of this producer id; may be repeated.
        #[arg(long = "producer", value_name = "ID")]
        producer_ids: Vec<i64>,
        /// Only those that have been open for longer than so many ms.
        #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
        longer_than: Option<i64>,
        /// Only ids that this regular expression matches as a whole.
        #[arg(long, value_name = "REGEX")]
        matching: Option<String>,
    },
    /// Show a transactional id and its open transaction.
    Describe {
        /// The transactional id.
        id: String,
    },
    /// Show the producers that a partition remembers, with their open transactions.
    Producers {
        /// Topic.
        topic: String,
        /// Partition.
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
    },
    /// Find transactions that a partition has open and no coordinator knows.
    Hanging {
        /// Topic; all topics without it.
        topic: Option<String>,
        /// Only those whose producer has been silent for longer than so many ms.
        #[arg(long, value_name = "MS", default_value_t = 900_000, value_parser = clap::value_parser!(i64).range(0..))]
        longer_than: i64,
    },
    /// End an open transaction of one partition as aborted. Its records are then skipped by readers of
    /// committed records for good.
    Abort {
        /// Topic.
        topic: String,
        /// Partition.
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// First offset of the transaction, as `producers` and `hanging` show it.
        #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
        start_offset: i64,
    },
}

/// Runs `dlog transaction`.
pub fn run(arguments: TransactionArgs) -> Result<ExitCode> {
    let TransactionArgs { remote, command } = arguments;
    remote::run(async move {
        let client = remote.connect().await?;
        match command {
            TransactionCommand::List {
                states,
                producer_ids,
                longer_than,
                matching,
            } => {
                let filter = TransactionFilter {
                    states,
                    producer_ids,
                    longer_than_ms: longer_than,
                    pattern: matching,
                };
                list(&remote, &client, &filter).await?;
            }
            TransactionCommand::Describe { id } => describe(&remote, &client, &id).await?,
            TransactionCommand::Producers { topic, partition } => {
                for producer in client.active_producers(&topic, partition).await? {
                    show_producer(&remote, &topic, partition, &producer)?;
                }
            }
            TransactionCommand::Hanging { topic, longer_than } => {
                hanging(&remote, &client, topic, longer_than).await?;
            }
            TransactionCommand::Abort {
                topic,
                partition,
                start_offset,
            } => abort(&remote, &client, &topic, partition, start_offset).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(remote: &RemoteArgs, client: &Client, filter: &TransactionFilter) -> Result<()> {
    for one in client.transactions(filter).await? {
        if remote.json {
            remote::print_json(&json!({
                "transactional_id": one.transactional_id,
                "coordinator": one.coordinator,
                "producer_id": one.producer_id,
                "state": one.state,
            }))?;
        } else {
            writeln!(
                io::stdout(),
                "{}  {}  producer {}  coordinator {}",
                one.transactional_id,
                one.state,
                one.producer_id,
                one.coordinator
            )?;
        }
    }
    Ok(())
}

async fn describe(remote: &RemoteArgs, client: &Client, id: &str) -> Result<()> {
    let info = client.transaction(id).await?;
    // A finished one keeps the time that it began at.
    let is_open = info.state == "Ongoing" || info.state.starts_with("Prepare");
    let start_ms = (is_open && info.start_ms >= 0).then_some(info.start_ms);
    let open_for_ms = start_ms.map(|start_ms| now_ms() - start_ms);
    if remote.json {
        return remote::print_json(&json!({
            "transactional_id": info.transactional_id,
            "state": info.state,
            "producer_id": info.producer_id,
            "producer_epoch": info.producer_epoch,
            "timeout_ms": info.timeout_ms,
            "start_ms": start_ms,
            "open_for_ms": open_for_ms,
            "partitions": info.partitions,
        }));
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}  {}  producer {}  epoch {}  timeout {} ms",
        info.transactional_id, info.state, info.producer_id, info.producer_epoch, info.timeout_ms
    )?;
    if let Some(open_for_ms) = open_for_ms {
        writeln!(out, "  open for {open_for_ms} ms")?;
    }
    for (topic, partitions) in &info.partitions {
        writeln!(out, "  {topic}  partitions {partitions:?}")?;
    }
    Ok(())
}

fn show_producer(
    remote: &RemoteArgs,
    topic: &str,
    partition: i32,
    producer: &ActiveProducer,
) -> Result<()> {
    if remote.json {
        return remote::print_json(&json!({
            "topic": topic,
            "partition": partition,
            "producer_id": producer.producer_id,
            "producer_epoch": producer.epoch,
            "last_sequence": producer.last_sequence,
            "last_timestamp_ms": producer.last_timestamp_ms,
            "coordinator_epoch": producer.coordinator_epoch,
            "start_offset": producer.transaction_start,
        }));
    }
    let open = producer.transaction_start;
    let open = open.map_or_else(String::new, |at| format!("  open from offset {at}"));
    writeln!(
        io::stdout(),
        "{topic}-{partition}  producer {}  epoch {}  last sequence {}  last wrote {}{open}",
        producer.producer_id,
        producer.epoch,
        producer.last_sequence,
        producer.last_timestamp_ms
    )?;
    Ok(())
}

async fn hanging(
    remote: &RemoteArgs,
    client: &Client,
    topic: Option<String>,
    longer_than_ms: i64,
) -> Result<()> {
    let topics = match topic {
        Some(name) => vec![client.refresh(&name, false).await?],
        None => client.topics().await?,
    };
    let before_ms = now_ms().saturating_sub(longer_than_ms);
    for topic in topics {
        for partition in topic.partitions.iter().filter(|one| one.leader >= 0) {
            for producer in client
                .active_producers(&topic.name, partition.index)
                .await?
            {
                let silent = producer.last_timestamp_ms <= before_ms;
                if producer.transaction_start.is_some()
                    && silent
                    && !is_known(client, &topic.name, partition.index, &producer).await?
                {
                    show_producer(remote, &topic.name, partition.index, &producer)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a coordinator has this partition in a transaction of the producer.
async fn is_known(
    client: &Client,
    topic: &str,
    partition: i32,
    producer: &ActiveProducer,
) -> Result<bool> {
    let filter = TransactionFilter {
        producer_ids: vec![producer.producer_id],
        ..TransactionFilter::default()
    };
    for listed in client.transactions(&filter).await? {
        let info = client.transaction(&listed.transactional_id).await?;
        let has = info.partitions.get(topic);
        if has.is_some_and(|partitions| partitions.contains(&partition)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn abort(
    remote: &RemoteArgs,
    client: &Client,
    topic: &str,
    partition: i32,
    start_offset: i64,
) -> Result<()> {
    let producers = client.active_producers(topic, partition).await?;
    let Some(producer) = producers
        .iter()
        .find(|producer| producer.transaction_start == Some(start_offset))
    else {
        bail!(
            "{topic}-{partition} has no open transaction that begins at offset {start_offset}; \
             `dlog transaction producers {topic} -p {partition}` shows those that are open"
        );
    };
    client
        .abort_in_partition(topic, partition, producer)
        .await?;
    if remote.json {
        return remote::print_json(&json!({
            "topic": topic,
            "partition": partition,
            "start_offset": start_offset,
            "result": "aborted",
        }));
    }
    writeln!(
        io::stdout(),
        "aborted the transaction of producer {} in {topic}-{partition}",
        producer.producer_id
    )?;
    Ok(())
}
