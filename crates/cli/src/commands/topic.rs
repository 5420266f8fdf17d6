//! `dlog topic`: create, list, describe, alter and delete topics of any Kafka cluster.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use dlog_client::{Client, ClientError, Position, TopicInfo};
use kafka_protocol::ResponseError;
use serde_json::json;

use super::remote::{self, EXIT_CODES, RemoteArgs, key_value};

/// Options of `dlog topic`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct TopicArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic.
    Create {
        /// Name.
        name: String,
        /// Number of partitions; the broker's default without it.
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Number of replicas; the broker's default without it.
        #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A setting, name=value; may be repeated.
        #[arg(short, long = "config", value_parser = key_value, value_name = "NAME=VALUE")]
        configs: Vec<(String, String)>,
        /// A topic of this name that exists already is no failure.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List the topics.
    List {
        /// Show those that the brokers use themselves too.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and settings.
    Describe {
        /// Name.
        name: String,
        /// Show settings that have their default too.
        #[arg(long)]
        all: bool,
    },
    /// Change a topic's settings, or its number of partitions.
    #[command(group = ArgGroup::new("change").args(["configs", "resets", "partitions"]).required(true).multiple(true))]
    Alter {
        /// Name.
        name: String,
        /// Set a setting, name=value; may be repeated.
        #[arg(short, long = "config", value_parser = key_value, value_name = "NAME=VALUE")]
        configs: Vec<(String, String)>,
        /// Give a setting its default again; may be repeated.
        #[arg(long = "reset", value_name = "NAME")]
        resets: Vec<String>,
        /// Grow to this many partitions.
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
    },
    /// Delete topics with all their records.
    Delete {
        /// Names.
        #[arg(required = true)]
        names: Vec<String>,
        /// A topic that does not exist is no failure.
        #[arg(long)]
        if_exists: bool,
    },
}

/// Runs `dlog topic`.
pub fn run(arguments: TopicArgs) -> Result<ExitCode> {
    let TopicArgs { remote, command } = arguments;
    remote::run(async move {
        match command {
            TopicCommand::Create {
                name,
                partitions,
                replicas,
                configs,
                if_not_exists,
            } => {
                let (partitions, replicas) = (partitions.unwrap_or(-1), replicas.unwrap_or(-1));
                let client = remote.connect().await?;
                let created = client
                    .create_topic(&name, partitions, replicas, &configs)
                    .await;
                let excused = ResponseError::TopicAlreadyExists;
                let what = match excuse(created, if_not_exists.then_some(excused))? {
                    true => "created",
                    false => "exists",
                };
                done(&remote, what, &name)?;
            }
            TopicCommand::List { internal } => list(&remote, internal).await?,
            TopicCommand::Describe { name, all } => describe(&remote, &name, all).await?,
            TopicCommand::Alter {
                name,
                configs,
                resets,
                partitions,
            } => {
                let set = configs.into_iter().map(|(name, value)| (name, Some(value)));
                let changes: Vec<_> = set
                    .chain(resets.into_iter().map(|name| (name, None)))
                    .collect();
                alter(&remote, &name, &changes, partitions).await?;
            }
            TopicCommand::Delete { names, if_exists } => {
                let client = remote.connect().await?;
                for name in names {
                    let deleted = client.delete_topic(&name).await;
                    let excused = ResponseError::UnknownTopicOrPartition;
                    let what = match excuse(deleted, if_exists.then_some(excused))? {
                        true => "deleted",
                        false => "missing",
                    };
                    done(&remote, what, &name)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Whether it was done; false when the broker refused with the one error that is no failure.
fn excuse(
    done: Result<(), ClientError>,
    excused: Option<ResponseError>,
) -> Result<bool, ClientError> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if excused.is_some() && error.response_error() == excused => Ok(false),
        Err(error) => Err(error),
    }
}

async fn alter(
    remote: &RemoteArgs,
    name: &str,
    changes: &[(String, Option<String>)],
    partitions: Option<i32>,
) -> Result<()> {
    let client = remote.connect().await?;
    // Some brokers take settings of a topic that does not exist for an unknown error.
    client.refresh(name, false).await?;
    if !changes.is_empty() {
        client.change_topic_settings(name, changes).await?;
    }
    if let Some(partitions) = partitions {
        client.add_partitions(name, partitions).await?;
    }
    done(remote, "altered", name)
}

fn done(remote: &RemoteArgs, what: &str, name: &str) -> Result<()> {
    if remote.json {
        return remote::print_json(&json!({ "topic": name, "result": what }));
    }
    writeln!(io::stdout(), "{what} topic {name}")?;
    Ok(())
}

async fn list(remote: &RemoteArgs, internal: bool) -> Result<()> {
    let topics = remote.connect().await?.topics().await?;
    for topic in topics.iter().filter(|topic| internal || !topic.internal) {
        if remote.json {
            remote::print_json(
                &json!({ "topic": topic.name, "partitions": topic.partitions.len() }),
            )?;
        } else {
            writeln!(io::stdout(), "{}", topic.name)?;
        }
    }
    Ok(())
}

async fn describe(remote: &RemoteArgs, name: &str, all: bool) -> Result<()> {
    let client = remote.connect().await?;
    let topic = client.refresh(name, false).await?;
    let settings = client.topic_settings(name).await?;
    // A partition without a leader has no offsets to tell.
    let led = topic
        .partitions
        .iter()
        .filter(|partition| partition.leader >= 0);
    let led: Vec<i32> = led.map(|partition| partition.index).collect();
    let first = known_offsets(&client, name, &led, Position::Beginning).await;
    let next = known_offsets(&client, name, &led, Position::End).await;
    let shown: Vec<_> = settings
        .iter()
        .filter(|setting| all || setting.is_set)
        .collect();
    if remote.json {
        let configs: serde_json::Map<_, _> = shown
            .iter()
            .map(|setting| (setting.name.clone(), json!(setting.value)))
            .collect();
        return remote::print_json(&json!({
            "topic": topic.name,
            "id": topic.id,
            "partitions": partitions_json(&topic, &first, &next),
            "configs": configs,
        }));
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "topic {}  id {}  partitions {}",
        topic.name,
        topic.id,
        topic.partitions.len()
    )?;
    for partition in &topic.partitions {
        writeln!(
            out,
            "  partition {}  leader {}  replicas {:?}  in sync {:?}  offsets {} to {}",
            partition.index,
            partition.leader,
            partition.replicas,
            partition.in_sync,
            shown_offset(&first, partition.index),
            shown_offset(&next, partition.index)
        )?;
    }
    for setting in shown {
        writeln!(
            out,
            "  {} = {}",
            setting.name,
            setting.value.as_deref().unwrap_or("(hidden or unset)")
        )?;
    }
    Ok(())
}

/// Offsets of the partitions that tell them: one that is offline must not hide the others.
async fn known_offsets(
    client: &Client,
    name: &str,
    partitions: &[i32],
    position: Position,
) -> BTreeMap<i32, i64> {
    if let Ok(offsets) = client.offsets(name, partitions, position, false).await {
        return offsets;
    }
    let mut known = BTreeMap::new();
    for partition in partitions {
        let offsets = client.offsets(name, &[*partition], position, false).await;
        known.extend(offsets.unwrap_or_default());
    }
    known
}

fn shown_offset(offsets: &BTreeMap<i32, i64>, partition: i32) -> String {
    let offset = offsets.get(&partition);
    offset.map_or_else(|| "?".to_owned(), i64::to_string)
}

fn partitions_json(
    topic: &TopicInfo,
    first: &BTreeMap<i32, i64>,
    next: &BTreeMap<i32, i64>,
) -> Vec<serde_json::Value> {
    let of = |partition: &dlog_client::PartitionInfo| {
        json!({
            "partition": partition.index,
            "leader": partition.leader,
            "replicas": partition.replicas,
            "in_sync": partition.in_sync,
            "first_offset": first.get(&partition.index),
            "next_offset": next.get(&partition.index),
        })
    };
    topic.partitions.iter().map(of).collect()
}
