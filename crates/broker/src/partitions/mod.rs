//! The partitions that this node hosts.
//!
//! `registry` finds them without a lock, `partition` is one of them with its log, `waiting` has the
//! fetches that wait, `markers` ends transactions in a partition, `settings` is what a topic is set to,
//! `open` brings all of them up in parallel at start, `upkeep` does what happens in the background.

mod markers;
mod open;
mod partition;
mod registry;
mod settings;
mod upkeep;
mod waiting;

pub use markers::append_marker;
pub(crate) use open::OpenAll;
pub use open::{folder_name, open_partition, open_topic};
pub use partition::Partition;
pub use registry::{HostedTopic, Partitions};
pub(crate) use settings::MAX_PRODUCERS;
pub use settings::{TopicSettings, log_config};
pub(crate) use upkeep::leftovers;
pub use upkeep::{DeletedFolder, Upkeep, UpkeepWork, retire_folder};
pub use waiting::{WaitList, Waiting};
