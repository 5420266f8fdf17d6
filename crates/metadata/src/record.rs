//! What can happen to the cluster, and how it is written down.
//!
//! One change (a list of records that belong together) is one log record whose value is the JSON
//! `{"v":1,"records":[…]}`: readable with any tool, and extensible, since unknown fields are skipped.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::image::MetadataError;

/// Version of the encoding that [`encode_change`] writes.
pub const ENCODING_VERSION: u32 = 1;

/// Where a broker can be reached under the name of one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the listener.
    pub listener: String,
    /// Host name or address that clients connect to.
    pub host: String,
    /// Port that clients connect to.
    pub port: u16,
}

/// What a setting belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigResource {
    /// The topic with this name.
    Topic(String),
    /// The broker with this node id; `None` is the default of all brokers.
    Broker(Option<i32>),
    /// The group with this id, which need not exist.
    Group(String),
    /// The client metrics subscription with this name (KIP-714).
    ClientMetrics(String),
}

/// Assignment and leadership of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Node ids of the replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Replicas that are in sync.
    pub isr: Vec<i32>,
    /// Node id of the leader, or -1.
    pub leader: i32,
    /// Leader epoch: grows with every election.
    pub leader_epoch: i32,
}

/// One thing that happened to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MetadataRecord {
    /// The cluster got its id. Happens once.
    ClusterId {
        /// 22 characters, URL-safe base64 of a UUID, as Kafka writes it.
        cluster_id: String,
    },
    /// A broker started or changed its endpoints.
    BrokerRegistered {
        /// Node id.
        node_id: i32,
        /// Where it can be reached.
        endpoints: Vec<Endpoint>,
        /// Rack, for placement.
        rack: Option<String>,
    },
    /// A topic came into being, without partitions yet.
    TopicCreated {
        /// Id of this incarnation of the topic.
        topic_id: Uuid,
        /// Name.
        name: String,
    },
    /// Partitions were added at the end.
    PartitionsAdded {
        /// The topic.
        topic_id: Uuid,
        /// Index of the first added partition: the number of partitions before.
        first: i32,
        /// The added partitions.
        partitions: Vec<PartitionState>,
    },
    /// A topic was deleted with all its partitions and settings.
    TopicDeleted {
        /// The topic.
        topic_id: Uuid,
    },
    /// A setting was set, or removed so that its default holds again.
    ConfigChanged {
        /// What it belongs to.
        resource: ConfigResource,
        /// Name of the setting.
        name: String,
        /// New value; `None` removes it.
        value: Option<String>,
    },
    /// A block of producer ids was handed out; ids below `next` are never handed out again.
    ProducerIdsAllocated {
        /// First id that is still free.
        next: i64,
    },
}

#[derive(Serialize, Deserialize)]
struct Change<'a> {
    v: u32,
    records: std::borrow::Cow<'a, [MetadataRecord]>,
}

/// Encodes records that belong together.
///
/// # Errors
/// [`MetadataError::Encoding`] when serialization fails.
pub fn encode_change(records: &[MetadataRecord]) -> Result<Vec<u8>, MetadataError> {
    let change = Change {
        v: ENCODING_VERSION,
        records: records.into(),
    };
    serde_json::to_vec(&change).map_err(|e| MetadataError::Encoding(e.to_string()))
}

/// Decodes what [`encode_change`] wrote.
///
/// # Errors
/// [`MetadataError::Encoding`] when the bytes are no change, or one of a newer version.
pub fn decode_change(bytes: &[u8]) -> Result<Vec<MetadataRecord>, MetadataError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let failed = |e: serde_json::Error| MetadataError::Encoding(e.to_string());
    let version: Version = serde_json::from_slice(bytes).map_err(failed)?;
    if version.v > ENCODING_VERSION {
        return Err(MetadataError::Encoding(format!(
            "written by a newer release (encoding {}, known {ENCODING_VERSION})",
            version.v
        )));
    }
    let change: Change<'_> = serde_json::from_slice(bytes).map_err(failed)?;
    Ok(change.records.into_owned())
}
