//! Topics are created, grown, deleted and set here: first durably in the metadata, then in the logs.
//!
//! Everything here waits for the disk: async code calls it through `Context::blocking`. Changes are
//! made one after the other; whoever reads is never held up.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dlog_metadata::configs::{self, ConfigError};
use dlog_metadata::record::PartitionState;
use dlog_metadata::{ChangeError, ConfigResource, MetadataImage, MetadataRecord, TopicImage};
use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::partitions::{TopicSettings, UpkeepWork, open_topic, retire_folder};
use crate::state::BrokerState;

/// The name that the metadata has as a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Longest name of a topic, in bytes.
const MAX_NAME_BYTES: usize = 249;

/// Why a topic was not changed; the text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TopicError {
    /// Kafka's error.
    pub code: ResponseError,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl TopicError {
    /// An error with its text.
    pub fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A request names a topic more than once.
    pub fn duplicate_topic() -> Self {
        Self::new(ResponseError::InvalidRequest, "Duplicate topic name.")
    }
}

impl From<ChangeError<TopicError>> for TopicError {
    fn from(error: ChangeError<TopicError>) -> Self {
        match error {
            ChangeError::Refused(error) => error,
            ChangeError::Failed(error) => {
                Self::new(ResponseError::KafkaStorageError, error.to_string())
            }
        }
    }
}

impl From<ConfigError> for TopicError {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::ReadOnly(_)
            | ConfigError::ClientMetrics(_)
            | ConfigError::UnknownClientMetricsConfig(_) => ResponseError::InvalidRequest,
            _ => ResponseError::InvalidConfig,
        };
        Self::new(code, error.to_string())
    }
}

/// A topic to be created.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Name.
    pub name: String,
    /// Number of partitions; -1 takes the server's default. Must be -1 with `assignments`.
    pub partitions: i32,
    /// Number of replicas; -1 takes the server's default. Must be -1 with `assignments`.
    pub replication_factor: i16,
    /// Replicas of each partition, in order of the index; empty lets the server choose.
    pub assignments: Vec<Vec<i32>>,
    /// Settings.
    pub configs: Vec<(String, String)>,
}

/// Whether clients should leave the topic to the server.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

