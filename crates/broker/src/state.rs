//! What all connections share.

use std::sync::{Arc, OnceLock};

use dlog_metadata::configs::group::GroupConfig;
use dlog_metadata::configs::{self, StaticConfigs};
use dlog_metadata::{LocalMetadataLog, MetadataImage};
use dlog_storage::LogEnv;
use tokio_util::sync::CancellationToken;

use crate::api::fetch::FetchSessions;
use crate::config::BrokerConfig;
use crate::guard::DiskGuard;
use crate::identity::Identity;
use crate::loggers::Loggers;
use crate::metrics::Metrics;
use crate::net::listener::ConnectionCounts;
use crate::partitions::{Partitions, UpkeepWork};
use crate::producer_ids::ProducerIds;

/// The state of a running server.
pub struct BrokerState {
    /// Settings.
    pub config: BrokerConfig,
    /// Settings that Kafka's tools see as given in the server's configuration.
    pub statics: StaticConfigs,
    /// Identity of the data folder.
    pub identity: Identity,
    /// What logs run on.
    pub env: LogEnv,
    /// The metadata log; see [`BrokerState::image`] for reading and [`crate::topics`] for changing.
    pub metadata: LocalMetadataLog,
    /// The partitions on this node.
    pub partitions: Partitions,
    /// Incremental fetch sessions.
    pub fetch_sessions: FetchSessions,
    /// Where producer ids come from.
    pub producer_ids: ProducerIds,
    /// Consumer groups.
    pub groups: crate::groups::Groups,
    /// Share groups: who fetches what.
    pub share: crate::share::ShareGroups,
    /// Share groups: what lasts.
    pub share_states: crate::share::store::ShareStates,
    /// What the threads that compact share.
    pub compaction: crate::compaction::Compaction,
    /// Stands between producers and the last of the disk.
    pub guard: DiskGuard,
    /// The loggers of the process, once somebody gave them.
    pub loggers: OnceLock<Arc<dyn Loggers>>,
    /// Transactions.
    pub transactions: crate::transactions::Transactions,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Open connections.
    pub connections: Arc<ConnectionCounts>,
    /// Folders of deleted partitions go to the upkeep thread.
    pub upkeep: std::sync::mpsc::Sender<UpkeepWork>,
    /// Cancelled when the server begins to stop.
    pub stopping: CancellationToken,
}

impl BrokerState {
    /// The newest metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.metadata.image()
    }

    /// What holds for a group: its own settings, else this server's, within its bounds. The group need not
    /// exist.
    pub fn group_config<'a>(&'a self, image: &'a MetadataImage, group_id: &str) -> GroupConfig<'a> {
        GroupConfig::new(image, group_id, self.node_id(), &self.statics)
    }

    /// A broker setting as it holds now; `default` when it is unknown or no number of this kind.
    pub fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.setting(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    /// A broker setting as it holds now; `None` when it is unknown, or not set and without a default.
    pub fn setting(&self, name: &str) -> Option<String> {
        let def = configs::broker::find(name)?;
        let image = self.image();
        let resolved = configs::resolve_broker(def, &image, Some(self.node_id()), &self.statics);
        resolved.value().map(ToString::to_string)
    }

    /// The clock, Unix ms.
    pub fn now_ms(&self) -> i64 {
        (self.env.clock)()
    }

    /// Id of this node.
    pub fn node_id(&self) -> i32 {
        self.identity.node_id
    }
}

/// The system clock, Unix ms.
pub fn system_time_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
