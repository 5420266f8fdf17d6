//! The topics of the cluster, as far as groups look at them.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// A topic as a group sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: u32,
}

/// A snapshot of the cluster's topics. The shell hands a new one to the coordinator whenever the
/// metadata has changed ([`crate::GroupCoordinator::set_topics`]).
pub trait TopicCatalog: fmt::Debug + Send + Sync {
    /// Grows with every snapshot that may differ from the one before.
    fn version(&self) -> u64;

    /// The topic of this name.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// The name of the topic with this id.
    fn name_of(&self, id: Uuid) -> Option<Arc<str>>;

    /// Calls `visit` with the name of each topic, in a fixed order.
    fn each_name(&self, visit: &mut dyn FnMut(&str));
}

/// Before the shell has said anything.
#[derive(Debug)]
pub(crate) struct NoTopics;

impl TopicCatalog for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn topic(&self, _: &str) -> Option<TopicInfo> {
        None
    }

    fn name_of(&self, _: Uuid) -> Option<Arc<str>> {
        None
    }

    fn each_name(&self, _: &mut dyn FnMut(&str)) {}
}

/// A number that stands for the topics with these names: it changes when one of them appears, goes,
/// grows or is made anew (KIP-1101). 0 when none of them exists. Stored with the group's epoch, so
/// it must not depend on anything but its input.
pub(crate) fn metadata_hash<'a>(
    catalog: &dyn TopicCatalog,
    names: impl Iterator<Item = &'a str>,
) -> i64 {
    // FNV-1a, 64 bits.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut any = false;
    let mut mix = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in names {
        let Some(topic) = catalog.topic(name) else {
            continue;
        };
        any = true;
        mix(name.as_bytes());
        mix(&[0]);
        mix(topic.id.as_bytes());
        mix(&topic.partitions.to_be_bytes());
    }
    match hash as i64 {
        _ if !any => 0,
        0 => 1,
        hash => hash,
    }
}
