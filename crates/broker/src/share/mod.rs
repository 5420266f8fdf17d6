//! Share groups in the server (KIP-932): sessions, the share-partitions that members fetch from, and
//! what lasts of them.
//!
//! [`ShareGroups`] finds a [`SharePart`], which has the pure core behind a lock of its own; `look`
//! reads for it; `store` keeps what lasts. *A session that is lost releases what its member holds. A
//! share-partition is served by one [`SharePart`] at a time: one that is retired hands out nothing and
//! stores nothing any more.*

mod look;
mod part;
pub mod setup;
pub mod store;

use std::collections::HashMap;
use std::sync::Arc;

use dlog_share::{
    AcknowledgeError, FetchStep, ReleasedSession, SessionError, SessionKey, ShareKey, ShareLimits,
    ShareSessions, StateError,
};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::partitions::Partition;
use crate::state::BrokerState;
pub use look::{Look, Take, Taken};
pub(crate) use part::Acknowledging;
pub use part::SharePart;

/// Most sessions when no setting says.
const MAX_SESSIONS: usize = 2000;

/// A topic's id and a partition of it.
pub type TopicPartition = (Uuid, i32);

/// Why something is refused, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub error: ResponseError,
    /// Words for it.
    pub message: Option<&'static str>,
}

impl From<ResponseError> for Refusal {
    fn from(error: ResponseError) -> Self {
        Self {
            error,
            message: None,
        }
    }
}

impl From<AcknowledgeError> for Refusal {
    fn from(error: AcknowledgeError) -> Self {
        let (error, message) = match error {
            AcknowledgeError::InvalidRequest(why) => (ResponseError::InvalidRequest, why),
            AcknowledgeError::InvalidRecordState(why) => (ResponseError::InvalidRecordState, why),
        };
        Self {
            error,
            message: Some(message),
        }
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        Self::from(match error {
            SessionError::NotFound => ResponseError::ShareSessionNotFound,
            SessionError::InvalidEpoch => ResponseError::InvalidShareSessionEpoch,
            SessionError::LimitReached => ResponseError::ShareSessionLimitReached,
            SessionError::InvalidRequest => ResponseError::InvalidRequest,
        })
    }
}

/// What members are told when the state of a share-partition cannot be read or written.
impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::from(match error {
            StateError::CoordinatorLoadInProgress
            | StateError::NotCoordinator
            | StateError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
            StateError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
            StateError::FencedLeaderEpoch | StateError::FencedStateEpoch => {
                ResponseError::NotLeaderOrFollower
            }
            StateError::InvalidRequest(_) | StateError::Unknown => {
                ResponseError::UnknownServerError
            }
        })
    }
}

/// The share-partitions of one group.
type Parts = HashMap<TopicPartition, Arc<SharePart>>;

/// The share groups that fetch from this node.
pub struct ShareGroups {
    sessions: Mutex<ShareSessions>,
    groups: Mutex<HashMap<Arc<str>, Parts>>,
}

/// The settings of a group.
pub fn limits(state: &BrokerState, group: &str) -> ShareLimits {
    let image = state.image();
    let config = state.group_config(&image, group);
    ShareLimits {
        max_deliveries: u16::try_from(config.number("share.delivery.count.limit")).unwrap_or(5),
        lock_ms: i64::from(config.number("share.record.lock.duration.ms")),
        max_in_flight: i64::from(config.number("share.partition.max.record.locks")),
        may_renew: config.flag("share.renew.acknowledge.enable"),
    }
}

/// Reads what lasts, if anything does, and forgets what is of topics that were deleted meanwhile.
pub async fn warm_up(state: &Arc<BrokerState>) {
    state.share_states.warm_up(state).await;
    for shard in state.share_states.all_loaded() {
        let is_gone = |id| state.partitions.topic_by_id(id).is_none();
        shard.step(state, |states, _, out| states.topics_deleted(is_gone, out));
    }
}

impl ShareGroups {
    /// Nobody fetches yet. `max_sessions`: `group.share.max.share.sessions`.
    pub fn new(max_sessions: Option<usize>) -> Self {
        Self {
            sessions: Mutex::new(ShareSessions::new(max_sessions.unwrap_or(MAX_SESSIONS))),
            groups: Mutex::default(),
        }
    }

