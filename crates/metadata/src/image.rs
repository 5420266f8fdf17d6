//! What is the case in the cluster, as a pure function of the records so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::{ConfigResource, Endpoint, MetadataRecord, PartitionState};

/// Result of a metadata operation.
pub type Result<T, E = MetadataError> = std::result::Result<T, E>;

/// Settings of one resource: name to value, only those that were set.
pub type Configs = BTreeMap<String, String>;

/// Why a record does not fit the state, or could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// A topic of this name exists.
    #[error("topic {0:?} already exists")]
    TopicExists(String),
    /// No topic has this id.
    #[error("there is no topic with id {0}")]
    UnknownTopicId(Uuid),
    /// No topic has this name.
    #[error("there is no topic {0:?}")]
    UnknownTopic(String),
    /// A record contradicts the state.
    #[error("metadata record does not fit: {0}")]
    Contradiction(String),
    /// A record could not be encoded or decoded.
    #[error("metadata record cannot be read or written: {0}")]
    Encoding(String),
    /// The log or snapshot failed.
    #[error(transparent)]
    Storage(#[from] dlog_storage::StorageError),
    /// A snapshot file could not be read or written.
    #[error("metadata snapshot {path}: {source}")]
    Snapshot {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// One partition.
pub type PartitionImage = PartitionState;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicImage {
    /// Id of this incarnation.
    pub id: Uuid,
    /// Name.
    pub name: Arc<str>,
    /// Partitions by index.
    pub partitions: Vec<PartitionImage>,
    /// Settings that were set on the topic.
    pub configs: Configs,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerImage {
    /// Node id.
    pub node_id: i32,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Rack.
    pub rack: Option<String>,
}

impl BrokerImage {
    /// The endpoint of the listener with this name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.listener == listener)
    }
}

/// The whole state. Cheap to clone: topics are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    cluster_id: Option<String>,
    brokers: BTreeMap<i32, BrokerImage>,
    topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    names_by_id: BTreeMap<Uuid, Arc<str>>,
    broker_configs: BTreeMap<Option<i32>, Configs>,
    group_configs: Arc<BTreeMap<String, Configs>>,
    client_metrics: Arc<BTreeMap<String, Configs>>,
    next_producer_id: i64,
}

/// A [`MetadataImage`] as it is written into a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct PlainImage {
    cluster_id: Option<String>,
    brokers: Vec<BrokerImage>,
    topics: Vec<TopicImage>,
    broker_configs: Vec<(Option<i32>, Configs)>,
    #[serde(default)]
    group_configs: BTreeMap<String, Configs>,
    #[serde(default)]
    client_metrics: BTreeMap<String, Configs>,
    next_producer_id: i64,
}

