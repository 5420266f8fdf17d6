//! ShareGroupHeartbeat and what operators ask of share groups (KIP-932): checks that need no group,
//! then the group's step.

use std::sync::Arc;

use uuid::Uuid;

use crate::api::{Effect, Reply, Token};
use crate::consumer::{JOIN_EPOCH, LEAVE_EPOCH};
use crate::error::GroupError;
use crate::group::{Group, GroupState};
use crate::modern::{Part, Refused};
use crate::share::{ShareDescription, ShareGroup, ShareHeartbeat, ShareStateChange};

use super::GroupCoordinator;
use super::checks::MAX_NAME_BYTES;

fn invalid(message: &str) -> Refused {
    Refused::new(GroupError::InvalidRequest, message)
}

impl GroupCoordinator {
    /// ShareGroupHeartbeat. Answered with [`Reply::ShareHeartbeat`], once what it tells is stored.
    pub fn share_heartbeat(
        &mut self,
        now_ms: i64,
        request: ShareHeartbeat,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let group_id: Arc<str> = request.group_id.as_str().into();
        let admitted = self.check_share_beat(&request).and_then(|()| {
            let may_create = request.member_epoch == JOIN_EPOCH;
            self.share_group_for(&group_id, may_create, now_ms)
        });
        if let Err(mut refused) = admitted {
            if refused.error == GroupError::GroupIdNotFound && request.member_epoch == LEAVE_EPOCH {
                refused.message = Some(format!("Group {group_id} not found."));
            }
            let reply = Reply::ShareHeartbeat(Err(refused));
            self.step(now_ms, out).reply(token, reply);
            return;
        }
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.share_beat(request, token, step);
        });
    }

    /// The state of share-partitions of a group is set up or deleted, or about to be. Answered with
    /// [`Reply::ShareState`], once that is stored.
    pub fn share_state(
        &mut self,
        now_ms: i64,
        group_id: &str,
        change: &ShareStateChange,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let group_id: Arc<str> = group_id.into();
        let admitted = self.check_member_request(&group_id).and_then(|()| {
            let may_create = matches!(change, ShareStateChange::Initializing(_));
            let found = self.share_group_for(&group_id, may_create, now_ms);
            found.map_err(|refused| refused.error)
        });
        if let Err(error) = admitted {
            self.step(now_ms, out)
                .reply(token, Reply::ShareState(Err(error)));
            return;
        }
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.share_state(change, token, step);
        });
    }

    fn share_group_for(
        &mut self,
        group_id: &Arc<str>,
        may_create: bool,
        now_ms: i64,
    ) -> Result<(), Refused> {
        if self.groups.contains_key(group_id) {
            return Ok(());
        }
        if !may_create {
            return Err(Refused::new(
                GroupError::GroupIdNotFound,
                format!("Share group {group_id} not found."),
            ));
        }
        Ok(self.create_group(group_id, now_ms)?)
    }

    /// What each heartbeat must bring, in Kafka's words, and our own bounds.
    fn check_share_beat(&self, request: &ShareHeartbeat) -> Result<(), Refused> {
        self.check_request(&request.group_id)?;
        if request.member_id.trim().is_empty() {
            return Err(invalid("MemberId can't be empty."));
        }
        if request.group_id.trim().is_empty() {
            return Err(invalid("GroupId can't be empty."));
        }
        if request.rack_id.as_deref() == Some("") {
            return Err(invalid("RackId can't be empty."));
        }
        let names = request.topic_names.as_deref();
        match request.member_epoch {
            JOIN_EPOCH if names.is_none_or(<[String]>::is_empty) => {
                return Err(invalid(
                    "SubscribedTopicNames must be set in first request.",
                ));
            }
            JOIN_EPOCH | LEAVE_EPOCH | 1.. => {}
            _ => return Err(invalid("MemberEpoch is invalid.")),
        }
        let texts = [
            Some(&request.member_id),
            Some(&request.client_id),
            Some(&request.client_host),
            request.rack_id.as_ref(),
        ];
        let names = names.unwrap_or_default();
        let mut texts = texts.into_iter().flatten().chain(names);
        let bytes: usize = names.iter().map(String::len).sum();
        let is_too_much = names.len() > self.config.consumer.max_subscribed_topics
            || bytes > self.config.max_member_bytes;
        if is_too_much || !texts.all(|text| text.len() <= MAX_NAME_BYTES) {
            return Err(invalid("A field is longer than the server allows."));
        }
        Ok(())
    }

    fn share_group(&self, group_id: &str) -> Result<&ShareGroup, GroupError> {
        self.check_member_request(group_id)?;
        let group = self.groups.get(group_id);
        let group = group.filter(|group| group.state() != GroupState::Dead);
        group
            .and_then(Group::share)
            .ok_or(GroupError::GroupIdNotFound)
    }

    /// ShareGroupDescribe for one group. A group that is not there, or is of another kind, is
    /// [`GroupError::GroupIdNotFound`].
    pub fn describe_share_group(&self, group_id: &str) -> Result<ShareDescription, GroupError> {
        let group = self.share_group(group_id)?;
        Ok(group.description(&*self.topics))
    }

    /// The share-partitions of a group whose state is set up.
    pub fn share_initialized(&self, group_id: &str) -> Result<Vec<Part>, GroupError> {
        let group = self.share_group(group_id)?;
        Ok(group.initialized(&*self.topics))
    }

    /// The topics of which a group may have stored state.
    pub fn share_state_topics(&self, group_id: &str) -> Result<Vec<Uuid>, GroupError> {
        Ok(self.share_group(group_id)?.state_topics())
    }

    /// The partitions of a topic, which has `count` of them, of which a group may have stored state;
    /// `None` when it has none.
    pub fn share_state_parts(
        &self,
        group_id: &str,
        topic_id: Uuid,
        count: u32,
    ) -> Result<Option<Vec<Part>>, GroupError> {
        Ok(self.share_group(group_id)?.state_parts(topic_id, count))
    }

    /// Whether there is a share group of this name.
    pub fn is_share_group(&self, group_id: &str) -> bool {
        self.share_group(group_id).is_ok()
    }
}
