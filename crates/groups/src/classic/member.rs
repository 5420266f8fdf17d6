//! A member of a group: who it is, what it offers, and which of its requests are waiting.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::{JoinGroup, Protocol, Token};

/// A member id; shared by everything that names the member.
pub(crate) type MemberId = Arc<str>;

/// What a join brings, and what a failed replacement of a static member puts back.
#[derive(Debug, Clone)]
pub(crate) struct MemberUpdate {
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

impl MemberUpdate {
    pub(crate) fn from_join(request: &mut JoinGroup) -> Self {
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            ..0 => request.session_timeout_ms,
            timeout => timeout,
        };
        Self {
            client_id: std::mem::take(&mut request.client_id),
            client_host: std::mem::take(&mut request.client_host),
            rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: std::mem::take(&mut request.protocols),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) now: MemberUpdate,
    pub(crate) assignment: Bytes,
    /// The join that waits for the rebalance to complete.
    pub(crate) join: Option<Token>,
    /// The sync that waits for the leader's assignment.
    pub(crate) sync: Option<Token>,
    /// The heartbeat that waits for the next rebalance.
    pub(crate) heartbeat: Option<Token>,
    /// Did not give up its connection while its heartbeat waited.
    pub(crate) is_patient: bool,
    /// Has not been told its id yet, so that it cannot send heartbeats.
    pub(crate) is_new: bool,
    /// When the member is given up, Unix ms, unless it `is_waiting`.
    pub(crate) session_deadline_ms: i64,
}

impl Member {
    pub(crate) fn new(id: MemberId, instance_id: Option<Arc<str>>, now: MemberUpdate) -> Self {
        Self {
            id,
            instance_id,
            now,
            assignment: Bytes::new(),
            join: None,
            sync: None,
            heartbeat: None,
            is_patient: true,
            is_new: false,
            session_deadline_ms: i64::MAX,
        }
    }

    /// Waiting for an answer from us: silence is then not the member's fault. A new member's wait
    /// is bounded all the same, because its client may retry under yet another id.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self
            .now
            .protocols
            .iter()
            .find(|offered| offered.name == protocol);
        offered
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }
}
