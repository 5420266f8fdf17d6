//! What a group may touch while it takes a step: the settings, the time, the effects it produces
//! and the writes it is waiting for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{Effect, GroupRecord, JoinRefused, Reply, Token, TopicResult, WriteId};
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

    pub(crate) fn close(&mut self, write: WriteId) -> Option<OpenWrite> {
        self.open.remove(&write)
    }

    pub(crate) fn take_all(&mut self) -> BTreeMap<WriteId, OpenWrite> {
        std::mem::take(&mut self.open)
    }

    /// `write` is durable. Writes come to an end in any order but take effect in the order of the
    /// log: what an earlier write of the group, still open, says about the same partitions must
    /// not be applied any more.
    pub(crate) fn supersede(&mut self, write: WriteId, group: &str, keys: &[OffsetChange]) {
        let mut covered: Option<BTreeSet<(&str, i32)>> = None;
        for (_, earlier) in self.open.range_mut(..write) {
            let Purpose::Offsets { changes, .. } = &mut earlier.purpose else {
                continue;
            };
            if &*earlier.group != group {
                continue;
            }
            let covered = covered.get_or_insert_with(|| {
                keys.iter()
                    .map(|change| (&*change.topic, change.partition))
                    .collect()
            });
            changes.retain(|change| !covered.contains(&(&*change.topic, change.partition)));
        }
    }

    /// The deletion of `group` is durable: earlier writes only have their senders answered.
    pub(crate) fn orphan(&mut self, write: WriteId, group: &str) {
        for (_, earlier) in self.open.range_mut(..write) {
            earlier.orphaned |= &*earlier.group == group;
        }
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
                    Purpose::Offsets { changes, .. } => changes.as_slice(),
                    _ => &[],
                };
                changes
                    .iter()
                    .map(|change| (&change.topic, change.partition))
            })
    }
}
