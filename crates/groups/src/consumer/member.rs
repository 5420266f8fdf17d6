//! A member of a consumer group.

use std::sync::Arc;

use crate::api::Protocol;
use crate::modern::{Assignor, Held};

pub(crate) type MemberId = Arc<str>;

/// For a member whose record does not say (consumers' own default).
const DEFAULT_REBALANCE_TIMEOUT_MS: i64 = 300_000;

/// How far a member is on its way to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has all that it shall have.
    Stable,
    /// It has to give something back first; its epoch stays until it has.
    Unrevoked,
    /// It is in the target's epoch, but others still have some of its partitions.
    Unreleased,
}

impl MemberState {
    /// Kafka's number for it in records.
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
        }
    }

    pub(crate) fn from_number(number: i8) -> Option<Self> {
        [Self::Stable, Self::Unrevoked, Self::Unreleased]
            .into_iter()
            .find(|state| state.number() == number)
    }
}

/// Something that a member has to do in time, or it is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Give partitions back.
    Revoke,
    /// Join again (classic members).
    Join,
    /// Ask for its assignment (classic members).
    Sync,
}

/// What a member of the classic protocol brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicPart {
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) rack_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) rebalance_timeout_ms: i32,
    /// Sorted, each once. Members with the same topics share them.
    pub(crate) topic_names: Arc<[Arc<str>]>,
    pub(crate) topic_regex: Option<Arc<str>>,
    pub(crate) assignor: Option<Assignor>,
    pub(crate) classic: Option<Box<ClassicPart>>,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    /// What it may read.
    pub(crate) assigned: Held,
    /// What it has to give back.
    pub(crate) revoking: Held,
    /// When it is given up for its silence, Unix ms.
    pub(crate) session_deadline_ms: i64,
    /// What it has to do, and by when, Unix ms.
    pub(crate) duty: Option<(Duty, i64)>,
}

impl Member {
    pub(crate) fn new(id: MemberId) -> Self {
        Self {
            id,
            instance_id: None,
            rack_id: None,
            client_id: Arc::default(),
            client_host: Arc::default(),
            rebalance_timeout_ms: -1,
            topic_names: Arc::default(),
            topic_regex: None,
            assignor: None,
            classic: None,
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Held::new(),
            revoking: Held::new(),
            session_deadline_ms: i64::MAX,
            duty: None,
        }
    }

    /// The next time at which something is due, Unix ms.
    pub(crate) fn deadline_ms(&self) -> i64 {
        let duty_ms = self.duty.map_or(i64::MAX, |(_, at_ms)| at_ms);
        self.session_deadline_ms.min(duty_ms)
    }

    pub(crate) fn set_duty(&mut self, duty: Duty, now_ms: i64) {
        let within_ms = match self.rebalance_timeout_ms {
            ..0 => DEFAULT_REBALANCE_TIMEOUT_MS,
            timeout => i64::from(timeout),
        };
        self.duty = Some((duty, now_ms + within_ms));
    }

    pub(crate) fn clear_duty(&mut self, duty: Duty) {
        self.duty = self.duty.filter(|(due, _)| *due != duty);
    }
}
