//! `dlog topic`: create, list, describe, alter and delete topics of any Kafka cluster.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use dlog_client::TopicInfo;
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
        #[arg(short, long, default_value_t = -1, hide_default_value = true)]
        partitions: i32,
        /// Number of replicas; the broker's default without it.
        #[arg(short, long, default_value_t = -1, hide_default_value = true)]
        replicas: i16,
        /// A setting, name=value; may be repeated.
        #[arg(short, long = "config", value_parser = key_value, value_name = "NAME=VALUE")]
        configs: Vec<(String, String)>,
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
        #[arg(short, long)]
        partitions: Option<i32>,
    },
    /// Delete a topic with all its records.
    Delete {
        /// Name.
        name: String,
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
            } => {
                remote
                    .connect()
                    .await?
                    .create_topic(&name, partitions, replicas, &configs)
                    .await?;
                done(&remote, "created", &name)
            }
            TopicCommand::List { internal } => list(&remote, internal).await,
            TopicCommand::Describe { name, all } => describe(&remote, &name, all).await,
            TopicCommand::Alter {
                name,
                configs,
                resets,
                partitions,
            } => {
                let client = remote.connect().await?;
                let set = configs.into_iter().map(|(name, value)| (name, Some(value)));
                let changes: Vec<_> = set
                    .chain(resets.into_iter().map(|name| (name, None)))
                    .collect();
                if changes.is_empty() && partitions.is_none() {
                    anyhow::bail!("nothing to change: give --config, --reset or --partitions");
                }
                if !changes.is_empty() {
                    client.change_topic_settings(&name, &changes).await?;
                }
                if let Some(partitions) = partitions {
                    client.add_partitions(&name, partitions).await?;
                }
                done(&remote, "altered", &name)
            }
            TopicCommand::Delete { name } => {
                remote.connect().await?.delete_topic(&name).await?;
                done(&remote, "deleted", &name)
            }
        }
    })
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
            "partitions": partitions_json(&topic),
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
            "  partition {}  leader {}  replicas {:?}  in sync {:?}",
            partition.index, partition.leader, partition.replicas, partition.in_sync
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

fn partitions_json(topic: &TopicInfo) -> Vec<serde_json::Value> {
    let of = |partition: &dlog_client::PartitionInfo| {
        json!({
            "partition": partition.index,
            "leader": partition.leader,
            "replicas": partition.replicas,
            "in_sync": partition.in_sync,
        })
    };
    topic.partitions.iter().map(of).collect()
}
