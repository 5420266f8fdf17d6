//! The group as a record of the log, and back.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::{GroupRecord, Protocol, WriteId};
use crate::codec::{GroupMetadataValue, RecordKey, StoredMember};
use crate::error::GroupError;
use crate::step::{Purpose, Step};

use super::member::{Member, MemberUpdate};
use super::{Classic, GroupState, MemberId};

impl Classic {
    /// Writes the group's record, with the members' present assignments or with these.
    pub(super) fn write_record(
        &mut self,
        assignments: Option<&BTreeMap<MemberId, Bytes>>,
        purpose: Purpose,
        step: &mut Step<'_>,
    ) -> WriteId {
        let records = vec![self.record(assignments)];
        let write = step.persist(&self.id, records, purpose);
        self.latest_write = Some(write);
        write
    }

    pub(super) fn record(&self, assignments: Option<&BTreeMap<MemberId, Bytes>>) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| StoredMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.now.client_id.clone(),
            client_host: member.now.client_host.clone(),
            rebalance_timeout_ms: member.now.rebalance_timeout_ms,
            session_timeout_ms: member.now.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp_ms: self.state_since_ms.unwrap_or(-1),
            members: members.collect(),
        };
        let value = value
            .encode(GroupMetadataValue::PREFERRED_VERSION)
            .expect("every name and blob was bounded when it came in");
        GroupRecord {
            key: self.key(),
            value: Some(value),
        }
    }

    fn key(&self) -> Bytes {
        let key = RecordKey::Group { group: &self.id };
        key.encode()
            .expect("the group id was bounded when it came in")
    }

    /// Replaces everything by what the log says; `None` is a tombstone.
    pub(crate) fn restore(&mut self, value: Option<GroupMetadataValue>) {
        *self = Self::new(self.id.clone(), None);
        let Some(value) = value else { return };
        for stored in value.members {
            self.restore_member(stored, value.protocol.as_deref(), &value.protocol_type);
        }
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        self.protocol = value.protocol;
        let named = value
            .leader
            .and_then(|leader| self.members.get_key_value(leader.as_str()));
        self.leader = named
            .map(|(id, _)| id.clone())
            .or_else(|| self.leader.take());
        self.state_since_ms = Some(value.state_timestamp_ms).filter(|&at| at != -1);
        if !self.members.is_empty() {
            self.state = GroupState::Stable;
        }
        self.read_subscriptions();
    }

    fn restore_member(
        &mut self,
        stored: StoredMember,
        protocol: Option<&str>,
        protocol_type: &str,
    ) {
        let update = MemberUpdate {
            client_id: stored.client_id,
            client_host: stored.client_host,
            rebalance_timeout_ms: match stored.rebalance_timeout_ms {
                -1 => stored.session_timeout_ms,
                timeout => timeout,
            },
            session_timeout_ms: stored.session_timeout_ms,
            protocols: vec![Protocol {
                name: protocol.unwrap_or_default().to_owned(),
                metadata: stored.subscription,
            }],
        };
        let instance_id = stored.group_instance_id.map(Into::into);
        let mut member = Member::new(stored.member_id.into(), instance_id, update);
        member.assignment = stored.assignment;
        // A record that names a member twice must not count its protocols twice.
        if !self.members.contains_key(&member.id) {
            self.add_member(member, protocol_type);
        }
    }

    /// All records are read: sessions begin now, and a group above the limit rebalances.
    pub(crate) fn finish_loading(&mut self, step: &mut Step<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in ids {
            self.refresh_session(&member_id, step.now_ms);
        }
        if self.members.len() > step.config.max_group_size {
            self.prepare_rebalance("the group exceeds the maximum size".to_owned(), step);
        }
    }

    /// This broker no longer answers for the group: whoever waits looks for the one that does.
    pub(crate) fn resign(&mut self, step: &mut Step<'_>) {
        self.fail_all_waiting(GroupError::NotCoordinator, step);
    }
}
