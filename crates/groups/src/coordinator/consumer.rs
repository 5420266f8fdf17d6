//! ConsumerGroupHeartbeat (KIP-848): checks that need no group, then the group's step.

use std::sync::Arc;

use crate::api::{Effect, Reply, Token};
use crate::consumer::{
    ConsumerHeartbeat, JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH, check_regex,
};
use crate::error::GroupError;
use crate::modern::{Assignor, Refused};

use super::GroupCoordinator;
use super::checks::{MAX_INSTANCE_ID_BYTES, MAX_NAME_BYTES};

fn invalid(message: &str) -> Refused {
    Refused::new(GroupError::InvalidRequest, message)
}

impl GroupCoordinator {
    /// ConsumerGroupHeartbeat. Answered with [`Reply::ConsumerHeartbeat`], once what it tells is
    /// stored.
    pub fn consumer_heartbeat(
        &mut self,
        now_ms: i64,
        request: &ConsumerHeartbeat,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let group_id: Arc<str> = request.group_id.as_str().into();
        let admitted = self
            .check_beat(request)
            .and_then(|()| self.group_for_beat(&group_id, request.member_epoch, now_ms));
        if let Err(refused) = admitted {
            let reply = Reply::ConsumerHeartbeat(Err(refused));
            self.step(now_ms, out).reply(token, reply);
            return;
        }
        self.with_group(&group_id, now_ms, out, |group, step| {
            group.beat(request, token, step);
        });
    }

    fn group_for_beat(
        &mut self,
        group_id: &Arc<str>,
        member_epoch: i32,
        now_ms: i64,
    ) -> Result<(), Refused> {
        if self.groups.contains_key(group_id) {
            return Ok(());
        }
        if member_epoch != JOIN_EPOCH {
            // Kafka's words, which differ.
            let message = match member_epoch {
                LEAVE_EPOCH | STATIC_LEAVE_EPOCH => format!("Group {group_id} not found."),
                _ => format!("Consumer group {group_id} not found."),
            };
            return Err(Refused::new(GroupError::GroupIdNotFound, message));
        }
        Ok(self.create_group(group_id, now_ms)?)
    }

    fn check_beat(&self, request: &ConsumerHeartbeat) -> Result<(), Refused> {
        self.check_request(&request.group_id)?;
        if request.group_id.trim().is_empty() {
            return Err(invalid("GroupId can't be empty."));
        }
        self.check_beat_shape(request)?;
        self.check_beat_bounds(request)?;
        if let Some(regex) = request.topic_regex.as_deref()
            && request.member_epoch == JOIN_EPOCH
        {
            // Before there is a group, or a classic one has changed its kind.
            check_regex(regex)?;
        }
        let assignors = &self.config.consumer.assignors;
        if let Some(name) = &request.server_assignor
            && !Assignor::find(name).is_some_and(|assignor| assignors.contains(&assignor))
        {
            let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
            return Err(Refused::new(
                GroupError::UnsupportedAssignor,
                format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {}.",
                    names.join(", ")
                ),
            ));
        }
        Ok(())
    }

    /// What each kind of heartbeat must bring, in Kafka's words.
    fn check_beat_shape(&self, request: &ConsumerHeartbeat) -> Result<(), Refused> {
        let epoch = request.member_epoch;
        let no_id = request.member_id.is_empty();
        if no_id && (request.requires_member_id || epoch != JOIN_EPOCH) {
            return Err(invalid("MemberId can't be empty."));
        }
        if request.instance_id.as_deref() == Some("") {
            return Err(invalid("InstanceId can't be empty."));
        }
        if request.rack_id.as_deref() == Some("") {
            return Err(invalid("RackId can't be empty."));
        }
        match epoch {
            JOIN_EPOCH => {
                if request.rebalance_timeout_ms == -1 {
                    return Err(invalid(
                        "RebalanceTimeoutMs must be provided in first request.",
                    ));
                }
                if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                    return Err(invalid("TopicPartitions must be empty when (re-)joining."));
                }
                if request.topic_names.is_none() && request.topic_regex.is_none() {
                    return Err(invalid(
                        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                    ));
                }
            }
            STATIC_LEAVE_EPOCH if request.instance_id.is_none() => {
                return Err(invalid("InstanceId can't be null."));
            }
            LEAVE_EPOCH | STATIC_LEAVE_EPOCH | 1.. => {}
            _ => return Err(invalid("MemberEpoch is invalid.")),
        }
        Ok(())
    }

    /// Our own bounds: what passes can be written as records.
    fn check_beat_bounds(&self, request: &ConsumerHeartbeat) -> Result<(), Refused> {
        let config = &self.config.consumer;
        let instance_fits = request
            .instance_id
            .as_deref()
            .is_none_or(|id| id.len() <= MAX_INSTANCE_ID_BYTES);
        let texts = [
            Some(&request.member_id),
            Some(&request.client_id),
            Some(&request.client_host),
            request.rack_id.as_ref(),
        ];
        let names = request.topic_names.iter().flatten();
        let texts_fit = texts
            .into_iter()
            .flatten()
            .chain(names)
            .all(|text| text.len() <= MAX_NAME_BYTES);
        let count = request.topic_names.as_ref().map_or(0, Vec::len);
        let bytes: usize = request.topic_names.iter().flatten().map(String::len).sum();
        let regex_bytes = request.topic_regex.as_ref().map_or(0, String::len);
        if regex_bytes > config.max_regex_bytes {
            return Err(Refused::new(
                GroupError::InvalidRegularExpression,
                format!(
                    "SubscribedTopicRegex is longer than {} bytes.",
                    config.max_regex_bytes
                ),
            ));
        }
        if !instance_fits
            || !texts_fit
            || count > config.max_subscribed_topics
            || bytes > self.config.max_member_bytes
        {
            return Err(invalid("A field is longer than the server allows."));
        }
        Ok(())
    }
}
