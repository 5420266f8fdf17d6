//! Reading the coordinator's state back from the log, and giving it up.

use dlog_coordination::Phase;

use crate::api::{Effect, Reply, WriteId};
use crate::codec::{GroupMetadataValue, OffsetCommitValue, RecordKey, kind};
use crate::error::{CodecError, GroupError, PersistError};
use crate::group::Group;
use crate::offsets::CommittedOffset;
use crate::step::{OffsetsThen, Purpose};

use super::GroupCoordinator;

/// What [`GroupCoordinator::apply_record`] made of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is part of the state now.
    Yes,
    /// Its type belongs to another kind of group; it was left alone.
    OtherKind(i16),
}

/// Reads a group that can be written again: version 4 allows longer names than the version that
/// is written here.
fn decode_group(bytes: &[u8]) -> Result<GroupMetadataValue, CodecError> {
    let value = GroupMetadataValue::decode(bytes)?;
    if !bytes.starts_with(&GroupMetadataValue::PREFERRED_VERSION.to_be_bytes()) {
        value.encode(GroupMetadataValue::PREFERRED_VERSION)?;
    }
    Ok(value)
}

impl GroupCoordinator {
    /// Applies one record of the log, in the order of the log. To be called before
    /// [`finish_loading`](Self::finish_loading). After an error the record counts as not there,
    /// and loading can go on.
    pub fn apply_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Applied, CodecError> {
        self.check_loading()?;
        match RecordKey::decode(key)? {
            RecordKey::Offset {
                group,
                topic,
                partition,
            } => {
                let offset = value.map(OffsetCommitValue::decode).transpose()?;
                match offset.as_ref().map(CommittedOffset::new) {
                    Some(offset) => {
                        let here = self.writes.behind_all();
                        self.restore_offset(group, topic, partition, here, offset);
                    }
                    None => self.forget_offset(group, topic, partition),
                }
            }
            RecordKey::Group { group: group_id } => {
                let value = value.map(decode_group).transpose()?;
                self.restored_group(group_id).restore_classic(value);
                self.drop_if_blank(group_id);
            }
            RecordKey::OfGroup { kind, group } => {
                return self.restore_state(group, kind, "", value);
            }
            RecordKey::OfPart { kind, group, part } => {
                return self.restore_state(group, kind, part, value);
            }
            RecordKey::Other { kind } => return Ok(Applied::OtherKind(kind)),
        }
        Ok(Applied::Yes)
    }

    pub(super) fn check_loading(&self) -> Result<(), CodecError> {
        if self.phase == Phase::Loading {
            Ok(())
        } else {
            Err(CodecError::NotLoading)
        }
    }

    /// A record of a group with member epochs.
    fn restore_state(
        &mut self,
        group_id: &str,
        kind: i16,
        part: &str,
        value: Option<&[u8]>,
    ) -> Result<Applied, CodecError> {
        let (consumer, share) = (self.config.consumer.defaults, self.config.share.defaults);
        let group = self.restored_group(group_id);
        let restored = if kind::is_of_share(kind) {
            group.restore_share(kind, part, value, share)
        } else {
            group.restore_consumer(kind, part, value, consumer)
        };
        self.drop_if_blank(group_id);
        restored.map(|()| Applied::Yes)
    }

    pub(super) fn restored_group(&mut self, group_id: &str) -> &mut Group {
        if !self.groups.contains_key(group_id) {
            let group = Group::new(group_id.into(), None);
            self.groups.insert(group.id.clone(), group);
        }
        self.groups
            .get_mut(group_id)
            .expect("inserted above when it was missing")
    }

    pub(super) fn restore_offset(
        &mut self,
        group_id: &str,
        topic: &str,
        partition: i32,
        write: WriteId,
        offset: CommittedOffset,
    ) {
        let mut names = std::mem::take(&mut self.names);
        let group = self.restored_group(group_id);
        group.offsets.set(&mut names, topic, partition, offset);
        // What a transaction committed earlier in the log.
        group.transactional.supersede(topic, partition, write);
        self.names = names;
    }

    fn forget_offset(&mut self, group_id: &str, topic: &str, partition: i32) {
        let here = self.writes.behind_all();
        if let Some(group) = self.groups.get_mut(group_id) {
            group.offsets.remove(topic, partition);
            group.transactional.forget(topic, partition, here);
            self.drop_if_blank(group_id);
        }
    }

    pub(super) fn drop_if_blank(&mut self, group_id: &str) {
        if self.groups.get(group_id).is_some_and(Group::is_blank) {
            self.groups.remove(group_id);
        }
    }

    /// All records are applied: members' sessions begin, requests are served.
    pub fn finish_loading(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.phase != Phase::Loading {
            return;
        }
        self.phase = Phase::Active;
        self.sweep
            .schedule(now_ms + self.config.offsets_retention_check_interval_ms.max(1));
        let with_members = self.groups.values().filter(|group| group.needs_finishing());
        let ids: Vec<_> = with_members.map(|group| group.id.clone()).collect();
        for group_id in ids {
            self.with_group(&group_id, now_ms, out, |group, step| {
                group.finish_loading(step);
            });
        }
    }

    /// This broker no longer leads the partition, or shuts down: everything open is answered with
    /// [`GroupError::NotCoordinator`] and the state is dropped. To lead again, begin with a new
    /// coordinator.
    pub fn resign(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        self.phase = Phase::Resigned;
        self.deadlines.clear();
        self.in_transaction.clear();
        let writes = self.writes.take_all();
        let mut groups = std::mem::take(&mut self.groups);
        let mut step = self.step(now_ms, out);
        for group in groups.values_mut() {
            group.resign(&mut step);
        }
        let error = GroupError::NotCoordinator;
        for write in writes.into_values() {
            match write.purpose {
                Purpose::Offsets {
                    then: OffsetsThen::Commit { token, mut results },
                    ..
                }
                | Purpose::TransactionalOffsets {
                    then: OffsetsThen::Commit { token, mut results },
                    ..
                } => {
                    let partitions = results.iter_mut().flat_map(|topic| &mut topic.partitions);
                    partitions.for_each(|(_, outcome)| *outcome = Some(error));
                    step.reply(token, Reply::OffsetCommit(results));
                }
                Purpose::Offsets {
                    then: OffsetsThen::Delete { token, .. },
                    ..
                } => {
                    step.reply(token, Reply::OffsetDelete(Err(error)));
                }
                Purpose::EndTransaction { token, .. } => {
                    step.reply(token, Reply::EndTransaction(Err(PersistError::NotLeader)));
                }
                Purpose::Delete { token: Some(token) } => {
                    step.reply(token, Reply::DeleteGroup(Err(error)));
                }
                _ => {}
            }
        }
    }
}