impl MetadataImage {
    /// Id of the cluster, once it has one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The registered brokers, by node id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values()
    }

    /// The broker with this node id.
    pub fn broker(&self, node_id: i32) -> Option<&BrokerImage> {
        self.brokers.get(&node_id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Topics from this name on (inclusive), by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        use std::ops::Bound::{Included, Unbounded};
        self.topics
            .range::<str, _>((Included(name), Unbounded))
            .map(|(_, topic)| topic)
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|t| t.partitions.len()).sum()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names_by_id.get(&id)?)
    }

    /// Settings that were set on a broker; `None` for the default of all brokers.
    pub fn broker_configs(&self, node_id: Option<i32>) -> Option<&Configs> {
        self.broker_configs.get(&node_id)
    }

    /// Settings that were set on a group.
    pub fn group_config(&self, group_id: &str) -> Option<&Configs> {
        self.group_configs.get(group_id)
    }

    /// The groups that settings were set on, by id.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.group_configs.keys().map(String::as_str)
    }

    /// The settings of a client metrics subscription.
    pub fn client_metrics(&self, name: &str) -> Option<&Configs> {
        self.client_metrics.get(name)
    }

    /// The client metrics subscriptions, by name.
    pub fn client_metrics_subscriptions(&self) -> impl Iterator<Item = &str> {
        self.client_metrics.keys().map(String::as_str)
    }

    /// First producer id that was never handed out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Takes one record in.
    ///
    /// # Errors
    /// When the record contradicts the state; the state is unchanged then.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<()> {
        match record {
            MetadataRecord::ClusterId { cluster_id } => match &self.cluster_id {
                Some(known) if known != cluster_id => Err(MetadataError::Contradiction(format!(
                    "cluster id {cluster_id} given to the cluster {known}"
                ))),
                _ => {
                    self.cluster_id = Some(cluster_id.clone());
                    Ok(())
                }
            },
            MetadataRecord::BrokerRegistered {
                node_id,
                endpoints,
                rack,
            } => {
                let broker = BrokerImage {
                    node_id: *node_id,
                    endpoints: endpoints.clone(),
                    rack: rack.clone(),
                };
                self.brokers.insert(*node_id, broker);
                Ok(())
            }
            MetadataRecord::TopicCreated { topic_id, name } => self.create_topic(*topic_id, name),
            MetadataRecord::PartitionsAdded {
                topic_id,
                first,
                partitions,
            } => self.add_partitions(*topic_id, *first, partitions),
            MetadataRecord::TopicDeleted { topic_id } => {
                let name = self
                    .names_by_id
                    .remove(topic_id)
                    .ok_or(MetadataError::UnknownTopicId(*topic_id))?;
                self.topics.remove(&name);
                Ok(())
            }
            MetadataRecord::ConfigChanged {
                resource,
                name,
                value,
            } => self.change_config(resource, name, value.as_deref()),
            MetadataRecord::ProducerIdsAllocated { next } if *next < self.next_producer_id => {
                Err(MetadataError::Contradiction(format!(
                    "producer ids below {} were handed out, but the next is said to be {next}",
                    self.next_producer_id
                )))
            }
            MetadataRecord::ProducerIdsAllocated { next } => {
                self.next_producer_id = *next;
                Ok(())
            }
        }
    }

    fn create_topic(&mut self, id: Uuid, name: &str) -> Result<()> {
        if self.topics.contains_key(name) {
            return Err(MetadataError::TopicExists(name.to_owned()));
        }
        if self.names_by_id.contains_key(&id) {
            return Err(MetadataError::Contradiction(format!(
                "topic id {id} is in use"
            )));
        }
        let name: Arc<str> = name.into();
        let topic = TopicImage {
            id,
            name: name.clone(),
            partitions: Vec::new(),
            configs: Configs::new(),
        };
        self.names_by_id.insert(id, name.clone());
        self.topics.insert(name, Arc::new(topic));
        Ok(())
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut TopicImage> {
        let name = self
            .names_by_id
            .get(&id)
            .ok_or(MetadataError::UnknownTopicId(id))?;
        let topic = self
            .topics
            .get_mut(name)
            .ok_or(MetadataError::UnknownTopicId(id))?;
        Ok(Arc::make_mut(topic))
    }

    fn add_partitions(&mut self, id: Uuid, first: i32, added: &[PartitionState]) -> Result<()> {
        let topic = self.topic_mut(id)?;
        if usize::try_from(first).ok() != Some(topic.partitions.len()) {
            return Err(MetadataError::Contradiction(format!(
                "partitions from {first} on added to topic {:?}, which has {}",
                topic.name,
                topic.partitions.len()
            )));
        }
        topic.partitions.extend_from_slice(added);
        Ok(())
    }

    fn change_config(
        &mut self,
        resource: &ConfigResource,
        name: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let configs = match resource {
            ConfigResource::Topic(topic) => {
                let topic = self
                    .topics
                    .get_mut(topic.as_str())
                    .ok_or_else(|| MetadataError::UnknownTopic(topic.clone()))?;
                &mut Arc::make_mut(topic).configs
            }
            ConfigResource::Broker(node) => self.broker_configs.entry(*node).or_default(),
            ConfigResource::Group(id) => {
                change_named(&mut self.group_configs, id, name, value);
                return Ok(());
            }
            ConfigResource::ClientMetrics(subscription) => {
                change_named(&mut self.client_metrics, subscription, name, value);
                return Ok(());
            }
        };
        match value {
            Some(value) => configs.insert(name.to_owned(), value.to_owned()),
            None => configs.remove(name),
        };
        Ok(())
    }

    pub(crate) fn to_plain(&self) -> PlainImage {
        PlainImage {
            cluster_id: self.cluster_id.clone(),
            brokers: self.brokers.values().cloned().collect(),
            topics: self.topics.values().map(|t| (**t).clone()).collect(),
            broker_configs: self.broker_configs.clone().into_iter().collect(),
            group_configs: (*self.group_configs).clone(),
            client_metrics: (*self.client_metrics).clone(),
            next_producer_id: self.next_producer_id,
        }
    }

    pub(crate) fn from_plain(plain: PlainImage) -> Self {
        Self {
            cluster_id: plain.cluster_id,
            brokers: plain.brokers.into_iter().map(|b| (b.node_id, b)).collect(),
            names_by_id: plain
                .topics
                .iter()
                .map(|t| (t.id, t.name.clone()))
                .collect(),
            topics: plain
                .topics
                .into_iter()
                .map(|t| (t.name.clone(), Arc::new(t)))
                .collect(),
            broker_configs: plain.broker_configs.into_iter().collect(),
            group_configs: Arc::new(plain.group_configs),
            client_metrics: Arc::new(plain.client_metrics),
            next_producer_id: plain.next_producer_id,
        }
    }
}

/// What has no setting left is not listed any more.
fn change_named(
    all: &mut Arc<BTreeMap<String, Configs>>,
    owner: &str,
    name: &str,
    value: Option<&str>,
) {
    let all = Arc::make_mut(all);
    match value {
        Some(value) => {
            let configs = all.entry(owner.to_owned()).or_default();
            configs.insert(name.to_owned(), value.to_owned());
        }
        None => {
            let Some(configs) = all.get_mut(owner) else {
                return;
            };
            configs.remove(name);
            if configs.is_empty() {
                all.remove(owner);
            }
        }
    }
}
