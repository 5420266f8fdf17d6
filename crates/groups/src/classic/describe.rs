//! The group as operators see it.

use bytes::Bytes;

use crate::api::{GroupDescription, MemberDescription};

use super::{Classic, GroupState};

impl Classic {
    pub(crate) fn description(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self
            .protocol
            .as_deref()
            .filter(|_| stable)
            .unwrap_or_default();
        let members = self.members.values().map(|member| MemberDescription {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.now.client_id.clone(),
            client_host: member.now.client_host.clone(),
            metadata: if stable {
                member.metadata(protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        GroupDescription {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            generation_id: self.generation,
            leader: self.leader.clone(),
            rebalance_reason: self.rebalance_reason.clone(),
            members: members.collect(),
        }
    }
}
