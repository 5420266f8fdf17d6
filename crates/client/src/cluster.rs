//! The brokers of a cluster: who leads what, and a connection to each that is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::{ClientError, Result};

/// Between two questions about what is under way: a leader or a coordinator that is being made or moves.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses to begin with, `host:port`, separated by commas.
    pub bootstrap: String,
    /// What the client calls itself.
    pub client_id: String,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

impl ClientConfig {
    /// A configuration with the usual patience of 30 s.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: "dlog".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Index.
    pub index: i32,
    /// Node id of the leader, -1 without one.
    pub leader: i32,
    /// Node ids of the replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub in_sync: Vec<i32>,
}

/// A topic as the metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Name.
    pub name: String,
    /// Id.
    pub id: Uuid,
    /// Whether the brokers use it themselves.
    pub internal: bool,
    /// Partitions in the order of their indexes.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// One of the partitions.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&PartitionInfo> {
        let found = self
            .partitions
            .binary_search_by_key(&index, |info| info.index);
        found.ok().map(|at| &self.partitions[at])
    }

    /// Number of partitions that have a leader.
    fn led(&self) -> usize {
        let partitions = self.partitions.iter();
        partitions.filter(|partition| partition.leader >= 0).count()
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Node id.
    pub id: i32,
    /// Address that it is reached at.
    pub address: String,
    /// Rack.
    pub rack: Option<String>,
}

/// What is known of the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Cluster id.
    pub id: Option<String>,
    /// Node id of the controller.
    pub controller: i32,
    /// Brokers by id.
    pub brokers: Vec<BrokerInfo>,
}

/// A client of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    known: Mutex<Known>,
}

/// A place for the connection to one address. Its lock is held while connecting, so that nobody else
/// connects there meanwhile; others go on.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

#[derive(Default)]
struct Known {
    brokers: HashMap<i32, String>,
    topics: HashMap<String, Arc<TopicInfo>>,
    slots: HashMap<String, Slot>,
}

