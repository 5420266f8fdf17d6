//! Committed offsets of one group, and the names they share.
//!
//! A million offsets are ordinary, so what an offset rarely has (free text, its own expiry, a
//! topic id) lives in a box that most do without, and topic names are interned per coordinator.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::OffsetCommitValue;

/// An offset as it is kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    pub(crate) commit_timestamp_ms: i64,
    rare: Option<Box<Rare>>,
    pub(crate) leader_epoch: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rare {
    metadata: Box<str>,
    expire_timestamp_ms: i64,
    topic_id: Uuid,
}

impl CommittedOffset {
    pub(crate) fn new(value: &OffsetCommitValue<'_>) -> Self {
        let plain =
            value.metadata.is_empty() && value.expire_timestamp_ms == -1 && value.topic_id.is_nil();
        let rare = (!plain).then(|| {
            Box::new(Rare {
                metadata: value.metadata.into(),
                expire_timestamp_ms: value.expire_timestamp_ms,
                topic_id: value.topic_id,
            })
        });
        Self {
            offset: value.offset,
            commit_timestamp_ms: value.commit_timestamp_ms,
            rare,
            leader_epoch: value.leader_epoch,
        }
    }

    pub(crate) fn metadata(&self) -> &str {
        self.rare.as_ref().map_or("", |rare| &rare.metadata)
    }

    /// When the commit itself said that it expires.
    pub(crate) fn expire_timestamp_ms(&self) -> Option<i64> {
        self.rare
            .as_ref()
            .map(|rare| rare.expire_timestamp_ms)
            .filter(|&at| at != -1)
    }
}

/// The offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>,
}

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(crate) fn partitions_of(&self, topic: &str) -> impl Iterator<Item = i32> {
        self.topics
            .get(topic)
            .into_iter()
            .flat_map(|of| of.keys().copied())
    }

    pub(crate) fn topics(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<i32, CommittedOffset>)> {
        self.topics.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(&partition, offset)| (topic, partition, offset))
        })
    }

    pub(crate) fn set(
        &mut self,
        names: &mut Names,
        topic: &str,
        partition: i32,
        offset: CommittedOffset,
    ) {
        // Looked up first: the name is interned only for a topic that is new to the group.
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.insert(partition, offset);
        } else {
            self.topics
                .insert(names.intern(topic), BTreeMap::from([(partition, offset)]));
        }
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}

/// One copy of each topic name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashSet<Arc<str>>,
}

impl Names {
    pub(crate) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        name
    }

    /// Forgets the names that nothing uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.known.retain(|name| Arc::strong_count(name) > 1);
    }
}