    /// A fetch begins, continues or ends a session. `change`: partitions to add and to forget.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn session_fetch(
        &self,
        key: &SessionKey,
        epoch: i32,
        change: (&[TopicPartition], &[TopicPartition]),
        acknowledges: bool,
        connection: u64,
    ) -> Result<FetchStep, SessionError> {
        let mut sessions = self.sessions.lock();
        sessions.fetch(key, epoch, change, acknowledges, connection)
    }

    /// An acknowledgement continues or ends a session; see [`ShareSessions::acknowledge`].
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn session_acknowledge(&self, key: &SessionKey, epoch: i32) -> Result<bool, SessionError> {
        self.sessions.lock().acknowledge(key, epoch)
    }

    /// See [`ShareSessions::told`].
    pub fn told(&self, key: &SessionKey, told: impl Iterator<Item = (TopicPartition, bool)>) {
        let mut sessions = self.sessions.lock();
        told.for_each(|(of, is_error)| sessions.told(key, of, is_error));
    }

    /// A session ends: what the member holds is released.
    pub fn end_session(&self, state: &Arc<BrokerState>, key: &SessionKey) {
        self.end_and_release(state, |sessions| sessions.end(key));
    }

    /// A connection is closed, and with it its session.
    pub fn disconnected(&self, state: &Arc<BrokerState>, connection: u64) {
        self.end_and_release(state, |sessions| sessions.disconnected(connection));
    }

    /// The session counts until what its member holds is released: were the group without members
    /// before that, whoever has stored an earlier acknowledgement would retire the share-partition, and
    /// the deliveries of this member would not be written down.
    fn end_and_release(
        &self,
        state: &Arc<BrokerState>,
        end: impl FnOnce(&mut ShareSessions) -> Option<ReleasedSession>,
    ) {
        let mut sessions = self.sessions.lock();
        let Some(ended) = end(&mut sessions) else {
            return;
        };
        self.release_member(state, &ended.key.group, &ended.key.member);
        drop(sessions);
        if ended.group_is_empty {
            self.retire_unused(&ended.key.group);
        }
    }

    /// Whatever a member holds can be acquired by others.
    pub fn release_member(&self, state: &Arc<BrokerState>, group: &str, member: &str) {
        let parts: Vec<_> = {
            let groups = self.groups.lock();
            groups
                .get(group)
                .into_iter()
                .flat_map(|p| p.values().cloned())
                .collect()
        };
        for part in parts {
            part.release(state, member);
        }
    }

    /// The share-partition, if a member fetches from it.
    pub fn find(&self, group: &str, of: TopicPartition) -> Option<Arc<SharePart>> {
        self.groups.lock().get(group)?.get(&of).cloned()
    }

    /// The share-partition, with its state read.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub async fn part(
        &self,
        state: &Arc<BrokerState>,
        group: &Arc<str>,
        partition: &Arc<Partition>,
    ) -> Result<Arc<SharePart>, Refusal> {
        let of = (partition.topic_id, partition.index);
        let part = {
            let mut groups = self.groups.lock();
            let parts = groups.entry(group.clone()).or_default();
            let new = || {
                let key = ShareKey {
                    group: group.clone(),
                    topic_id: of.0,
                    partition: of.1,
                };
                SharePart::new(key, partition)
            };
            parts.entry(of).or_insert_with(new).clone()
        };
        match part.load(state).await {
            Ok(()) => Ok(part),
            Err(refusal) => {
                self.retire(&part);
                Err(refusal)
            }
        }
    }

    /// A share-partition is not served by this [`SharePart`] any more.
    pub fn retire(&self, part: &Arc<SharePart>) {
        let (group, of) = part.names();
        let mut groups = self.groups.lock();
        if let Some(parts) = groups.get_mut(group) {
            if parts.get(&of).is_some_and(|known| Arc::ptr_eq(known, part)) {
                parts.remove(&of);
            }
            if parts.is_empty() {
                groups.remove(group);
            }
        }
        // Under the lock: whoever looks it up next gets one that reads what this one has stored.
        part.retire();
    }

    /// Frees what is in memory for a group that nobody fetches for.
    pub fn retire_unused(&self, group: &str) {
        let sessions = self.sessions.lock();
        if sessions.has_members(group) {
            return;
        }
        let mut groups = self.groups.lock();
        if let Some(parts) = groups.get_mut(group) {
            parts.retain(|_, part| !part.retire_when_idle());
            if parts.is_empty() {
                groups.remove(group);
            }
        }
    }

    /// The state of a group is begun anew.
    pub fn retire_group(&self, group: &str) {
        let mut groups = self.groups.lock();
        let parts = groups.remove(group);
        parts
            .iter()
            .flat_map(HashMap::values)
            .for_each(|part| part.retire());
    }

    /// A topic is deleted.
    pub fn forget_topic(&self, state: &Arc<BrokerState>, topic: Uuid) {
        let mut groups = self.groups.lock();
        for parts in groups.values_mut() {
            parts.retain(|(id, _), part| {
                let stays = *id != topic;
                if !stays {
                    part.retire();
                }
                stays
            });
        }
        groups.retain(|_, parts| !parts.is_empty());
        drop(groups);
        for shard in state.share_states.all_loaded() {
            shard.step(state, |states, _, out| {
                states.topics_deleted(|id| id == topic, out);
            });
        }
    }
}