impl Client {
    /// A client; connects to one of the bootstrap addresses.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] with the last reason when none answers.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let client = Self {
            shared: Arc::new(Shared {
                config,
                known: Mutex::default(),
            }),
        };
        client.any().await?;
        Ok(client)
    }

    /// The patience for an answer.
    pub fn timeout(&self) -> Duration {
        self.shared.config.timeout
    }

    /// How this client calls itself.
    pub fn client_id(&self) -> &str {
        &self.shared.config.client_id
    }

    /// A connection to any broker.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn any(&self) -> Result<Arc<Connection>> {
        let addresses: Vec<String> = {
            let known = self.shared.known.lock();
            let open = known.slots.values().find_map(|slot| {
                let slot = slot.try_lock().ok()?;
                slot.as_ref()
                    .filter(|connection| !connection.is_closed())
                    .cloned()
            });
            if let Some(connection) = open {
                return Ok(connection);
            }
            let listed = self.shared.config.bootstrap.split(',').map(str::trim);
            let listed = listed.filter(|address| !address.is_empty());
            listed
                .map(str::to_owned)
                .chain(known.brokers.values().cloned())
                .collect()
        };
        let mut last = None;
        for address in &addresses {
            match self.open(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Usage("the list of brokers is empty".to_owned())))
    }

    async fn open(&self, address: &str) -> Result<Arc<Connection>> {
        let slot = {
            let mut known = self.shared.known.lock();
            known.slots.entry(address.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let config = &self.shared.config;
        let connection =
            Arc::new(Connection::open(address, &config.client_id, config.timeout).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// A connection to the broker with this id.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn broker(&self, id: i32) -> Result<Arc<Connection>> {
        let address = self.shared.known.lock().brokers.get(&id).cloned();
        let address = address.ok_or_else(|| ClientError::Unreachable {
            address: format!("broker {id}"),
            reason: "the metadata does not name it".to_owned(),
        })?;
        self.open(&address).await
    }

    /// Sends a request to any broker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call<R: Request>(&self, request: &R, newest: i16) -> Result<R::Response> {
        self.any().await?.call(request, newest).await
    }

    /// Sends a request to the controller.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call_controller<R: Request>(
        &self,
        request: &R,
        newest: i16,
    ) -> Result<R::Response> {
        let controller = self.cluster().await?.controller;
        self.broker(controller).await?.call(request, newest).await
    }

    /// A topic, from what is known or from the brokers.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it does not exist.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>> {
        let known = self.shared.known.lock().topics.get(name).cloned();
        if let Some(topic) = known {
            return Ok(topic);
        }
        self.refresh(name, false).await.map(Arc::new)
    }

    /// A topic as the brokers see it now; `create` lets them make it when they do that.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it does not exist.
    pub async fn refresh(&self, name: &str, create: bool) -> Result<TopicInfo> {
        let asked = MetadataRequestTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(create);
        let answer = self.metadata(&request).await?;
        let topic = answer
            .topics
            .first()
            .map(|topic| info(topic, name))
            .transpose()?;
        topic.ok_or_else(|| ClientError::Incomplete {
            what: format!("topic {name}"),
        })
    }

    /// As [`Client::refresh`], and waits until the partitions have leaders: at most `unknown` for a
    /// topic that does not exist (its creation may be under way), else the client's patience.
    /// Partitions that stay without one hold nobody up who needs others.
    ///
    /// # Errors
    /// As [`Client::refresh`], or the last reason.
    pub async fn await_topic(
        &self,
        name: &str,
        create: bool,
        unknown: Duration,
    ) -> Result<TopicInfo> {
        let began = Instant::now();
        loop {
            let error = match self.refresh(name, create).await {
                Ok(info) if info.led() == info.partitions.len() => return Ok(info),
                Ok(info) if info.led() > 0 && began.elapsed() >= unknown => return Ok(info),
                Ok(_) => ClientError::Refused {
                    what: format!("topic {name}"),
                    code: ResponseError::LeaderNotAvailable.code(),
                    message: None,
                },
                Err(error) => error,
            };
            let patience = match error.response_error() {
                Some(ResponseError::UnknownTopicOrPartition) => unknown,
                _ => self.timeout(),
            };
            if !error.is_retriable() || began.elapsed() >= patience {
                return Err(error);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let answer = self
            .metadata(&MetadataRequest::default().with_topics(None))
            .await?;
        let mut topics = answer
            .topics
            .iter()
            .map(|topic| info(topic, ""))
            .collect::<Result<Vec<_>>>()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The cluster as a whole.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cluster(&self) -> Result<ClusterInfo> {
        let answer = self
            .metadata(&MetadataRequest::default().with_topics(Some(Vec::new())))
            .await?;
        let mut brokers: Vec<_> = answer
            .brokers
            .iter()
            .map(|broker| BrokerInfo {
                id: broker.node_id.0,
                address: address(&broker.host, broker.port),
                rack: broker.rack.as_ref().map(ToString::to_string),
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterInfo {
            id: answer.cluster_id.map(|id| id.to_string()),
            controller: answer.controller_id.0,
            brokers,
        })
    }

    async fn metadata(&self, request: &MetadataRequest) -> Result<MetadataResponse> {
        let answer = self.call(request, 12).await?;
        let mut known = self.shared.known.lock();
        // Every answer lists all brokers; a list without any is of no use.
        if !answer.brokers.is_empty() {
            let brokers = answer.brokers.iter();
            known.brokers = brokers
                .map(|broker| (broker.node_id.0, address(&broker.host, broker.port)))
                .collect();
        }
        for topic in &answer.topics {
            match (info(topic, ""), &topic.name) {
                (Ok(info), _) => {
                    known.topics.insert(info.name.clone(), Arc::new(info));
                }
                (Err(_), Some(name)) => {
                    known.topics.remove(name.as_str());
                }
                (Err(_), None) => {}
            }
        }
        drop(known);
        Ok(answer)
    }

    /// A connection to the leader of a partition.
    ///
    /// # Errors
    /// [`ClientError`], retriable while the partition has no leader.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Arc<Connection>> {
        let info = self.topic(topic).await?;
        let found = info.partition(partition);
        let what = || format!("{topic}-{partition}");
        let leader = match found {
            None => {
                return Err(ClientError::Refused {
                    what: what(),
                    code: ResponseError::UnknownTopicOrPartition.code(),
                    message: None,
                });
            }
            Some(info) if info.leader < 0 => {
                return Err(ClientError::Refused {
                    what: what(),
                    code: ResponseError::LeaderNotAvailable.code(),
                    message: None,
                });
            }
            Some(info) => info.leader,
        };
        self.broker(leader).await
    }
}

/// A name or an IPv4 address as it is, an IPv6 address in brackets.
pub(crate) fn address(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn info(topic: &MetadataResponseTopic, asked: &str) -> Result<TopicInfo> {
    let name = topic
        .name
        .as_ref()
        .map_or_else(|| asked.to_owned(), |name| name.to_string());
    ClientError::check(topic.error_code, || format!("topic {name}"), None)?;
    let ids =
        |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| PartitionInfo {
            index: partition.partition_index,
            leader: partition.leader_id.0,
            replicas: ids(&partition.replica_nodes),
            in_sync: ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Ok(TopicInfo {
        name,
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    })
}
