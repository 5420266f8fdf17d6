//! SyncGroup: the leader's assignment is written to the log, then handed to whoever asks.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::api::{Reply, SyncGroup, Synced, Token, WriteId};
use crate::error::{GroupError, PersistError, ToGroupError};
use crate::step::{Purpose, Step};

use super::{Classic, GroupState, MemberId};

impl Classic {
    /// A member asks for its assignment. `request` has passed the checks that need no group.
    pub(crate) fn sync(&mut self, request: SyncGroup, token: Token, step: &mut Step<'_>) {
        match self.check_sync(&request, step) {
            Err(error) => step.reply(token, Reply::Sync(Err(error))),
            Ok(()) if self.state == GroupState::Stable => {
                self.pending_sync.remove(request.member_id.as_str());
                self.refresh_session(&request.member_id, step.now_ms);
                let synced = self.synced(&request.member_id);
                step.reply(token, Reply::Sync(Ok(synced)));
            }
            Ok(()) => self.wait_for_sync(request, token, step),
        }
    }

    fn check_sync(&self, request: &SyncGroup, step: &Step<'_>) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |asked: &Option<String>, ours: &Option<String>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let limit = step.config.max_member_bytes;
        if request
            .assignments
            .iter()
            .any(|(_, assignment)| assignment.len() > limit)
        {
            return Err(GroupError::InvalidRequest);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::Empty => Err(GroupError::UnknownMemberId),
            _ => Ok(()),
        }
    }

    fn wait_for_sync(&mut self, request: SyncGroup, token: Token, step: &mut Step<'_>) {
        self.pending_sync.remove(request.member_id.as_str());
        let Some(member) = self.members.get_mut(request.member_id.as_str()) else {
            return;
        };
        if let Some(given_up) = member.sync.replace(token) {
            // Its client has sent another: this one only must not stay open.
            step.reply(given_up, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        // One assignment per generation: a leader that repeats its sync waits for the first.
        if !self.is_leader(&request.member_id) || self.assignment_write.is_some() {
            return;
        }
        let mut assignments: BTreeMap<MemberId, Bytes> = self
            .members
            .keys()
            .map(|id| (id.clone(), Bytes::new()))
            .collect();
        for (member_id, assignment) in request.assignments {
            if let Some(slot) = assignments.get_mut(member_id.as_str()) {
                *slot = assignment;
            }
        }
        let stored = assignments.clone();
        let purpose = Purpose::Assign {
            generation: self.generation,
            assignments,
        };
        self.assignment_write = Some(self.write_record(Some(&stored), purpose, step));
    }

    /// The leader's assignments are in the log, or could not be written. When another rebalance
    /// has begun meanwhile they no longer matter.
    pub(crate) fn finish_assignment(
        &mut self,
        write: WriteId,
        generation: i32,
        assignments: BTreeMap<MemberId, Bytes>,
        result: Result<(), PersistError>,
        step: &mut Step<'_>,
    ) {
        if self.assignment_write != Some(write) || self.generation != generation {
            return;
        }
        self.assignment_write = None;
        if let Err(error) = result {
            self.fail_syncs(error.for_group(), step);
            self.prepare_rebalance("the assignment could not be stored".to_owned(), step);
            return;
        }
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = assignment;
            }
        }
        self.enter(GroupState::Stable, step.now_ms);
        let waiting: Vec<(MemberId, Token)> = self
            .members
            .values_mut()
            .filter_map(|member| Some((member.id.clone(), member.sync.take()?)))
            .collect();
        for (member_id, token) in waiting {
            self.refresh_session(&member_id, step.now_ms);
            let synced = self.synced(&member_id);
            step.reply(token, Reply::Sync(Ok(synced)));
        }
    }

    fn synced(&self, member_id: &str) -> Synced {
        let member = self.members.get(member_id);
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: member
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }
}
