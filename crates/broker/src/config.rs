//! Settings of the server. Names follow Kafka's where Kafka has the setting; units are in the names.

use std::net::SocketAddr;
use std::path::PathBuf;

use dlog_metadata::configs::StaticConfigs;
use serde::{Deserialize, Serialize};

/// One address that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Name, unique among the listeners.
    pub name: String,
    /// Address to bind; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Host that clients are told to connect to; by default the bound address, or `localhost` when
    /// that is unspecified (0.0.0.0 or ::).
    #[serde(default)]
    pub advertised_host: Option<String>,
    /// Port that clients are told to connect to; by default the bound port.
    #[serde(default)]
    pub advertised_port: Option<u16>,
}

/// Settings of a [`crate::Broker`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// Folder of all data; created when missing, owned by one process at a time.
    pub data_dir: PathBuf,
    /// Addresses to listen on; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Id of this node. A data folder remembers the id it was made with.
    pub node_id: i32,
    /// Rack of this node.
    pub rack: Option<String>,
    /// Id that a new cluster gets; by default a random one.
    pub cluster_id: Option<String>,
    /// Whether a topic is created when a client asks for it and it does not exist.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say.
    pub num_partitions: i32,
    /// Largest number of partitions that one topic may have.
    pub max_partitions_per_topic: i32,
    /// Defaults of topics and of dynamic broker settings: Kafka's broker setting name to value
    /// (`log.flush`, `log.retention.ms`, `message.max.bytes`, …).
    pub defaults: StaticConfigs,

    /// Largest request, in bytes.
    pub socket_request_max_bytes: u32,
    /// Largest first request of a connection, in bytes: nobody is known to speak Kafka before it.
    pub first_request_max_bytes: u32,
    /// Most connections at any time.
    pub max_connections: u32,
    /// Most connections from one address.
    pub max_connections_per_ip: u32,
    /// A connection without a request for this long is closed, in ms.
    pub connections_max_idle_ms: u64,
    /// Requests of one connection whose responses may be outstanding.
    pub max_in_flight_requests: u16,
    /// A client that takes no byte of its responses for this long is cut off, in ms.
    pub write_timeout_ms: u64,
    /// Kernel send buffer of a connection, in bytes; 0 leaves it to the operating system.
    pub socket_send_buffer_bytes: u32,
    /// Kernel receive buffer of a connection, in bytes; 0 leaves it to the operating system.
    pub socket_receive_buffer_bytes: u32,

    /// Most bytes of records in one fetch response (one batch is always returned).
    pub fetch_max_bytes: u32,
    /// Incremental fetch sessions kept (KIP-227).
    pub fetch_session_cache_slots: u32,
    /// A fetch session that was not used for this long may be evicted for another, in ms.
    pub min_fetch_session_eviction_ms: i64,
    /// Producer ids unused for this long are forgotten, in ms.
    pub producer_id_expiration_ms: i64,
    /// Most producer ids remembered for one partition, 0 for no limit: beyond it the longest silent ones
    /// without an open transaction are forgotten.
    pub producer_id_max_per_partition: u32,

    /// How often old segments are looked for, in ms.
    pub retention_check_interval_ms: u64,
    /// Threads that open partitions at start; 0 takes the number of cores.
    pub recovery_threads: u16,
    /// Threads that flush.
    pub flusher_threads: u16,
    /// How long a shutdown waits for requests under way, in ms.
    pub shutdown_timeout_ms: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            listeners: vec![ListenerConfig {
                name: "PLAINTEXT".to_owned(),
                bind: SocketAddr::from(([127, 0, 0, 1], 9092)),
                advertised_host: None,
                advertised_port: None,
            }],
            node_id: 1,
            rack: None,
            cluster_id: None,
            auto_create_topics: true,
            num_partitions: 1,
            max_partitions_per_topic: 10_000,
            defaults: StaticConfigs::new(),
            socket_request_max_bytes: 100 << 20,
            first_request_max_bytes: 64 << 10,
            max_connections: 100_000,
            max_connections_per_ip: u32::MAX,
            connections_max_idle_ms: 600_000,
            max_in_flight_requests: 128,
            write_timeout_ms: 60_000,
            socket_send_buffer_bytes: 0,
            socket_receive_buffer_bytes: 0,
            fetch_max_bytes: 55 << 20,
            fetch_session_cache_slots: 1000,
            min_fetch_session_eviction_ms: 120_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_max_per_partition: 200_000,
            retention_check_interval_ms: 300_000,
            recovery_threads: 0,
            flusher_threads: 64,
            shutdown_timeout_ms: 30_000,
        }
    }
}
