//! The group as records of the log, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::Protocol;
use crate::codec::{
    ClassicMemberValue, CurrentValue, GroupEpochValue, HeldPartitions, MemberValue, RegexValue,
    kind,
};
use crate::error::CodecError;
use crate::modern::{Assignor, Held, Resolved, StateKey};

use super::member::{ClassicPart, Duty, Member, MemberState};
use super::{ConsumerGroup, MemberId};

impl ConsumerGroup {
    /// The value of a record as the state is now; `None`: there is nothing to say.
    pub(crate) fn value_of(&self, key: &StateKey) -> Option<Bytes> {
        let part = &*key.part;
        match key.kind {
            kind::CONSUMER_GROUP => {
                let value = GroupEpochValue {
                    epoch: self.target.group_epoch,
                    metadata_hash: self.target.metadata_hash,
                };
                Some(value.encode())
            }
            kind::CONSUMER_TARGET => Some(self.target.epoch_record()),
            kind::CONSUMER_MEMBER => Some(encoded(self.members.get(part)?.value().encode())),
            kind::CONSUMER_CURRENT => Some(encoded(self.members.get(part)?.current().encode())),
            kind::CONSUMER_TARGET_MEMBER => Some(encoded(self.target.member_record(part)?)),
            kind::CONSUMER_REGEX => {
                let resolved = self.subscriptions.resolved.get(part)?;
                let value = RegexValue {
                    topics: resolved.topics().map(str::to_owned).collect(),
                    version: i64::try_from(resolved.version).unwrap_or(i64::MAX),
                    timestamp_ms: resolved.timestamp_ms,
                };
                Some(encoded(value.encode()))
            }
            _ => None,
        }
    }

    /// The keys of all records that the group has.
    pub(crate) fn keys(&self) -> Vec<StateKey> {
        let mut keys = vec![
            StateKey::of_group(kind::CONSUMER_GROUP),
            StateKey::of_group(kind::CONSUMER_TARGET),
        ];
        if self.has_old_partitions {
            keys.push(StateKey::of_group(kind::CONSUMER_PARTITIONS));
        }
        for member_id in self.members.keys() {
            keys.push(StateKey::of_part(kind::CONSUMER_MEMBER, member_id));
            keys.push(StateKey::of_part(kind::CONSUMER_CURRENT, member_id));
        }
        let targets = self.target.members();
        keys.extend(targets.map(|(id, _)| StateKey::of_part(kind::CONSUMER_TARGET_MEMBER, id)));
        let regexes = self.subscriptions.resolved.keys();
        keys.extend(regexes.map(|regex| StateKey::of_part(kind::CONSUMER_REGEX, regex)));
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
            (kind::CONSUMER_GROUP, Some(value)) => {
                let value = GroupEpochValue::decode(value)?;
                self.target.group_epoch = value.epoch;
                self.target.metadata_hash = value.metadata_hash;
            }
            (kind::CONSUMER_GROUP, None) => self.target.group_epoch = 0,
            (kind::CONSUMER_TARGET, value) => self.target.restore_epoch(value)?,
            (kind::CONSUMER_MEMBER, Some(value)) => {
                let value = MemberValue::decode(value)?;
                // What was read can be written again.
                value.encode()?;
                let names = self.restored_names(value.topic_names.clone());
                self.restored_member(part).restore_metadata(value, names);
            }
            (kind::CONSUMER_MEMBER, None) => drop(self.members.remove(part)),
            (kind::CONSUMER_CURRENT, Some(value)) => {
                let value = CurrentValue::decode(value)?;
                self.restored_member(part).restore_current(&value);
            }
            (kind::CONSUMER_CURRENT, None) => {
                if let Some(member) = self.members.get_mut(part) {
                    (member.assigned, member.revoking) = (Held::new(), Held::new());
                    (member.epoch, member.previous_epoch) = (0, 0);
                    member.state = MemberState::Stable;
                }
            }
            (kind::CONSUMER_TARGET_MEMBER, value) => self.target.restore_member(part, value)?,
            (kind::CONSUMER_REGEX, Some(value)) => {
                let value = RegexValue::decode(value)?;
                // The version counted the metadata of another life of the server.
                let resolved = Resolved::new(value.topics, u64::MAX, value.timestamp_ms);
                self.subscriptions.resolved.insert(part.into(), resolved);
            }
            (kind::CONSUMER_REGEX, None) => drop(self.subscriptions.resolved.remove(part)),
            (kind::CONSUMER_PARTITIONS, value) => self.has_old_partitions = value.is_some(),
            _ => {}
        }
        Ok(())
    }

    fn restored_member(&mut self, id: &str) -> &mut Member {
        if !self.members.contains_key(id) {
            let id: MemberId = id.into();
            self.members.insert(id.clone(), Member::new(id));
        }
        self.members
            .get_mut(id)
            .expect("inserted above when it was missing")
    }

    fn restored_names(&self, mut names: Vec<String>) -> Arc<[Arc<str>]> {
        names.sort_unstable();
        names.dedup();
        let last = self.members.values().next_back();
        let same = last.filter(|member| {
            let theirs = member.topic_names.iter().map(|name| &**name);
            theirs.eq(names.iter().map(String::as_str))
        });
        match same {
            Some(member) => member.topic_names.clone(),
            None => names.into_iter().map(Arc::from).collect(),
        }
    }

    /// Nothing was said, or all of it was taken back.
    pub(crate) fn is_bare(&self) -> bool {
        self.is_blank() && self.target.members().next().is_none() && !self.has_old_partitions
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
            self.restore_books(id);
            if let Some(member) = self.members.get_mut(id)
                && member.state == MemberState::Unrevoked
            {
                member.set_duty(Duty::Revoke, now_ms);
            }
            self.refresh_session(id, now_ms);
        }
        let wanted: BTreeMap<Arc<str>, Resolved> = std::mem::take(&mut self.subscriptions.resolved)
            .into_iter()
            .filter(|(regex, _)| self.subscriptions.wants_regex(regex))
            .collect();
        self.subscriptions.resolved = wanted;
    }

    fn restore_books(&mut self, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        self.subscriptions
            .add(&member.topic_names, member.topic_regex.as_ref());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        // In a sound log nobody else holds these. In any other nobody may get them twice.
        let holders = &mut self.holders;
        let mut take = |held: &Held| -> Held {
            let entries = held
                .entries()
                .filter(|(part, _)| holders.entry(*part).or_insert_with(|| id.clone()) == id);
            entries.collect()
        };
        member.assigned = take(&member.assigned);
        member.revoking = take(&member.revoking);
        member.assigned = {
            let revoking = &member.revoking;
            let entries = member.assigned.entries();
            entries
                .filter(|(part, _)| !revoking.contains(part))
                .collect()
        };
    }
}

