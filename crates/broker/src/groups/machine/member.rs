//! A member of a group.

use bytes::Bytes;

use crate::groups::machine::api::{Join, Token};
use crate::groups::machine::codec::StoredMember;

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// The join that waits for the generation to begin.
    pub(crate) joining: Option<Token>,
    /// The sync that waits for the leader's assignment.
    pub(crate) syncing: Option<Token>,
    /// Removed when nothing is heard until then, Unix ms.
    pub(crate) deadline_ms: i64,
    pub(crate) knows_skip_assignment: bool,
}

impl Member {
    pub(crate) fn new(id: String, join: &Join, now_ms: i64) -> Self {
        Self {
            id,
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            deadline_ms: now_ms + i64::from(join.session_timeout_ms),
            knows_skip_assignment: join.knows_skip_assignment,
        }
    }

    pub(crate) fn stored(stored: StoredMember, protocol: &str, now_ms: i64) -> Self {
        Self {
            id: stored.member_id,
            instance_id: stored.instance_id,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout_ms: stored.session_timeout_ms,
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), stored.subscription)],
            assignment: stored.assignment,
            joining: None,
            syncing: None,
            deadline_ms: now_ms + i64::from(stored.session_timeout_ms),
            knows_skip_assignment: false,
        }
    }

    /// Takes over what a rejoin says.
    pub(crate) fn update(&mut self, join: &Join) {
        self.protocols.clone_from(&join.protocols);
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.knows_skip_assignment = join.knows_skip_assignment;
    }

    /// A sign of life.
    pub(crate) fn alive(&mut self, now_ms: i64) {
        self.deadline_ms = now_ms + i64::from(self.session_timeout_ms);
    }

    /// Whether the member is waiting for us, so that silence says nothing.
    pub(crate) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}
