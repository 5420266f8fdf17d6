//! `dlog group`: list, describe and delete groups of any Kafka cluster, and move what they have committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, Subcommand};
use dlog_client::{Client, CommittedOffsets, GroupInfo, Partitions, Position};
use serde_json::json;

use super::remote::{self, EXIT_CODES, RemoteArgs, now_ms};

/// Options of `dlog group`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct GroupArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups.
    List {
        /// Only those in this state, for example Stable; may be repeated.
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
        /// Only those of this type: classic, consumer or share; may be repeated.
        #[arg(long = "type", value_name = "TYPE")]
        kinds: Vec<String>,
    },
    /// Show a group with its members, its offsets and how far behind they are.
    Describe {
        /// The group.
        group: String,
    },
    /// Delete groups that nobody is in, with their offsets.
    Delete {
        /// The groups.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Move the offsets of a group that nobody is in. Shows what it would do, unless --execute is given.
    ResetOffsets(ResetArgs),
    /// Forget offsets of topics that the group does not read.
    DeleteOffsets {
        /// The group.
        group: String,
        /// Topic, or topic:partition,partition; may be repeated.
        #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", required = true, value_parser = topic_partitions)]
        topics: Vec<(String, Vec<i32>)>,
    },
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").args(["topics", "all_topics"]).required(true))]
#[command(group = ArgGroup::new("to").args([
    "to_earliest", "to_latest", "to_current", "to_offset", "shift_by", "to_timestamp", "by_duration",
]).required(true))]
struct ResetArgs {
    /// The group.
    group: String,
    /// Topic, or topic:partition,partition; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", value_parser = topic_partitions)]
    topics: Vec<(String, Vec<i32>)>,
    /// All topics that the group has offsets of.
    #[arg(long)]
    all_topics: bool,
    /// To the oldest record there is.
    #[arg(long)]
    to_earliest: bool,
    /// Behind the newest record.
    #[arg(long)]
    to_latest: bool,
    /// To where the group is; behind the newest record where it has no offset.
    #[arg(long)]
    to_current: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// By so many records, forward or (below zero) back.
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record of this time or later, Unix ms.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    to_timestamp: Option<i64>,
    /// To the first record that is at most so many ms old.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    by_duration: Option<i64>,
    /// Do it.
    #[arg(long)]
    execute: bool,
}

/// `topic` or `topic:0,1`, for clap. No partitions stand for all.
fn topic_partitions(text: &str) -> Result<(String, Vec<i32>), String> {
    let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
    if topic.is_empty() {
        return Err(format!("{text:?} names no topic"));
    }
    let parse = |one: &str| match one.trim().parse::<i32>() {
        Ok(partition) if partition >= 0 => Ok(partition),
        _ => Err(format!("{one:?} is no partition")),
    };
    let partitions = partitions.split(',').filter(|one| !one.is_empty());
    Ok((
        topic.to_owned(),
        partitions.map(parse).collect::<Result<_, _>>()?,
    ))
}