fn encoded(value: Result<Bytes, CodecError>) -> Bytes {
    value.expect("every text and blob was bounded when it came in")
}

impl Member {
    fn value(&self) -> MemberValue {
        let owned = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        MemberValue {
            instance_id: owned(&self.instance_id),
            rack_id: owned(&self.rack_id),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            topic_names: self.topic_names.iter().map(ToString::to_string).collect(),
            // Kafka writes an empty text for none.
            topic_regex: Some(owned(&self.topic_regex).unwrap_or_default()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.map(|assignor| assignor.name().to_owned()),
            classic: self.classic.as_ref().map(|classic| ClassicMemberValue {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic
                    .protocols
                    .iter()
                    .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
                    .collect(),
            }),
        }
    }

    fn restore_metadata(&mut self, value: MemberValue, names: Arc<[Arc<str>]>) {
        self.instance_id = value.instance_id.map(Arc::from);
        self.rack_id = value.rack_id.map(Arc::from);
        self.client_id = value.client_id.into();
        self.client_host = value.client_host.into();
        self.topic_names = names;
        self.topic_regex = value
            .topic_regex
            .filter(|regex| !regex.is_empty())
            .map(Arc::from);
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = value.server_assignor.as_deref().and_then(Assignor::find);
        self.classic = value.classic.map(|classic| {
            let protocols = classic.protocols.into_iter();
            Box::new(ClassicPart {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: protocols
                    .map(|(name, metadata)| Protocol { name, metadata })
                    .collect(),
            })
        });
    }

    fn current(&self) -> CurrentValue {
        CurrentValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state.number(),
            assigned: stored(&self.assigned),
            revoking: stored(&self.revoking),
        }
    }

    fn restore_current(&mut self, value: &CurrentValue) {
        self.epoch = value.epoch;
        self.previous_epoch = value.previous_epoch;
        // A state that a later version invented: the next heartbeat makes the member whole.
        self.state = MemberState::from_number(value.state).unwrap_or(MemberState::Unreleased);
        let held = |topics: &[HeldPartitions]| -> Held {
            let entries = topics.iter().flat_map(|topic| {
                let epochs = topic.epochs.as_deref().unwrap_or_default();
                let parts = topic.partitions.iter().enumerate();
                parts.map(|(at, &partition)| {
                    let epoch = epochs.get(at).copied().unwrap_or(value.epoch);
                    ((topic.topic_id, partition), epoch)
                })
            });
            entries.collect()
        };
        self.assigned = held(&value.assigned);
        self.revoking = held(&value.revoking);
    }
}

fn stored(held: &Held) -> Vec<HeldPartitions> {
    let mut topics: Vec<HeldPartitions> = Vec::new();
    for ((topic_id, partition), epoch) in held.entries() {
        if topics.last().is_none_or(|last| last.topic_id != topic_id) {
            topics.push(HeldPartitions {
                topic_id,
                partitions: Vec::new(),
                epochs: Some(Vec::new()),
            });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(partition);
            topic.epochs.get_or_insert_default().push(epoch);
        }
    }
    topics
}
