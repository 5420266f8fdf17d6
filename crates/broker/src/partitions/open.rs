//! Bringing logs up: one partition, a topic, or at start all of them in parallel.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use dlog_metadata::TopicImage;
use dlog_storage::disk::{self, Disk};
use dlog_storage::{Log, LogConfig, LogEnv};
use parking_lot::Mutex;
use uuid::Uuid;

use super::partition::{PartitionId, Unopened};
use super::{HostedTopic, Partition, TopicSettings};
use crate::identity::{kafka_uuid, parse_kafka_uuid};
use crate::metrics::Metrics;
use crate::state::BrokerState;

/// File in a partition's folder that names the incarnation of the topic, as Kafka has it.
const PARTITION_METADATA: &str = "partition.metadata";

/// Name of the folder of a partition.
pub fn folder_name(topic: &str, index: i32) -> String {
    format!("{topic}-{index}")
}

/// Opens the log of a partition, creating it when missing. A failure makes a partition that is
/// offline and says why; others are not affected.
pub fn open_partition(
    env: &LogEnv,
    data_dir: &Path,
    topic: &TopicImage,
    index: i32,
    config: LogConfig,
) -> Arc<Partition> {
    let dir = data_dir.join(folder_name(&topic.name, index));
    let log = open_log(env, &dir, topic.id, config).inspect_err(|unopened| {
        let reason = &unopened.reason;
        tracing::error!(topic = %topic.name, partition = index, %reason, "the partition is offline");
    });
    let leader_epoch = usize::try_from(index)
        .ok()
        .and_then(|index| topic.partitions.get(index))
        .map_or(0, |partition| partition.leader_epoch);
    let id = PartitionId {
        topic: topic.name.clone(),
        topic_id: topic.id,
        index,
        dir,
    };
    Partition::new(id, log, leader_epoch)
}

fn open_log(env: &LogEnv, dir: &Path, id: Uuid, config: LogConfig) -> Result<Arc<Log>, Unopened> {
    env.disk
        .create_dir_all(dir)
        .map_err(|error| Unopened::io(dir, &error))?;
    claim_folder(&*env.disk, dir, id)?;
    let opened = Log::open_with(env, dir, config).map_err(|error| Unopened {
        reason: error.to_string(),
        disk_full: error.is_disk_full(),
    });
    // What recovery did is in the storage engine's log lines.
    opened.map(|(log, _)| log)
}

/// Checks that the folder is of this incarnation of the topic, or marks an unmarked one.
fn claim_folder(disk: &dyn Disk, dir: &Path, id: Uuid) -> Result<(), Unopened> {
    let path = dir.join(PARTITION_METADATA);
    let failed = |error: std::io::Error| Unopened::io(&path, &error);
    match disk::read_file(disk, &path, 4096) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let found = text.lines().find_map(|line| line.strip_prefix("topic_id:"));
            match found.map(str::trim).and_then(parse_kafka_uuid) {
                Some(found) if found == id => Ok(()),
                Some(found) => Err(Unopened::new(format!(
                    "{} belongs to topic id {}, not {}: it is of an earlier topic of this name; move it away",
                    dir.display(),
                    kafka_uuid(found),
                    kafka_uuid(id)
                ))),
                None => Err(Unopened::new(format!(
                    "{} is damaged: it names no topic id",
                    path.display()
                ))),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("version: 0\ntopic_id: {}\n", kafka_uuid(id));
            disk::replace_file(disk, &path, text.as_bytes()).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Opens all partitions of a topic from `first` on, keeping those that are open already.
pub fn open_topic(
    env: &LogEnv,
    data_dir: &Path,
    topic: &TopicImage,
    settings: Arc<ArcSwap<TopicSettings>>,
    already_open: &[Arc<Partition>],
    metrics: &Metrics,
) -> Arc<HostedTopic> {
    let config = settings.load().log.clone();
    let mut partitions = already_open.to_vec();
    for index in partitions.len()..topic.partitions.len() {
        let index = i32::try_from(index).expect("partition counts are bounded far below i32::MAX");
        partitions.push(open_partition(env, data_dir, topic, index, config.clone()));
    }
    Arc::new(HostedTopic {
        name: topic.name.clone(),
        id: topic.id,
        settings,
        partitions,
        metrics: metrics.topic(&topic.name),
    })
}

/// Tries the partitions again for which the disk had no room. Waits for the disk.
pub(crate) fn reopen_starved(state: &BrokerState) {
    if !state.partitions.take_starved() {
        return;
    }
    let _one_at_a_time = state.partitions.changing.lock();
    let image = state.image();
    for hosted in state.partitions.topics() {
        let Some(topic) = image.topic_by_id(hosted.id) else {
            continue;
        };
        if !hosted.partitions.iter().any(|one| one.is_starved()) {
            continue;
        }
        let config = hosted.settings.load().log.clone();
        let again = hosted.partitions.iter().map(|partition| {
            if partition.is_starved() {
                let (env, dir) = (&state.env, &state.config.data_dir);
                open_partition(env, dir, topic, partition.index, config.clone())
            } else {
                partition.clone()
            }
        });
        let partitions = again.collect();
        state.partitions.publish([Arc::new(HostedTopic {
            partitions,
            ..HostedTopic::clone(&hosted)
        })]);
    }
}

/// What the start opens.
pub(crate) struct OpenAll<'a> {
    pub(crate) env: &'a LogEnv,
    pub(crate) data_dir: PathBuf,
    pub(crate) metrics: &'a Metrics,
    pub(crate) threads: usize,
}

impl OpenAll<'_> {
    /// Opens the partitions of all topics on named threads. The threads take partitions, not topics,
    /// so that one large topic is recovered in parallel too.
    pub(crate) fn run(
        &self,
        topics: Vec<(Arc<TopicImage>, TopicSettings)>,
    ) -> Vec<Arc<HostedTopic>> {
        let work: Vec<(usize, i32)> = topics
            .iter()
            .enumerate()
            .flat_map(|(at, (topic, _))| {
                (0..topic.partitions.len()).map(move |index| (at, index as i32))
            })
            .collect();
        let next = AtomicUsize::new(0);
        let opened = Mutex::new(Vec::with_capacity(work.len()));
        let open_next = || {
            while let Some(&(at, index)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (topic, settings) = &topics[at];
                let partition =
                    open_partition(self.env, &self.data_dir, topic, index, settings.log.clone());
                opened.lock().push((at, partition));
            }
        };
        std::thread::scope(|scope| {
            for number in 1..self.threads.clamp(1, work.len().max(1)) {
                let named = std::thread::Builder::new().name(format!("dlog-open-{number}"));
                // This thread opens what no other one takes, so a missing thread only costs time.
                if let Err(error) = named.spawn_scoped(scope, open_next) {
                    tracing::warn!(%error, "fewer threads open the partitions");
                }
            }
            open_next();
        });
        let mut opened = opened.into_inner();
        opened.sort_unstable_by_key(|(at, partition)| (*at, partition.index));
        let mut opened = opened.into_iter().peekable();
        let mut hosted = Vec::with_capacity(topics.len());
        for (at, (topic, settings)) in topics.into_iter().enumerate() {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            while let Some((_, partition)) = opened.next_if(|(of, _)| *of == at) {
                partitions.push(partition);
            }
            hosted.push(Arc::new(HostedTopic {
                name: topic.name.clone(),
                id: topic.id,
                settings: Arc::new(ArcSwap::from_pointee(settings)),
                partitions,
                metrics: self.metrics.topic(&topic.name),
            }));
        }
        hosted
    }
}
