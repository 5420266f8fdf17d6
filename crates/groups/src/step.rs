//! What a group may touch while it takes a step: the settings, the time, the effects it produces
//! and the writes it is waiting for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{
    Effect, GroupRecord, JoinRefused, Producer, Reply, Token, TopicResult, TransactionMarker,
    WriteId,
};
use crate::classic::MemberUpdate;
use crate::config::GroupConfig;
use crate::error::GroupError;
use crate::modern::TopicCatalog;
use crate::offsets::CommittedOffset;

/// One step's surroundings.
pub(crate) struct Step<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) topics: &'a dyn TopicCatalog,
    pub(crate) now_ms: i64,
    pub(crate) writes: &'a mut Writes,
    pub(crate) out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    pub(crate) fn reply(&mut self, token: Token, reply: Reply) {
        self.out.push(Effect::Reply { token, reply });
    }

    pub(crate) fn refuse_join(&mut self, token: Token, error: GroupError, member_id: &str) {
        let member_id = member_id.to_owned();
        self.reply(token, Reply::Join(Err(JoinRefused { error, member_id })));
    }

    pub(crate) fn persist(
        &mut self,
        group: &Arc<str>,
        records: Vec<GroupRecord>,
        purpose: Purpose,
    ) -> WriteId {
        let write = self.writes.open(group, purpose);
        self.out.push(Effect::Persist { write, records });
        write
    }
}

impl Step<'_> {
    pub(crate) fn persist_in_transaction(
        &mut self,
        group: &Arc<str>,
        producer: Producer,
        records: Vec<GroupRecord>,
        purpose: Purpose,
    ) {
        let write = self.writes.open(group, purpose);
        self.out.push(Effect::PersistInTransaction {
            write,
            producer,
            records,
        });
    }

    pub(crate) fn persist_marker(&mut self, marker: TransactionMarker, token: Token) {
        // It is of no group in particular.
        let write = self
            .writes
            .open(&"".into(), Purpose::EndTransaction { marker, token });
        self.out.push(Effect::PersistMarker { write, marker });
    }
}

/// Writes that the shell has not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    last: u64,
    open: BTreeMap<WriteId, OpenWrite>,
}

/// A write and what hangs on it.
#[derive(Debug)]
pub(crate) struct OpenWrite {
    pub(crate) group: Arc<str>,
    pub(crate) purpose: Purpose,
    /// The group was deleted after this write: a group of the same name is not the same group.
    pub(crate) orphaned: bool,
}

/// What happens when a write ends.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// The leader's assignments take effect.
    Assign {
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// The group has become empty; nothing waits for it.
    Empty,
    /// A static member came back under a new id.
    ReplaceStatic(Box<StaticReplacement>),
    /// Offsets change; `None` deletes.
    Offsets {
        changes: Vec<OffsetChange>,
        then: OffsetsThen,
    },
    /// Offsets of an open transaction.
    TransactionalOffsets {
        producer_id: i64,
        changes: Vec<OffsetChange>,
        then: OffsetsThen,
        /// How the transaction ended, when its marker was reported first.
        committed: Option<bool>,
    },
    /// A transaction ends.
    EndTransaction {
        marker: TransactionMarker,
        token: Token,
    },
    /// The group goes away.
    Delete { token: Option<Token> },
    /// The state of a group with member epochs; its [`crate::modern::Ledger`] knows more.
    State,
}

/// Who hears about a change of offsets.
#[derive(Debug)]
pub(crate) enum OffsetsThen {
    Commit {
        token: Token,
        results: Vec<TopicResult>,
    },
    Delete {
        token: Token,
        results: Vec<TopicResult>,
    },
    Nobody,
}

/// What is needed to finish, or to undo, the replacement of a static member.
#[derive(Debug)]
pub(crate) struct StaticReplacement {
    pub(crate) token: Token,
    pub(crate) old_member_id: Arc<str>,
    pub(crate) new_member_id: Arc<str>,
    pub(crate) old_leader: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) before: MemberUpdate,
    pub(crate) supports_skipping_assignment: bool,
}

/// A change of one committed offset.
#[derive(Debug)]
pub(crate) struct OffsetChange {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) value: Option<CommittedOffset>,
    /// A later commit of the partition counts already. A deletion still ends the waiting of what
    /// transactions committed before it.
    pub(crate) superseded: bool,
}

impl OffsetChange {
    pub(crate) fn set(topic: Arc<str>, partition: i32, offset: CommittedOffset) -> Self {
        Self {
            topic,
            partition,
            value: Some(offset),
            superseded: false,
        }
    }

    pub(crate) fn delete(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            value: None,
            superseded: false,
        }
    }
}

impl Writes {
    fn open(&mut self, group: &Arc<str>, purpose: Purpose) -> WriteId {
        self.last += 1;
        let write = WriteId(self.last);
        self.open.insert(
            write,
            OpenWrite {
                group: group.clone(),
                purpose,
                orphaned: false,
            },
        );
        write
    }