/// Runs `dlog group`.
pub fn run(arguments: GroupArgs) -> Result<ExitCode> {
    let GroupArgs { remote, command } = arguments;
    remote::run(async move {
        let client = remote.connect().await?;
        match command {
            GroupCommand::List { states, kinds } => list(&remote, &client, &states, &kinds).await?,
            GroupCommand::Describe { group } => describe(&remote, &client, &group).await?,
            GroupCommand::Delete { groups } => {
                for group in groups {
                    client.delete_group(&group).await?;
                    done(&remote, "deleted", &group)?;
                }
            }
            GroupCommand::ResetOffsets(arguments) => reset(&remote, &client, &arguments).await?,
            GroupCommand::DeleteOffsets { group, topics } => {
                let partitions = resolve(&client, &topics).await?;
                client.delete_offsets(&group, &partitions).await?;
                done(&remote, "forgotten", &group)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn done(remote: &RemoteArgs, what: &str, group: &str) -> Result<()> {
    if remote.json {
        return remote::print_json(&json!({"group": group, "result": what}));
    }
    let what = match what {
        "forgotten" => "forgot offsets of",
        other => other,
    };
    writeln!(io::stdout(), "{what} group {group}")?;
    Ok(())
}

async fn list(
    remote: &RemoteArgs,
    client: &Client,
    states: &[String],
    kinds: &[String],
) -> Result<()> {
    for group in client.groups(states, kinds).await? {
        if remote.json {
            remote::print_json(&json!({
                "group": group.group,
                "type": group.kind,
                "state": group.state,
                "protocol": group.protocol,
                "coordinator": group.coordinator,
            }))?;
        } else {
            let kind = if group.kind.is_empty() {
                "?"
            } else {
                &group.kind
            };
            writeln!(io::stdout(), "{}  {}  {kind}", group.group, group.state)?;
        }
    }
    Ok(())
}

/// One line of a group's offsets.
struct Progress {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Progress {
    /// Records that the group has still to read.
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

/// The offsets of a group, and what its members read without having committed yet.
async fn progress(
    client: &Client,
    info: &GroupInfo,
    committed: &CommittedOffsets,
) -> Result<Vec<Progress>> {
    let mut readers: BTreeMap<(String, i32), String> = BTreeMap::new();
    for member in &info.members {
        for (topic, partitions) in &member.assigned {
            for &partition in partitions {
                readers.insert((topic.clone(), partition), member.member_id.clone());
            }
        }
    }
    let all: BTreeSet<&(String, i32)> = committed.keys().chain(readers.keys()).collect();
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &all {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let mut ends: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for (topic, partitions) in by_topic {
        // A topic may be gone while its offsets are still there.
        let found = client
            .offsets(topic, &partitions, Position::End, false)
            .await;
        for (partition, end) in found.unwrap_or_default() {
            ends.insert((topic, partition), end);
        }
    }
    let lines = all.into_iter().map(|key| Progress {
        topic: key.0.clone(),
        partition: key.1,
        committed: committed.get(key).map(|committed| committed.offset),
        end: ends.get(&(key.0.as_str(), key.1)).copied(),
        member: readers.get(key).cloned(),
    });
    Ok(lines.collect())
}

async fn describe(remote: &RemoteArgs, client: &Client, group: &str) -> Result<()> {
    let info = client.group(group).await?;
    let committed = client.committed(group).await?;
    let progress = progress(client, &info, &committed).await?;
    let lag: i64 = progress.iter().filter_map(Progress::lag).sum();
    if remote.json {
        return remote::print_json(&as_json(&info, &progress, lag));
    }
    let mut out = io::stdout().lock();
    write!(out, "{}  {}  {}", info.group, info.state, info.kind)?;
    if !info.assignor.is_empty() {
        write!(out, "  assignor {}", info.assignor)?;
    }
    if let Some((epoch, assignment)) = info.epochs {
        write!(out, "  epoch {epoch}  assignment {assignment}")?;
    }
    writeln!(out, "  members {}  lag {lag}", info.members.len())?;
    for member in &info.members {
        write!(
            out,
            "  member {}  {} at {}",
            member.member_id, member.client_id, member.host
        )?;
        if let Some(instance) = &member.instance_id {
            write!(out, "  instance {instance}")?;
        }
        if let Some(epoch) = member.epoch {
            write!(out, "  epoch {epoch}")?;
        }
        writeln!(out, "  reads {}", shown(&member.assigned))?;
        if let Some(target) = member.target.as_ref().filter(|t| **t != member.assigned) {
            writeln!(out, "    shall read {}", shown(target))?;
        }
    }
    let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    for line in &progress {
        writeln!(
            out,
            "  {}-{}  offset {}  end {}  lag {}  {}",
            line.topic,
            line.partition,
            number(line.committed),
            number(line.end),
            number(line.lag()),
            line.member.as_deref().unwrap_or("-"),
        )?;
    }
    Ok(())
}

/// `topic:0,1 other:2`, or `nothing`.
fn shown(partitions: &Partitions) -> String {
    let topics = partitions.iter().filter(|(_, of)| !of.is_empty());
    let topics = topics.map(|(topic, of)| {
        let of: Vec<String> = of.iter().map(i32::to_string).collect();
        format!("{topic}:{}", of.join(","))
    });
    let all: Vec<String> = topics.collect();
    if all.is_empty() {
        "nothing".to_owned()
    } else {
        all.join(" ")
    }
}

fn as_json(info: &GroupInfo, progress: &[Progress], lag: i64) -> serde_json::Value {
    let members = info.members.iter().map(|member| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "host": member.host,
            "epoch": member.epoch,
            "assigned": member.assigned,
            "target": member.target,
        })
    });
    let offsets = progress.iter().map(|line| {
        json!({
            "topic": line.topic,
            "partition": line.partition,
            "offset": line.committed,
            "end_offset": line.end,
            "lag": line.lag(),
            "member_id": line.member,
        })
    });
    json!({
        "group": info.group,
        "type": info.kind,
        "state": info.state,
        "assignor": info.assignor,
        "epoch": info.epochs.map(|(epoch, _)| epoch),
        "assignment_epoch": info.epochs.map(|(_, epoch)| epoch),
        "members": members.collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
        "lag": lag,
    })
}

/// All partitions of topics that were named without any.
async fn resolve(client: &Client, topics: &[(String, Vec<i32>)]) -> Result<Partitions> {
    let mut resolved = Partitions::new();
    for (topic, partitions) in topics {
        let all = client.refresh(topic, false).await?;
        let known: Vec<i32> = all
            .partitions
            .iter()
            .map(|partition| partition.index)
            .collect();
        if let Some(missing) = partitions
            .iter()
            .find(|partition| !known.contains(partition))
        {
            bail!("topic {topic} has no partition {missing}");
        }
        let asked = if partitions.is_empty() {
            known
        } else {
            partitions.clone()
        };
        resolved.entry(topic.clone()).or_default().extend(asked);
    }
    for partitions in resolved.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Ok(resolved)
}

async fn reset(remote: &RemoteArgs, client: &Client, arguments: &ResetArgs) -> Result<()> {
    let group = &arguments.group;
    let committed = client.committed(group).await?;
    let partitions = if arguments.all_topics {
        let mut of_group = Partitions::new();
        for (topic, partition) in committed.keys() {
            of_group.entry(topic.clone()).or_default().push(*partition);
        }
        of_group
    } else {
        resolve(client, &arguments.topics).await?
    };
    let mut plan: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for (topic, partitions) in &partitions {
        let found = destination(client, arguments, &committed, topic, partitions).await?;
        plan.extend(
            found
                .into_iter()
                .map(|(p, offset)| ((topic.clone(), p), offset)),
        );
    }
    if plan.is_empty() {
        bail!("group {group} has no offsets; name topics with --topic");
    }
    if arguments.execute {
        client.set_offsets(group, &plan).await?;
    }
    for ((topic, partition), offset) in &plan {
        let before = committed
            .get(&(topic.clone(), *partition))
            .map(|committed| committed.offset);
        if remote.json {
            remote::print_json(&json!({
                "group": group,
                "topic": topic,
                "partition": partition,
                "offset": before,
                "new_offset": offset,
                "executed": arguments.execute,
            }))?;
        } else {
            let before = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
            writeln!(io::stdout(), "{topic}-{partition}  {before} -> {offset}")?;
        }
    }
    if !arguments.execute && !remote.json {
        remote::note("nothing was changed; --execute does it");
    }
    Ok(())
}

/// Where each partition goes: within the records that are there.
async fn destination(
    client: &Client,
    arguments: &ResetArgs,
    committed: &CommittedOffsets,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>> {
    let at = |position| client.offsets(topic, partitions, position, false);
    let first = at(Position::Beginning).await?;
    let end = at(Position::End).await?;
    let found = if arguments.to_earliest {
        first.clone()
    } else if arguments.to_latest {
        end.clone()
    } else if let Some(ms) = arguments.to_timestamp {
        at(Position::Timestamp(ms)).await?
    } else if let Some(ms) = arguments.by_duration {
        at(Position::Timestamp(now_ms().saturating_sub(ms))).await?
    } else {
        let mut found = BTreeMap::new();
        for &partition in partitions {
            let now = committed
                .get(&(topic.to_owned(), partition))
                .map(|committed| committed.offset);
            let offset = match (arguments.to_offset, arguments.shift_by, now) {
                (Some(offset), _, _) => offset,
                (None, Some(by), Some(now)) => now.saturating_add(by),
                (None, Some(_), None) => {
                    bail!("{topic}-{partition} has no offset to shift; name another with --topic")
                }
                (None, None, now) => {
                    now.unwrap_or_else(|| end.get(&partition).copied().unwrap_or_default())
                }
            };
            found.insert(partition, offset);
        }
        found
    };
    let within = found.into_iter().map(|(partition, offset)| {
        let least = first.get(&partition).copied().unwrap_or(0);
        let most = end.get(&partition).copied().unwrap_or(i64::MAX);
        (partition, offset.clamp(least, most.max(least)))
    });
    Ok(within.collect())
}