/// Checks the name of a topic.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION` with the reason.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let wrong = |reason: &str| {
        Err(TopicError::new(
            ResponseError::InvalidTopicException,
            format!("Topic name is invalid: {reason}"),
        ))
    };
    if name.is_empty() {
        return wrong("the empty string is not allowed");
    }
    if name == "." || name == ".." {
        return wrong(&format!("'{name}' is not allowed"));
    }
    if name.len() > MAX_NAME_BYTES {
        return wrong(&format!(
            "the length of '{name}' is longer than the max allowed length {MAX_NAME_BYTES}"
        ));
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return wrong(&format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

impl BrokerState {
    /// Creates a topic, or with `validate_only` says whether it could be created.
    ///
    /// # Errors
    /// What is wrong with the request, or that the disk failed.
    pub fn create_topic(
        &self,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<Arc<TopicImage>, TopicError> {
        let _one_at_a_time = self.partitions.changing.lock();
        let id = Uuid::new_v4();
        let mut planned = None;
        let made = self.metadata.change(|image| {
            let records = self.plan_topic(image, new, id)?;
            if validate_only {
                planned = Some(planned_topic(new, id, &records));
                return Ok((Vec::new(), ()));
            }
            Ok::<_, TopicError>((records, ()))
        });
        made?;
        if let Some(topic) = planned {
            return Ok(topic);
        }
        let image = self.image();
        let Some(topic) = image.topic_by_id(id) else {
            return Err(TopicError::new(
                ResponseError::UnknownServerError,
                "the created topic is missing",
            ));
        };
        self.host(&image, topic, &[]);
        tracing::info!(topic = %topic.name, partitions = topic.partitions.len(), "topic created");
        Ok(topic.clone())
    }

    fn plan_topic(
        &self,
        image: &MetadataImage,
        new: &NewTopic,
        id: Uuid,
    ) -> Result<Vec<MetadataRecord>, TopicError> {
        // The metadata log has its folder among those of the topics.
        if new.name == METADATA_TOPIC {
            return Err(TopicError::new(
                ResponseError::InvalidRequest,
                format!("Creation of internal topic {METADATA_TOPIC} is prohibited."),
            ));
        }
        check_name(&new.name)?;
        if image.topic(&new.name).is_some() {
            return Err(TopicError::new(
                ResponseError::TopicAlreadyExists,
                format!("Topic '{}' already exists.", new.name),
            ));
        }
        self.check_collision(image, &new.name)?;
        let partitions = self.plan_partitions(new)?;
        let mut records = vec![
            MetadataRecord::TopicCreated {
                topic_id: id,
                name: new.name.clone(),
            },
            MetadataRecord::PartitionsAdded {
                topic_id: id,
                first: 0,
                partitions,
            },
        ];
        for (name, value) in &new.configs {
            configs::check_topic_config(name, Some(value))?;
            records.push(MetadataRecord::ConfigChanged {
                resource: ConfigResource::Topic(new.name.clone()),
                name: name.clone(),
                value: Some(value.clone()),
            });
        }
        Ok(records)
    }

    /// Metric names cannot tell `a.b` from `a_b`, so Kafka refuses the second one.
    fn check_collision(&self, image: &MetadataImage, name: &str) -> Result<(), TopicError> {
        if !name.contains(['.', '_']) {
            return Ok(());
        }
        let flat = name.replace('.', "_");
        match image
            .topics()
            .find(|topic| topic.name.replace('.', "_") == flat)
        {
            Some(other) => Err(TopicError::new(
                ResponseError::InvalidTopicException,
                format!(
                    "Topic '{name}' collides with existing topic: {}",
                    other.name
                ),
            )),
            None => Ok(()),
        }
    }

    fn plan_partitions(&self, new: &NewTopic) -> Result<Vec<PartitionState>, TopicError> {
        if !new.assignments.is_empty() {
            let unset = |what: &str| {
                TopicError::new(
                    ResponseError::InvalidRequest,
                    format!(
                        "A manual partition assignment was specified, but {what} was not set to -1."
                    ),
                )
            };
            if new.replication_factor != -1 {
                return Err(unset("replication factor"));
            }
            if new.partitions != -1 {
                return Err(unset("numPartitions"));
            }
            self.check_partition_count(new.assignments.len() as i64)?;
            return new
                .assignments
                .iter()
                .map(|replicas| self.plan_assigned(replicas))
                .collect();
        }
        let count = if new.partitions == -1 {
            self.config.num_partitions
        } else {
            new.partitions
        };
        self.check_partition_count(i64::from(count))?;
        match new.replication_factor {
            -1 | 1 => Ok((0..count).map(|_| self.own_partition()).collect()),
            factor if factor < 1 => Err(TopicError::new(
                ResponseError::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )),
            factor => Err(TopicError::new(
                ResponseError::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only 1 broker(s) are registered."
                ),
            )),
        }
    }

    fn check_partition_count(&self, count: i64) -> Result<(), TopicError> {
        let most = i64::from(self.config.max_partitions_per_topic);
        if count < 1 {
            return Err(TopicError::new(
                ResponseError::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            ));
        }
        if count > most {
            return Err(TopicError::new(
                ResponseError::PolicyViolation,
                format!("A topic may have at most {most} partitions (max.partitions.per.topic)."),
            ));
        }
        Ok(())
    }

    fn plan_assigned(&self, replicas: &[i32]) -> Result<PartitionState, TopicError> {
        let refuse = |message: String| {
            Err(TopicError::new(
                ResponseError::InvalidReplicaAssignment,
                message,
            ))
        };
        match replicas {
            [] => {
                refuse("The manual partition assignment includes an empty replica list.".to_owned())
            }
            [only] if *only == self.node_id() => Ok(self.own_partition()),
            [first, rest @ ..] if rest.contains(first) => refuse(
                "The manual partition assignment includes a broker more than once.".to_owned(),
            ),
            _ => {
                let other = replicas
                    .iter()
                    .find(|&&id| id != self.node_id())
                    .copied()
                    .unwrap_or_default();
                refuse(format!(
                    "The manual partition assignment includes broker {other}, but no such broker is registered."
                ))
            }
        }
    }

    fn own_partition(&self) -> PartitionState {
        let node = self.node_id();
        PartitionState {
            replicas: vec![node],
            isr: vec![node],
            leader: node,
            leader_epoch: 0,
        }
    }

    /// Opens the logs of a topic and makes it known.
    fn host(
        &self,
        image: &MetadataImage,
        topic: &TopicImage,
        open: &[Arc<crate::partitions::Partition>],
    ) {
        let known = self.partitions.topic_by_id(topic.id);
        let settings = known.map_or_else(
            || Arc::new(ArcSwap::from_pointee(self.settings_of(image, topic))),
            |known| known.settings.clone(),
        );
        let hosted = open_topic(
            &self.env,
            &self.config.data_dir,
            topic,
            settings,
            open,
            &self.metrics,
        );
        self.partitions.publish([hosted]);
    }

    /// What a topic is set to.
    pub fn settings_of(&self, image: &MetadataImage, topic: &TopicImage) -> TopicSettings {
        TopicSettings::resolve(Some(&topic.configs), image, self.node_id(), &self.statics)
    }

    /// Grows a topic to `total` partitions. `assignments` are the replicas of the added ones.
    ///
    /// # Errors
    /// What is wrong with the request, or that the disk failed.
    pub fn add_partitions(
        &self,
        name: &str,
        total: i32,
        assignments: Option<&[Vec<i32>]>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _one_at_a_time = self.partitions.changing.lock();
        self.metadata.change(|image| {
            let topic = image.topic(name).ok_or_else(|| unknown_topic(name))?;
            let have = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            if total <= have {
                let message = if total == have {
                    format!("Topic already has {have} partition(s).")
                } else {
                    format!("The topic {name} currently has {have} partition(s); {total} would not be an increase.")
                };
                return Err(TopicError::new(ResponseError::InvalidPartitions, message));
            }
            self.check_partition_count(i64::from(total))?;
            let added = (total - have) as usize;
            let partitions = match assignments {
                None => (0..added).map(|_| self.own_partition()).collect(),
                Some(assignments) if assignments.len() == added => {
                    assignments.iter().map(|replicas| self.plan_assigned(replicas)).collect::<Result<_, _>>()?
                }
                Some(assignments) => {
                    return Err(TopicError::new(
                        ResponseError::InvalidReplicaAssignment,
                        format!("Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.", assignments.len()),
                    ));
                }
            };
            let record = MetadataRecord::PartitionsAdded { topic_id: topic.id, first: have, partitions };
            Ok((if validate_only { Vec::new() } else { vec![record] }, ()))
        })?;
        if !validate_only {
            let image = self.image();
            if let Some(topic) = image.topic(name) {
                let open = self.partitions.topic_by_id(topic.id);
                self.host(
                    &image,
                    topic,
                    open.as_ref().map_or(&[], |hosted| &hosted.partitions),
                );
                tracing::info!(topic = name, partitions = total, "partitions added");
            }
        }
        Ok(())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, or that the disk failed.
    pub fn delete_topic(&self, id: Uuid) -> Result<(), TopicError> {
        let _one_at_a_time = self.partitions.changing.lock();
        self.metadata.change(|image| match image.topic_by_id(id) {
            Some(_) => Ok((vec![MetadataRecord::TopicDeleted { topic_id: id }], ())),
            None => Err(TopicError::new(
                ResponseError::UnknownTopicId,
                "This server does not host this topic ID.",
            )),
        })?;
        let Some(hosted) = self.partitions.remove(id) else {
            return Ok(());
        };
        self.metrics.forget_topic(&hosted.name);
        for partition in &hosted.partitions {
            if let Ok(log) = partition.log()
                && let Err(error) = log.close()
            {
                tracing::warn!(topic = %hosted.name, partition = partition.index, %error, "a deleted log did not close cleanly");
            }
            match retire_folder(&*self.env.disk, &partition.dir) {
                // The upkeep thread is gone only when the server stops; the next start finds the folder.
                Ok(folder) => drop(self.upkeep.send(UpkeepWork::Remove(folder))),
                Err(error) => {
                    tracing::warn!(dir = %partition.dir.display(), %error, "the folder of a deleted partition stays");
                }
            }
        }
        tracing::info!(topic = %hosted.name, "topic deleted");
        Ok(())
    }

    /// Sets (`Some`) and removes (`None`) settings of a topic or broker, all or none; they hold at once.
    ///
    /// # Errors
    /// What is wrong with the request, or that the disk failed.
    pub fn change_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(String, Option<String>)],
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _one_at_a_time = self.partitions.changing.lock();
        self.metadata.change(|image| {
            let check = match resource {
                ConfigResource::Topic(name) if image.topic(name).is_none() => {
                    return Err(unknown_topic(name));
                }
                ConfigResource::Broker(Some(node)) if *node != self.node_id() => {
                    return Err(TopicError::new(
                        ResponseError::InvalidRequest,
                        format!(
                            "Unexpected broker id, expected {}, but received {node}",
                            self.node_id()
                        ),
                    ));
                }
                ConfigResource::Topic(_) => configs::check_topic_config,
                ConfigResource::Broker(_) => configs::check_broker_config,
                ConfigResource::Group(_) => configs::check_group_config,
                ConfigResource::ClientMetrics(_) => configs::check_client_metrics_config,
            };
            let mut records = Vec::with_capacity(changes.len());
            for (name, value) in changes {
                match check(name, value.as_deref()) {
                    // What does not exist is not set: tools may remove what an older server had.
                    Err(
                        ConfigError::UnknownTopicConfig(_)
                        | ConfigError::UnknownBrokerConfig(_)
                        | ConfigError::UnknownGroupConfig(_)
                        | ConfigError::UnknownClientMetricsConfig(_),
                    ) if value.is_none() => continue,
                    // Kafka's answer for brokers differs from that for topics.
                    Err(error @ ConfigError::Invalid { .. })
                        if matches!(resource, ConfigResource::Broker(_)) =>
                    {
                        return Err(TopicError::new(
                            ResponseError::InvalidRequest,
                            error.to_string(),
                        ));
                    }
                    checked => checked?,
                };
                records.push(MetadataRecord::ConfigChanged {
                    resource: resource.clone(),
                    name: name.clone(),
                    value: value.clone(),
                });
            }
            self.check_together(image, resource, changes)?;
            Ok((if validate_only { Vec::new() } else { records }, ()))
        })?;
        if !validate_only {
            self.apply_settings(resource);
        }
        Ok(())
    }

    /// Judges the settings of a group or subscription as they would be after the changes.
    fn check_together(
        &self,
        image: &MetadataImage,
        resource: &ConfigResource,
        changes: &[(String, Option<String>)],
    ) -> Result<(), TopicError> {
        let set = match resource {
            ConfigResource::Topic(_) | ConfigResource::Broker(_) => return Ok(()),
            ConfigResource::Group(id) => image.group_config(id),
            ConfigResource::ClientMetrics(name) => image.client_metrics(name),
        };
        let mut after = set.cloned().unwrap_or_default();
        for (name, value) in changes {
            match value {
                Some(value) => after.insert(name.clone(), value.clone()),
                None => after.remove(name),
            };
        }
        match resource {
            ConfigResource::Group(id) => self.group_config(image, id).check(&after)?,
            _ => configs::client_metrics::check(&after)?,
        }
        Ok(())
    }

    /// Gives topics the settings that hold now.
    fn apply_settings(&self, changed: &ConfigResource) {
        let image = self.image();
        let topics = match changed {
            ConfigResource::Topic(name) => self.partitions.topic(name).into_iter().collect(),
            ConfigResource::Broker(_) => self.partitions.topics(),
            // Looked up whenever they are needed.
            ConfigResource::Group(_) | ConfigResource::ClientMetrics(_) => return,
        };
        for hosted in topics {
            let Some(topic) = image.topic_by_id(hosted.id) else {
                continue;
            };
            let settings = self.settings_of(&image, topic);
            if **hosted.settings.load() == settings {
                continue;
            }
            for partition in &hosted.partitions {
                if let Ok(log) = partition.log()
                    && let Err(error) = log.set_config(settings.log.clone())
                {
                    tracing::warn!(topic = %hosted.name, partition = partition.index, %error, "the log keeps its old settings");
                }
            }
            hosted.settings.store(Arc::new(settings));
        }
    }
}

fn unknown_topic(name: &str) -> TopicError {
    TopicError::new(
        ResponseError::UnknownTopicOrPartition,
        format!("The topic '{name}' does not exist."),
    )
}

/// The topic that the records would make.
fn planned_topic(new: &NewTopic, id: Uuid, records: &[MetadataRecord]) -> Arc<TopicImage> {
    let partitions = records.iter().find_map(|record| match record {
        MetadataRecord::PartitionsAdded { partitions, .. } => Some(partitions.clone()),
        _ => None,
    });
    Arc::new(TopicImage {
        id,
        name: new.name.as_str().into(),
        partitions: partitions.unwrap_or_default(),
        configs: new.configs.iter().cloned().collect(),
    })
}
