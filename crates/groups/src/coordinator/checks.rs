//! Checks of requests that need no group: phase, names and sizes. What passes here can be written
//! as a record.

use dlog_coordination::Phase;

use crate::api::{JoinGroup, OffsetCommit};
use crate::error::GroupError;

use super::GroupCoordinator;

/// A stored text has an `i16` length; member ids add a dash and a UUID to a client's name.
const MAX_GROUP_ID_BYTES: usize = i16::MAX as usize;
pub(super) const MAX_NAME_BYTES: usize = 32_000;
/// As Kafka: like a topic's name.
pub(super) const MAX_INSTANCE_ID_BYTES: usize = 249;

impl GroupCoordinator {
    pub(super) fn check_active(&self) -> Result<(), GroupError> {
        match self.phase {
            Phase::Loading => Err(GroupError::CoordinatorLoadInProgress),
            Phase::Active => Ok(()),
            Phase::Resigned => Err(GroupError::NotCoordinator),
        }
    }

    /// For what only simple consumers and admins do the group id may be empty.
    pub(super) fn check_request(&self, group_id: &str) -> Result<(), GroupError> {
        if group_id.len() > MAX_GROUP_ID_BYTES {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_active()
    }

    pub(super) fn check_member_request(&self, group_id: &str) -> Result<(), GroupError> {
        if group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_request(group_id)
    }

    pub(super) fn check_join(&self, request: &mut JoinGroup) -> Result<(), GroupError> {
        self.check_member_request(&request.group_id)?;
        let config = &self.config;
        let sessions = config.min_session_timeout_ms..=config.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let instance_id = request.group_instance_id.as_deref();
        let instance_fits =
            instance_id.is_none_or(|id| (1..=MAX_INSTANCE_ID_BYTES).contains(&id.len()));
        let names = [
            &request.client_id,
            &request.client_host,
            &request.protocol_type,
        ];
        let names_fit = names
            .into_iter()
            .chain(request.protocols.iter().map(|protocol| &protocol.name))
            .all(|name| name.len() <= MAX_NAME_BYTES);
        let metadata_bytes: usize = request.protocols.iter().map(|p| p.metadata.len()).sum();
        if !instance_fits
            || !names_fit
            || metadata_bytes > config.max_member_bytes
            || request.protocols.len() > config.max_protocols
        {
            return Err(GroupError::InvalidRequest);
        }
        // A protocol named twice would be counted twice; the first one is what the member prefers.
        let mut seen = std::collections::BTreeSet::new();
        request
            .protocols
            .retain(|protocol| seen.insert(protocol.name.clone()));
        Ok(())
    }

    pub(super) fn check_offset_commit(&self, request: &OffsetCommit) -> Result<(), GroupError> {
        self.check_request(&request.group_id)?;
        if request
            .topics
            .iter()
            .any(|topic| topic.topic.len() > MAX_NAME_BYTES)
        {
            return Err(GroupError::InvalidRequest);
        }
        Ok(())
    }

    /// The free text of a commit, so that it can also be stored with an `i16` length.
    pub(super) fn metadata_fits(&self, metadata: &str) -> bool {
        metadata.len() <= self.config.offset_metadata_max_bytes.min(MAX_NAME_BYTES)
    }
}
