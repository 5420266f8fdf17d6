//! Finding a partition: one atomic load and one hash lookup, whoever is changing topics meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Partition, TopicSettings};
use crate::metrics::TopicMetrics;

/// One topic with the partitions that this node hosts.
#[derive(Clone, Debug)]
pub struct HostedTopic {
    /// Name.
    pub name: Arc<str>,
    /// Id of this incarnation.
    pub id: Uuid,
    /// What the topic is set to; replaced as a whole when a setting changes.
    pub settings: Arc<ArcSwap<TopicSettings>>,
    /// Partitions by index.
    pub partitions: Vec<Arc<Partition>>,
    /// Counters.
    pub metrics: TopicMetrics,
}

impl HostedTopic {
    /// The partition with this index.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Whether the partition is here and cannot be served. One that is not here yet is being created,
    /// which takes a moment and is no failure: clients that hear of it may ask, and ask again.
    pub fn is_offline(&self, index: i32) -> bool {
        let here = self.partition(index);
        here.is_some_and(|here| here.offline_reason().is_some())
    }
}

#[derive(Clone, Debug, Default)]
struct Index {
    by_name: HashMap<Arc<str>, Arc<HostedTopic>>,
    by_id: HashMap<Uuid, Arc<HostedTopic>>,
}

/// All partitions on this node.
#[derive(Debug, Default)]
pub struct Partitions {
    index: ArcSwap<Index>,
    /// Some partition could not be opened for want of room.
    starved: AtomicBool,
    /// Held while topics change, from the decision to the published result.
    pub changing: Mutex<()>,
}

impl Partitions {
    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<Arc<HostedTopic>> {
        self.index.load().by_name.get(name).cloned()
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<HostedTopic>> {
        self.index.load().by_id.get(&id).cloned()
    }

    /// A partition by topic name and index.
    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.index
            .load()
            .by_name
            .get(topic)?
            .partition(index)
            .cloned()
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<HostedTopic>> {
        self.index.load().by_name.values().cloned().collect()
    }

    /// Adds a topic or replaces it (after it grew). [`Self::changing`] is held by the caller.
    pub fn publish(&self, topics: impl IntoIterator<Item = Arc<HostedTopic>>) {
        let mut next = Index::clone(&self.index.load());
        for topic in topics {
            if topic.partitions.iter().any(|one| one.is_starved()) {
                self.starved.store(true, Ordering::Release);
            }
            next.by_id.insert(topic.id, topic.clone());
            next.by_name.insert(topic.name.clone(), topic);
        }
        self.index.store(Arc::new(next));
    }

    /// Whether there may be partitions that wait for room on the disk; they are asked for once.
    pub(super) fn take_starved(&self) -> bool {
        self.starved.swap(false, Ordering::AcqRel)
    }

    /// Takes a topic out; waiting fetches find out. [`Self::changing`] is held by the caller.
    pub fn remove(&self, id: Uuid) -> Option<Arc<HostedTopic>> {
        let mut next = Index::clone(&self.index.load());
        let topic = next.by_id.remove(&id)?;
        next.by_name.remove(&topic.name);
        self.index.store(Arc::new(next));
        topic
            .partitions
            .iter()
            .for_each(|partition| partition.wake());
        Some(topic)
    }
}
