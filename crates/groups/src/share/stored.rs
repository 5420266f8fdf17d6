//! The group as records of the log, and back.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{
    ShareCurrentValue, ShareEpochValue, ShareMemberValue, ShareStatePartitionsValue, kind,
};
use crate::error::CodecError;
use crate::modern::{Assignment, StateKey};

use super::{Member, MemberId, ShareGroup};

impl ShareGroup {
    /// The value of a record as the state is now; `None`: there is nothing to say.
    pub(crate) fn value_of(&self, key: &StateKey) -> Option<Bytes> {
        let part = &*key.part;
        match key.kind {
            kind::SHARE_GROUP => {
                let value = ShareEpochValue {
                    epoch: self.target.group_epoch,
                    metadata_hash: self.target.metadata_hash,
                };
                Some(value.encode())
            }
            kind::SHARE_TARGET => Some(self.target.epoch_record()),
            kind::SHARE_MEMBER => Some(encoded(self.members.get(part)?.value().encode())),
            kind::SHARE_CURRENT => Some(encoded(self.members.get(part)?.current().encode())),
            kind::SHARE_TARGET_MEMBER => Some(encoded(self.target.member_record(part)?)),
            kind::SHARE_STATE_PARTITIONS if self.books.is_stored => {
                Some(encoded(self.books.value().encode()))
            }
            _ => None,
        }
    }

    /// The keys of all records that the group has.
    pub(crate) fn keys(&self) -> Vec<StateKey> {
        let mut keys = vec![
            StateKey::of_group(kind::SHARE_GROUP),
            StateKey::of_group(kind::SHARE_TARGET),
            StateKey::of_group(kind::SHARE_STATE_PARTITIONS),
        ];
        for member_id in self.members.keys() {
            keys.push(StateKey::of_part(kind::SHARE_MEMBER, member_id));
            keys.push(StateKey::of_part(kind::SHARE_CURRENT, member_id));
        }
        let targets = self.target.members();
        keys.extend(targets.map(|(id, _)| StateKey::of_part(kind::SHARE_TARGET_MEMBER, id)));
        keys
    }

    /// Takes in a record of the log. The books of members are made when all are read:
    /// [`Self::finish_loading`].
    pub(crate) fn restore(
        &mut self,
        kind: i16,
        part: &str,
        value: Option<&[u8]>,
    ) -> Result<(), CodecError> {
        match (kind, value) {
            (kind::SHARE_GROUP, Some(value)) => {
                let value = ShareEpochValue::decode(value)?;
                self.target.group_epoch = value.epoch;
                self.target.metadata_hash = value.metadata_hash;
            }
            (kind::SHARE_GROUP, None) => self.target.group_epoch = 0,
            (kind::SHARE_TARGET, value) => self.target.restore_epoch(value)?,
            (kind::SHARE_MEMBER, Some(value)) => {
                let value = ShareMemberValue::decode(value)?;
                // What was read can be written again.
                value.encode()?;
                let names = self.shared_names(value.topic_names.clone());
                self.restored_member(part).restore_metadata(value, names);
            }
            (kind::SHARE_MEMBER, None) => drop(self.members.remove(part)),
            (kind::SHARE_CURRENT, Some(value)) => {
                let value = ShareCurrentValue::decode(value)?;
                let topics = value.assigned.iter().map(|(id, parts)| (*id, &**parts));
                let assigned = Assignment::from_topics(topics);
                let member = self.restored_member(part);
                (member.epoch, member.previous_epoch) = (value.epoch, value.previous_epoch);
                member.assigned = assigned;
            }
            (kind::SHARE_CURRENT, None) => {
                if let Some(member) = self.members.get_mut(part) {
                    (member.epoch, member.previous_epoch) = (0, 0);
                    member.assigned = Assignment::new();
                }
            }
            (kind::SHARE_TARGET_MEMBER, value) => self.target.restore_member(part, value)?,
            (kind::SHARE_STATE_PARTITIONS, value) => {
                let value = value.map(ShareStatePartitionsValue::decode).transpose()?;
                self.books.restore(value);
            }
            _ => {}
        }
        Ok(())
    }

    fn restored_member(&mut self, id: &str) -> &mut Member {
        let id: MemberId = id.into();
        let new = || Member::new(id.clone());
        self.members.entry(id.clone()).or_insert_with(new)
    }

    /// Nothing was said, or all of it was taken back.
    pub(crate) fn is_bare(&self) -> bool {
        self.is_blank() && self.target.members().next().is_none() && !self.books.is_stored
    }

    /// All records are read: the books are made, and every session begins now.
    pub(crate) fn finish_loading(&mut self, now_ms: i64) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        let gone: Vec<MemberId> = self
            .target
            .members()
            .filter(|(id, _)| !self.members.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.target.remove(&id);
        }
        for id in &ids {
            if let Some(member) = self.members.get(id) {
                self.subscriptions.add(&member.topic_names, None);
            }
            self.refresh_session(id, now_ms);
        }
    }
}

fn encoded(value: Result<Bytes, CodecError>) -> Bytes {
    value.expect("every text was bounded when it came in")
}

impl Member {
    fn value(&self) -> ShareMemberValue {
        ShareMemberValue {
            rack_id: self.rack_id.as_deref().map(str::to_owned),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            topic_names: self.topic_names.iter().map(ToString::to_string).collect(),
        }
    }

    fn restore_metadata(&mut self, value: ShareMemberValue, names: Arc<[Arc<str>]>) {
        self.rack_id = value.rack_id.map(Arc::from);
        self.client_id = value.client_id.into();
        self.client_host = value.client_host.into();
        self.topic_names = names;
    }

    fn current(&self) -> ShareCurrentValue {
        ShareCurrentValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: 0,
            assigned: self.assigned.by_topic(),
        }
    }
}
