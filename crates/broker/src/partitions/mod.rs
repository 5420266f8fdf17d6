//! The partitions that this node hosts.
//!
//! `registry` finds them without a lock, `partition` is one of them with its log, `waiting` has the
//! fetches that wait, `settings` what its topic is set to, `open` brings all of them up in parallel at
//! start, `upkeep` does what happens in the background.

mod open;
mod partition;
mod registry;
mod settings;
mod upkeep;
mod waiting;

pub(crate) use open::OpenAll;
pub use open::{folder_name, open_partition, open_topic};
pub use partition::Partition;
pub use registry::{HostedTopic, Partitions};
pub use settings::{TopicSettings, log_config};
pub(crate) use upkeep::leftovers;
pub use upkeep::{DeletedFolder, Upkeep, UpkeepWork, retire_folder};
pub use waiting::{WaitList, Waiting};