    /// The place of the next record that loading finds.
    pub(crate) fn found_next(&mut self) -> WriteId {
        self.last += 1;
        WriteId(self.last)
    }

    /// Behind everything so far, before everything that comes.
    pub(crate) fn behind_all(&self) -> WriteId {
        WriteId(self.last.saturating_add(1))
    }

    pub(crate) fn close(&mut self, write: WriteId) -> Option<OpenWrite> {
        self.open.remove(&write)
    }

    pub(crate) fn take_all(&mut self) -> BTreeMap<WriteId, OpenWrite> {
        std::mem::take(&mut self.open)
    }

    /// What `write` says of these partitions counts. Writes come to an end in any order but take
    /// effect in the order of the log: what an earlier write of the group, still open, says about
    /// the same partitions must not be applied any more.
    pub(crate) fn supersede(&mut self, write: WriteId, group: &str, keys: &[OffsetChange]) {
        let mut covered: Option<BTreeMap<(&str, i32), bool>> = None;
        for (_, earlier) in self.open.range_mut(..write) {
            if &*earlier.group != group {
                continue;
            }
            let covered = covered.get_or_insert_with(|| {
                let keys = keys.iter();
                keys.map(|key| ((&*key.topic, key.partition), key.value.is_none()))
                    .collect()
            });
            let by =
                |change: &OffsetChange| covered.get(&(&*change.topic, change.partition)).copied();
            match &mut earlier.purpose {
                Purpose::Offsets { changes, .. } => {
                    changes.retain(|change| change.value.is_none() || by(change).is_none());
                    let superseded = changes.iter_mut().filter(|change| by(change).is_some());
                    superseded.for_each(|change| change.superseded = true);
                }
                Purpose::TransactionalOffsets { changes, .. } => {
                    // Deleted, it waits no longer; behind a commit it still does.
                    changes.retain(|change| by(change) != Some(true));
                    let superseded = changes.iter_mut().filter(|change| by(change).is_some());
                    superseded.for_each(|change| change.superseded = true);
                }
                _ => {}
            }
        }
    }

    /// The marker of `write` is durable: how the transaction of earlier writes, still open, ended.
    pub(crate) fn end_transaction(&mut self, write: WriteId, producer_id: i64, ends: bool) {
        // What lies before an earlier marker is for that one to end.
        let begin = self.open_marker(write, producer_id);
        let begin = begin.unwrap_or(WriteId(0));
        for (_, earlier) in self.open.range_mut(begin..write) {
            if let Purpose::TransactionalOffsets {
                producer_id: producer,
                committed,
                ..
            } = &mut earlier.purpose
                && *producer == producer_id
            {
                committed.get_or_insert(ends);
            }
        }
    }

    /// The producer's last marker before `write` that is still open.
    pub(crate) fn open_marker(&self, write: WriteId, producer_id: i64) -> Option<WriteId> {
        let ends = |open: &OpenWrite| match &open.purpose {
            Purpose::EndTransaction { marker, .. } => marker.producer.id == producer_id,
            _ => false,
        };
        let mut earlier = self.open.range(..write).rev();
        earlier
            .find(|(_, open)| ends(open))
            .map(|(&write, _)| write)
    }

    /// The deletion of `group` is durable: earlier writes only have their senders answered.
    pub(crate) fn orphan(&mut self, write: WriteId, group: &str) {
        for (_, earlier) in self.open.range_mut(..write) {
            earlier.orphaned |= &*earlier.group == group;
        }
    }

    /// Whether an open write commits this partition in a transaction whose end is not known.
    pub(crate) fn is_in_transaction(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.open.values().any(|write| match &write.purpose {
            Purpose::TransactionalOffsets {
                changes, committed, ..
            } => {
                committed.is_none()
                    && !write.orphaned
                    && &*write.group == group
                    && changes
                        .iter()
                        .any(|change| *change.topic == *topic && change.partition == partition)
            }
            _ => false,
        })
    }

    /// Groups and partitions of `topic` that an open write commits or deletes.
    pub(crate) fn open_of_topic(&self, topic: &str) -> BTreeSet<(Arc<str>, i32)> {
        let mut found = BTreeSet::new();
        for write in self.open.values() {
            let (Purpose::Offsets { changes, .. } | Purpose::TransactionalOffsets { changes, .. }) =
                &write.purpose
            else {
                continue;
            };
            let of_topic = changes.iter().filter(|change| *change.topic == *topic);
            found.extend(of_topic.map(|change| (write.group.clone(), change.partition)));
        }
        found
    }

    /// Partitions of `group` that an open write commits or deletes.
    pub(crate) fn open_offsets<'a>(
        &'a self,
        group: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, i32)> {
        self.open
            .values()
            .filter(move |write| &*write.group == group)
            .flat_map(|write| {
                let changes = match &write.purpose {
                    Purpose::Offsets { changes, .. }
                    | Purpose::TransactionalOffsets { changes, .. } => changes.as_slice(),
                    _ => &[],
                };
                changes
                    .iter()
                    .map(|change| (&change.topic, change.partition))
            })
    }
}
