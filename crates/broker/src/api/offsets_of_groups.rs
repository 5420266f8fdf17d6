//! What OffsetCommit and TxnOffsetCommit have in common: topics that are named by id, partitions that do
//! not exist, and the error code of each partition.

use std::collections::HashMap;

use dlog_groups::{CommitPartition, CommitTopic, GroupError, TopicResult};
use dlog_metadata::MetadataImage;
use kafka_protocol::ResponseError;
use uuid::Uuid;

/// Error codes by topic and partition.
#[derive(Default)]
pub(super) struct Codes {
    known: HashMap<(String, i32), i16>,
    /// Of every other partition.
    otherwise: i16,
}

impl Codes {
    /// The partitions of a topic that exist; the others get their error.
    pub(super) fn known_partitions(
        &mut self,
        image: &MetadataImage,
        topic: &str,
        asked: impl Iterator<Item = CommitPartition>,
    ) -> CommitTopic {
        let count = image.topic(topic).map_or(0, |t| t.partitions.len());
        let mut partitions = Vec::new();
        for partition in asked {
            if usize::try_from(partition.partition).is_ok_and(|index| index < count) {
                partitions.push(partition);
            } else {
                let unknown = ResponseError::UnknownTopicOrPartition.code();
                self.known
                    .insert((topic.to_owned(), partition.partition), unknown);
            }
        }
        CommitTopic {
            topic: topic.to_owned(),
            topic_id: Uuid::nil(),
            partitions,
        }
    }

    /// What the group says of the partitions that exist; an error is that of all of them.
    pub(super) fn take_in(&mut self, committed: Result<Vec<TopicResult>, i16>) {
        match committed {
            Ok(results) => {
                for topic in results {
                    for (partition, error) in topic.partitions {
                        self.known.insert(
                            (topic.topic.clone(), partition),
                            error.map_or(0, GroupError::code),
                        );
                    }
                }
                self.otherwise = GroupError::UnknownServerError.code();
            }
            Err(code) => self.otherwise = code,
        }
    }

    /// The code of one partition.
    pub(super) fn of(&self, topic: &str, partition: i32) -> i16 {
        let key = (topic.to_owned(), partition);
        self.known.get(&key).copied().unwrap_or(self.otherwise)
    }
}

/// Topics of a request that names them by id: those that exist, with their names, and the places of all
/// answers.
pub(super) struct Named<T, A> {
    pub(super) known: Vec<T>,
    slots: Vec<Option<A>>,
}

impl<T, A> Named<T, A> {
    /// Gives topics their names; `unknown` answers for one that does not exist.
    pub(super) fn new(
        image: &MetadataImage,
        topics: impl IntoIterator<Item = T>,
        ids: &[Uuid],
        rename: impl Fn(&mut T, &str),
        unknown: impl Fn(&T) -> A,
    ) -> Self {
        let mut named = Self {
            known: Vec::with_capacity(ids.len()),
            slots: Vec::with_capacity(ids.len()),
        };
        for (mut topic, id) in topics.into_iter().zip(ids) {
            if let Some(found) = image.topic_by_id(*id) {
                rename(&mut topic, &found.name);
                named.known.push(topic);
                named.slots.push(None);
            } else {
                named.slots.push(Some(unknown(&topic)));
            }
        }
        named
    }

    /// All answers in the order of the request, given those for [`Self::known`].
    pub(super) fn answers(self, known: Vec<A>) -> Vec<A> {
        let mut answered = known.into_iter();
        let slots = self.slots.into_iter();
        slots
            .filter_map(|slot| slot.or_else(|| answered.next()))
            .collect()
    }
}
